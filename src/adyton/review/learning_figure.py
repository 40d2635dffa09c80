"""A figure of days on which rates were learnt: what not knowing them cost, and how far the estimates were off."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from adyton.kernel.errors import UnavailableError
from adyton.review.learning import LearningDay


def draw_learning(days: Sequence[LearningDay]) -> Figure:
    """Regret of each day and in all, and the error of the estimates."""
    number = np.array([day.day + 1 for day in days])
    regret = np.array([day.regret for day in days])
    figure = Figure(figsize=(10.4, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.bar(number, regret, color="0.75", label="regret of the day")
    left.axhline(0, color="0.4", linewidth=0.8)
    left.plot(number, np.cumsum(regret) / number, color="tab:red", label="mean regret so far")
    left.set_ylabel("loss A2 above that with known rates")
    right.plot(number, [day.accuracy_error for day in days], marker="o", label="accuracy, by moderator and market")
    right.plot(number, [day.risk_error for day in days], marker="s", label="risk, by ad")
    right.set_ylabel("mean absolute error of the estimates")
    right.set_ylim(bottom=0)
    for panel in (left, right):
        panel.set_xlabel("day")
        panel.legend(fontsize="small")
        panel.xaxis.get_major_locator().set_params(integer=True)
    return figure


def write_learning_figure(days: Sequence[LearningDay], path: Path) -> None:
    """The figure as PNG. Raises UnavailableError when it cannot be written."""
    try:
        draw_learning(days).savefig(path, format="png")
    except OSError as error:
        raise UnavailableError("the figure cannot be written", where=str(path)) from error
