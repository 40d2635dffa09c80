"""The report's figures as SVG text. Same numbers, same bytes: no dates or random ids go into them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED, ACCENT, SECOND, GRID = "#1c2430", "#6b7685", "#2257a8", "#c2662d", "#e3e7ec"
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "text.color": INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "adyton",
}


@dataclass(frozen=True)
class CurvePoint:
    """One egress size: bits of the payload and the AUC of the model trained on it."""

    bits: int
    auc: float


def review_losses(losses: Sequence[tuple[str, float]], bound: float) -> str:
    """Horizontal bars, one for each allocator, with the proven bound as a line."""
    figure, axes = _axes(6.2, 0.55 * len(losses) + 1.0)
    names = [name for name, _ in losses]
    values = [value for _, value in losses]
    best = min(values)
    bars = axes.barh(names, values, color=[ACCENT if value == best else GRID for value in values], height=0.6)
    axes.bar_label(bars, labels=[f"{value:,.0f}" for value in values], padding=4, color=INK)
    axes.axvline(bound, color=SECOND, linewidth=1.5)
    axes.annotate(
        f"no allocator can go below {bound:,.0f}",
        (bound, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(4, 4),
        textcoords="offset points",
        color=SECOND,
    )
    axes.set_xlabel("loss A2 of the day (revenue units)")
    axes.set_xlim(0, max(values) * 1.15)
    axes.invert_yaxis()
    return _svg(figure)


def lift(points: Sequence[tuple[str, float]]) -> str:
    """AUC of each model as a dot on one scale."""
    figure, axes = _axes(6.2, 0.45 * len(points) + 0.9)
    for row, (_, value) in enumerate(points):
        axes.plot([value], [row], "o", color=ACCENT if row == len(points) - 1 else MUTED, markersize=8)
        axes.annotate(f"{value:.4f}", (value, row), xytext=(9, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(points)), [name for name, _ in points])
    low, high = min(value for _, value in points), max(value for _, value in points)
    margin = max(0.01, (high - low) * 0.35)
    axes.set_xlim(low - margin, high + margin)
    axes.set_ylim(len(points) - 0.4, -0.6)
    axes.grid(axis="x", color=GRID)
    axes.set_xlabel("AUC on the test days")
    return _svg(figure)


def marginals(columns: Sequence[tuple[str, Sequence[str], Sequence[float], Sequence[float]]]) -> str:
    """Real and synthetic shares side by side: (column, categories, real shares, synthetic shares) for each panel."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(6.8, 2.4), layout="constrained")
        panels = figure.subplots(1, len(columns), squeeze=False)[0]
        for axes, (name, categories, real, synthetic) in zip(panels, columns, strict=True):
            positions = list(range(len(categories)))
            axes.bar([p - 0.2 for p in positions], real, width=0.4, color=MUTED, label="real")
            axes.bar([p + 0.2 for p in positions], synthetic, width=0.4, color=ACCENT, label="synthetic")
            axes.set_xticks(positions, categories, rotation=60, fontsize=7)
            axes.set_title(name, fontsize=9)
            axes.set_yticks([])
            axes.spines["left"].set_visible(False)
        panels[0].legend(frameon=False, fontsize=7)
        return _svg(figure)


def latencies(milliseconds: Sequence[float]) -> str:
    """How long auctions took, from the device's encrypted request to the opened reply."""
    figure, axes = _axes(6.2, 2.2)
    axes.hist(milliseconds, bins=40, color=ACCENT)
    axes.set_xlabel("milliseconds from encrypted request to opened reply")
    axes.set_ylabel("auctions")
    return _svg(figure)


def egress_curve(points: Sequence[CurvePoint], chosen_bits: int, reference_auc: float) -> str:
    """Payload size against model quality, the clean room's own model as the ceiling."""
    figure, axes = _axes(6.2, 2.6)
    axes.plot([p.bits for p in points], [p.auc for p in points], "-o", color=ACCENT, markersize=5)
    for point in points:
        if point.bits == chosen_bits:
            axes.plot([point.bits], [point.auc], "o", color=SECOND, markersize=9)
            axes.annotate("chosen", (point.bits, point.auc), xytext=(6, -12), textcoords="offset points", color=SECOND)
    axes.axhline(reference_auc, color=MUTED, linestyle="--", linewidth=1)
    axes.annotate(
        "model of the clean room",
        (0.0, reference_auc),
        xycoords=("axes fraction", "data"),
        xytext=(4, 4),
        textcoords="offset points",
        color=MUTED,
    )
    axes.grid(axis="y", color=GRID)
    axes.set_xlabel("egress payload (bits)")
    axes.set_ylabel("AUC")
    return _svg(figure)


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots()


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(
            buffer, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )
    text = buffer.getvalue()
    return text[text.index("<svg") :]
