"""The report as a page of its own: figures, the numbers, and how to read them. No scripts, nothing loaded."""

from __future__ import annotations

import io
from html import escape

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adyton.learning.synth.plugins import stated_guarantee
from adyton.learning.synth.report import SynthesisReport, lines

_SYNTHETIC, _REAL, _ALARM = "#0b6e99", "#b0b7bd", "#b3261e"
_MOST_COLUMNS = 24


def html(report: SynthesisReport) -> str:
    """The page."""
    body = "\n".join(
        f"<tr><th>{escape(name)}</th><td>{escape(value)}</td><td>{escape(how)}</td></tr>"
        for name, value, how in lines(report)
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Synthetic table</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1b1f23}}
table{{border-collapse:collapse}}tr{{border-bottom:1px solid #e3e6e8}}
th{{text-align:left;font-weight:600}}td,th{{padding:.3rem 1rem .3rem 0;vertical-align:top}}
td:nth-child(2){{min-width:16rem}}td:nth-child(3){{color:#59636b}}
figure{{margin:1.5rem 0}}figcaption{{color:#59636b;max-width:46rem}}svg{{max-width:100%;height:auto}}
.says{{border-left:4px solid {_SYNTHETIC};padding:.5rem 1rem;background:#f3f7f9}}</style></head>
<body><h1>Synthetic table</h1>
<p class="says"><strong>Guarantee:</strong> {escape(stated_guarantee(report.guarantee))}</p>
<p>Three questions: is the table like the real one, is it of use, does it give people away? Attacks are evidence and
prove nothing: only the privacy loss that the table was made under bounds what anybody can learn from it.</p>
<h2>Is it like the real table?</h2>
<figure>{_svg(_columns(report))}<figcaption>Likeness of each column, 1 is alike. The grey mark is what fresh real
rows of other users reach: a bar that ends there cannot do better. The worst columns come first.</figcaption></figure>
{_useful(report)}
<h2>Does it give people away?</h2>
<figure>{_svg(_attacks(report))}<figcaption>What attackers gain on people in the data over people who are not, with 95 %
intervals. At zero the attack learns nothing about members in particular. An interval that lies right of zero is a leak.
</figcaption></figure>
<h2>All figures</h2>
<table>{body}</table>
</body></html>
"""


def _useful(report: SynthesisReport) -> str:
    if report.utility is None:
        return ""
    return f"""<h2>Is it of use?</h2>
<figure>{_svg(_models(report))}<figcaption>Models trained on synthetic and on real rows, tested on the same later real
rows. The ratio of the best two is {report.utility.auc_ratio:.3f}.</figcaption></figure>"""


def _columns(report: SynthesisReport) -> Figure:
    ceiling = dict(report.ceiling.by_column)
    worst = sorted(report.privacy.fidelity.by_column, key=lambda column: column[1])[:_MOST_COLUMNS][::-1]
    figure, axes = _axes(8, 0.8 + 0.28 * len(worst))
    places = list(range(len(worst)))
    scores = [score for _, score in worst]
    axes.barh(places, scores, height=0.65, color=_SYNTHETIC, label="synthetic")
    axes.plot(
        [ceiling[name] for name, _ in worst], places, "|", color="#4a5258", markersize=14, label="fresh real rows"
    )
    for place, score in zip(places, scores, strict=True):
        axes.text(min(scores) * 0.9 + 0.002, place, f"{score:.3f}", va="center", color="white", fontsize=9)
    axes.set_yticks(places, [name for name, _ in worst])
    axes.set_xlim(min(scores) * 0.9, 1.0)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    return figure


def _models(report: SynthesisReport) -> Figure:
    assert report.utility is not None, "asked for only where it is known"
    figure, axes = _axes(8, 2.2)
    names = list(report.utility.real)
    places = np.arange(len(names))
    for shift, (scores, color, label) in enumerate(
        ((report.utility.synthetic, _SYNTHETIC, "synthetic"), (report.utility.real, _REAL, "real"))
    ):
        values = [scores[name].auc for name in names]
        bars = axes.barh(
            places - 0.18 + 0.36 * shift, values, height=0.34, color=color, label=f"trained on {label} rows"
        )
        axes.bar_label(bars, [f" {value:.4f}" for value in values], fontsize=9)
    axes.set_yticks(places, names)
    axes.set_xlim(0.5, 1.0)
    axes.set_xlabel("AUC on later real rows (0.5 is a coin)")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    return figure


def _attacks(report: SynthesisReport) -> Figure:
    rows = [("membership (this table)", report.privacy.membership, 0.5)]
    if report.shadow is not None:
        rows.insert(0, ("membership (shadow models)", report.shadow.auc, 0.5))
    rows += [(name, found.difference, 0.0) for name, found in report.advantages.items()]
    rows = rows[::-1]
    figure, axes = _axes(8, 0.9 + 0.36 * len(rows))
    for place, (_, found, nothing) in enumerate(rows):
        value, low, high = (x - nothing for x in (found.value, found.low, found.high))
        color = _ALARM if low > 0 else _SYNTHETIC
        axes.plot([low, high], [place, place], color=color, linewidth=3, solid_capstyle="butt")
        axes.plot([value], [place], "o", color=color)
    axes.axvline(0, color="#4a5258", linewidth=1)
    axes.set_yticks(range(len(rows)), [name for name, *_ in rows])
    reach = max(0.05, *(abs(x - nothing) for _, found, nothing in rows for x in (found.low, found.high)))
    axes.set_xlim(-1.1 * reach, 1.1 * reach)
    axes.set_xlabel("gain of the attack on members (AUC - 0.5, or difference of success rates)")
    return figure


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    return figure, axes


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    drawn = buffer.getvalue()
    return drawn[drawn.index("<svg") :]
