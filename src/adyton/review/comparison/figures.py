"""Figures of a comparison: loss by allocator with bound, queue and utilisation over the day, loss by volume."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adyton.kernel.errors import UnavailableError
from adyton.review.comparison.plan import PROFILE_MINUTES, Row
from adyton.review.comparison.summary import Line

_COLUMNS = 3


def draw_figures(rows: Sequence[Row], lines: Sequence[Line]) -> dict[str, Figure]:
    """Figures by name; loss by volume only when there are two volumes."""
    figures = {
        "loss_by_allocator": _loss_by_allocator(lines),
        "queue_over_the_day": _over_the_day(rows, "queue", "ads waiting or under review"),
        "utilisation_over_the_day": _over_the_day(rows, "busy", "share of moderators on shift who work"),
    }
    if len({line.volume for line in lines}) > 1:
        figures["loss_by_volume"] = _loss_by_volume(lines)
    return figures


def write_figures(rows: Sequence[Row], lines: Sequence[Line], folder: Path) -> tuple[Path, ...]:
    """The files written, as PNG. Raises UnavailableError when the folder cannot be written."""
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in draw_figures(rows, lines).items():
            path = folder / f"{name}.png"
            figure.savefig(path)
            written.append(path)
    except OSError as error:
        raise UnavailableError("a figure cannot be written", where=str(folder)) from error
    return tuple(written)


def _scenarios(items: Sequence[Row] | Sequence[Line]) -> list[tuple[str, float]]:
    return list(dict.fromkeys((item.pattern, item.volume) for item in items))


def _panels(n_panels: int, height: float) -> tuple[Figure, list[Axes]]:
    """Panels in rows of three; a single one is wider, since its legend needs room."""
    n_columns = min(n_panels, _COLUMNS)
    n_rows = -(-n_panels // n_columns)
    figure = Figure(figsize=(5.2 * n_columns if n_panels > 1 else 7.5, height * n_rows), layout="constrained")
    return figure, [figure.add_subplot(n_rows, n_columns, k + 1) for k in range(n_panels)]


def _loss_by_allocator(lines: Sequence[Line]) -> Figure:
    scenarios = _scenarios(lines)
    figure, panels = _panels(len(scenarios), 1.5 + 0.32 * len({line.allocator for line in lines}))
    for panel, scenario in zip(panels, scenarios, strict=True):
        here = [line for line in lines if (line.pattern, line.volume) == scenario][::-1]
        means = [line.measures["a2"].mean for line in here]
        widths = np.nan_to_num([line.measures["a2"].half_width for line in here])
        panel.barh([line.allocator for line in here], means, xerr=widths, color="0.75", ecolor="0.2", capsize=2)
        panel.axvline(here[0].bound_a2, color="tab:red", label="lower bound")
        panel.set_xlim(left=0)
        panel.set_xlabel("loss A2, revenue units, with 95 % interval")
        panel.set_title(f"{scenario[0]}, volume {scenario[1]:g}")
        panel.legend(loc="upper right")
    return figure


def _over_the_day(rows: Sequence[Row], profile: str, label: str) -> Figure:
    scenarios = _scenarios(rows)
    figure, panels = _panels(len(scenarios), 4.0)
    for panel, (pattern, volume) in zip(panels, scenarios, strict=True):
        here = [row for row in rows if (row.pattern, row.volume) == (pattern, volume)]
        for number, name in enumerate(dict.fromkeys(row.allocator for row in here)):
            mean = np.mean([getattr(row, profile) for row in here if row.allocator == name], axis=0)
            hours = np.arange(len(mean)) * PROFILE_MINUTES / 60
            panel.plot(hours, mean, label=name, linestyle=("-", "--", ":")[number // 10 % 3])
        panel.set_xlabel("hour of the day")
        panel.set_ylabel(label)
        panel.set_xticks(range(0, int(hours[-1]) + 2, 4))
        panel.set_ylim(bottom=0)
        panel.set_title(f"{pattern}, volume {volume:g}")
    panels[0].legend(fontsize="x-small")
    return figure


def _loss_by_volume(lines: Sequence[Line]) -> Figure:
    patterns = list(dict.fromkeys(line.pattern for line in lines))
    figure, panels = _panels(len(patterns), 4.0)
    for panel, pattern in zip(panels, patterns, strict=True):
        here = sorted((line for line in lines if line.pattern == pattern), key=lambda line: line.volume)
        for number, name in enumerate(dict.fromkeys(line.allocator for line in here)):
            own = [line for line in here if line.allocator == name]
            panel.errorbar(
                [line.volume for line in own],
                [line.measures["a2"].mean for line in own],
                yerr=np.nan_to_num([line.measures["a2"].half_width for line in own]),
                label=name,
                capsize=2,
                linestyle=("-", "--", ":")[number // 10 % 3],
            )
        bounds = {line.volume: line.bound_a2 for line in here}
        panel.plot(list(bounds), list(bounds.values()), color="black", linewidth=2, label="lower bound")
        panel.set_xlabel("volume")
        panel.set_xticks(list(bounds))
        panel.set_ylabel("loss A2, revenue units")
        panel.set_ylim(bottom=0)
        panel.set_title(pattern)
    panels[0].legend(fontsize="x-small", loc="upper left")
    return figure
