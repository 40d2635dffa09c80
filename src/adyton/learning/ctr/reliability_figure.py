"""The reliability figure: predicted against observed click rate with intervals, and where the predictions lie."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from adyton.learning.ctr.reliability import Reliability

_COLOURS, _MARKERS = ("#2257a8", "#c2662d"), ("o", "s")
_STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "adyton", "font.size": 9}


def write_reliability_figure(curves: Mapping[str, Reliability], path: Path) -> None:
    """Draw one or two named curves; the format follows the ending of `path` (SVG, PNG, PDF).   Raises OSError."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(6, 6.4), layout="constrained")
        FigureCanvasAgg(figure)
        axes, rows = figure.subplots(2, 1, height_ratios=(5, 1), sharex=True)
        top = 1.08 * max(max(b.mean_prediction, b.high) for curve in curves.values() for b in curve.bins)
        axes.plot([0, top], [0, top], color="0.6", linewidth=1, linestyle="--", label="predicted = observed")
        for (name, curve), colour, marker in zip(curves.items(), _COLOURS, _MARKERS, strict=False):
            predicted = np.array([b.mean_prediction for b in curve.bins])
            observed = np.array([b.click_rate for b in curve.bins])
            below = observed - np.array([b.low for b in curve.bins])
            above = np.array([b.high for b in curve.bins]) - observed
            axes.errorbar(
                predicted,
                observed,
                yerr=[below, above],
                color=colour,
                marker=marker,
                markersize=4,
                linewidth=1,
                elinewidth=1,
                capsize=2,
                label=f"{name}, ECE {curve.ece:.4f}",
            )
            lows = [b.lowest for b in curve.bins]
            widths = np.array([b.highest - b.lowest for b in curve.bins])
            # Equal predictions make a bin of no width, which no bar can show.
            widths = np.maximum(widths, top / 500)
            share = np.array([b.rows for b in curve.bins]) / sum(b.rows for b in curve.bins)
            rows.bar(lows, share / widths, widths, align="edge", color=colour, alpha=0.45)
        axes.set(xlim=(0, top), ylim=(0, top), ylabel="observed click rate, 95 % interval over users")
        axes.set_title("Reliability by quantile of the prediction")
        axes.legend(loc="upper left", frameon=False)
        rows.set(xlabel="predicted click rate", ylabel="density")
        rows.set_yticks([])
        for part in (axes, rows):
            part.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
