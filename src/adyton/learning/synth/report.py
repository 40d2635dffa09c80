"""The report on a synthetic table: three questions, the numbers that answer them, and how to read them."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import pyarrow as pa

from adyton.learning.schema import TableSchema
from adyton.learning.synth.fidelity import Fidelity, fidelity
from adyton.learning.synth.gate_measures import PrivacyMeasures, measure
from adyton.learning.synth.plugins import stated_guarantee
from adyton.learning.synth.utility import Utility, utility


@dataclass(frozen=True)
class SynthesisReport:
    """privacy holds the fidelity too.   ceiling: fidelity of fresh real rows.   utility: None without later rows.

    guarantee: what the table's file states about its making (`plugins.statement_as_json`), None if it does not.
    """

    privacy: PrivacyMeasures
    ceiling: Fidelity
    utility: Utility | None
    guarantee: object = None

    def as_json(self) -> dict[str, object]:
        return {
            "fidelity": {"synthetic": self.privacy.fidelity.as_json(), "ceiling": self.ceiling.as_json()},
            "utility": None if self.utility is None else self.utility.as_json(),
            "privacy": {"guarantee": self.guarantee, **self.privacy.as_json()},
        }


def report(
    *,
    synthetic: pa.Table,
    train: pa.Table,
    holdout: pa.Table,
    test: pa.Table | None,
    schema: TableSchema,
    seed: int,
    guarantee: object = None,
) -> SynthesisReport:
    """Measure `synthetic`.   train: what it was made from.   holdout: other users.   test: later rows, or None."""
    return SynthesisReport(
        privacy=measure(train, holdout, synthetic, schema, seed=seed),
        ceiling=fidelity(train, holdout, schema),
        utility=None if test is None else utility(train, synthetic, test, schema, seed=seed),
        guarantee=guarantee,
    )


def lines(report: SynthesisReport) -> list[tuple[str, str, str]]:
    """(measure, value, how to read it), in the order of the page."""
    made, privacy = report.privacy.fidelity, report.privacy
    rows = [
        ("guarantee", stated_guarantee(report.guarantee), "as the file states it; attacks below can only refute it"),
        (
            "quality",
            f"{made.quality:.3f} (fresh real rows: {report.ceiling.quality:.3f})",
            "likeness of columns and pairs; the figure of fresh real rows is the most that can be reached",
        ),
        ("shapes / pairs", f"{made.shapes:.3f} / {made.pairs:.3f}", "single columns / pairs of columns"),
    ]
    if report.utility is not None:
        real, fake = report.utility.real, report.utility.synthetic
        rows += [
            (f"AUC, {name}", f"{fake[name].auc:.4f} (real {real[name].auc:.4f})", "on later real rows") for name in real
        ]
        rows.append(("AUC ratio", f"{report.utility.auc_ratio:.3f}", "best model from synthetic over best from real"))
    advantage = {
        "exact matches": privacy.exact_matches,
        f"attribute inference ({privacy.attacked_attribute})": privacy.attribute_inference,
        "singling out": privacy.singling_out,
        "linkability": privacy.linkability,
    }
    rows.append(
        (
            "membership AUC",
            f"{privacy.membership.value:.3f} [{privacy.membership.low:.3f}, {privacy.membership.high:.3f}]",
            "guessing who was in the data; .5 is a coin",
        )
    )
    for name, found in advantage.items():
        rows.append(
            (
                name,
                f"{found.members:.4f} members, {found.holdout:.4f} others" + (" LEAK" if found.is_visible else ""),
                "success of the attack; a leak only if members are hit more often than others",
            )
        )
    rows.append(("closer to train", f"{privacy.closer_to_train.value:.3f}", "smoke test; about .5 without copying"))
    rows.append(
        ("rare values copied", str(sum(privacy.shared_literals.values())), "values of one or two real rows found again")
    )
    rows.append(("real user ids", str(privacy.user_ids_shared), "must be 0"))
    return rows


def text(report: SynthesisReport) -> str:
    """A table for a terminal."""
    return "\n".join(f"{name:<36} {value}" for name, value, _ in lines(report))


def html(report: SynthesisReport) -> str:
    """A page of its own, without scripts."""
    body = "\n".join(
        f"<tr><th>{escape(name)}</th><td>{escape(value)}</td><td>{escape(how)}</td></tr>"
        for name, value, how in lines(report)
    )
    worst = sorted(report.privacy.fidelity.by_column, key=lambda column: column[1])[:10]
    columns = "\n".join(
        f'<tr><th>{escape(name)}</th><td>{score:.3f}</td><td><meter value="{score:.3f}"></meter></td></tr>'
        for name, score in worst
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Synthetic table</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}
th{{text-align:left;font-weight:600}}td,th{{padding:.25rem .75rem .25rem 0;vertical-align:top}}</style></head>
<body><h1>Synthetic table</h1>
<p>Attacks are evidence and prove nothing: only the privacy loss that the table was made under bounds what anybody can
learn from it.</p>
<table>{body}</table>
<h2>Columns least alike</h2><table>{columns}</table>
</body></html>
"""
