"""The report on a synthetic table: three questions, the numbers that answer them, and how to read them."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from adyton.learning.schema import TableSchema
from adyton.learning.synth.fidelity import Fidelity, fidelity
from adyton.learning.synth.gate_measures import PrivacyMeasures, measure
from adyton.learning.synth.lift import LiftKept
from adyton.learning.synth.plugins import stated_guarantee
from adyton.learning.synth.privacy import Advantage, Estimate
from adyton.learning.synth.shadow import ShadowAttack
from adyton.learning.synth.utility import Utility, utility

_LEAK = " LEAK"


@dataclass(frozen=True)
class SynthesisReport:
    """privacy holds the fidelity too.   ceiling: fidelity of fresh real rows.   utility: None without later rows.

    guarantee: what the table's file states about its making (`plugins.statement_as_json`), None if it does not.
    shadow, lift: None where they were not asked for.
    """

    privacy: PrivacyMeasures
    ceiling: Fidelity
    utility: Utility | None
    guarantee: object = None
    shadow: ShadowAttack | None = None
    lift: LiftKept | None = None

    def as_json(self) -> dict[str, object]:
        return {
            "fidelity": {"synthetic": self.privacy.fidelity.as_json(), "ceiling": self.ceiling.as_json()},
            "utility": None if self.utility is None else self.utility.as_json(),
            "lift": None if self.lift is None else self.lift.as_json(),
            "privacy": {
                "guarantee": self.guarantee,
                "shadow_membership": None if self.shadow is None else self.shadow.as_json(),
                **self.privacy.as_json(),
            },
        }

    @property
    def advantages(self) -> dict[str, Advantage]:
        """Attacks that compare members with others, by name."""
        return {
            "exact matches": self.privacy.exact_matches,
            f"attribute inference ({self.privacy.attacked_attribute})": self.privacy.attribute_inference,
            "singling out": self.privacy.singling_out,
            "linkability": self.privacy.linkability,
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
    shadow: ShadowAttack | None = None,
    lift: LiftKept | None = None,
) -> SynthesisReport:
    """Measure `synthetic`.   train: what it was made from.   holdout: other users.   test: later rows, or None."""
    return SynthesisReport(
        privacy=measure(train, holdout, synthetic, schema, seed=seed),
        ceiling=fidelity(train, holdout, schema),
        utility=None if test is None else utility(train, synthetic, test, schema, seed=seed),
        guarantee=guarantee,
        shadow=shadow,
        lift=lift,
    )


def lines(report: SynthesisReport) -> list[tuple[str, str, str]]:
    """(measure, value, how to read it), in the order of the page."""
    made = report.privacy.fidelity
    rows = [
        ("guarantee", stated_guarantee(report.guarantee), "as the file states it; attacks below can only refute it"),
    ]
    if isinstance(report.guarantee, dict) and "accountant" in report.guarantee:
        rows.append(("rests on", str(report.guarantee["accountant"]), "what one unit is and who adds up the loss"))
    rows += [
        (
            "quality",
            f"{made.quality:.3f} (fresh real rows: {report.ceiling.quality:.3f})",
            "likeness of columns and pairs; the figure of fresh real rows is the most that means anything",
        ),
        (
            "shapes / pairs",
            f"{made.shapes:.3f} / {made.pairs:.3f} (fresh: {report.ceiling.shapes:.3f} / {report.ceiling.pairs:.3f})",
            "single columns / pairs of columns",
        ),
        (
            "quality, linked pairs",
            f"{made.linked_quality:.3f} (fresh real rows: {report.ceiling.linked_quality:.3f})",
            f"the same with the {len(made.linked)} pairs alone that hang together in real rows, as SDMetrics has it",
        ),
        *_utility_lines(report),
        *_privacy_lines(report),
    ]
    return rows


def _utility_lines(report: SynthesisReport) -> list[tuple[str, str, str]]:
    rows = []
    if report.utility is not None:
        real, fake = report.utility.real, report.utility.synthetic
        for name in real:
            rows.append((f"AUC, {name}", f"{fake[name].auc:.4f} (real {real[name].auc:.4f})", "on later real rows"))
            of_fake, of_real = fake[name].gauc, real[name].gauc
            if of_fake is not None and of_real is not None:
                rows.append((f"GAUC, {name}", f"{of_fake:.4f} (real {of_real:.4f})", "order within each user's rows"))
            rows.append(
                (
                    f"log loss, {name}",
                    f"{fake[name].logloss:.4f} (real {real[name].logloss:.4f})",
                    "less is better; also asks for the right level",
                )
            )
        rows.append(("AUC ratio", f"{report.utility.auc_ratio:.3f}", "best model from synthetic over best from real"))
    if report.lift is not None:
        rows += [
            (
                "lift of the partner's columns",
                f"{_signed(report.lift.synthetic)} (real {_signed(report.lift.real)})",
                "AUC gained over the party's own columns, later real rows",
            ),
            (
                "share of the lift kept",
                _spread(report.lift.share, 2),
                "1 is all of it; no use where the real lift is not clear of zero",
            ),
        ]
    return rows


def _privacy_lines(report: SynthesisReport) -> list[tuple[str, str, str]]:
    privacy = report.privacy
    rows = []
    if report.shadow is not None:
        rows.append(
            (
                "membership AUC, shadow models",
                _membership(report.shadow.auc),
                f"an attacker with the whole table and {report.shadow.shadows} refits; .5 is a coin",
            )
        )
        rows.append(
            (
                "found at 1 % false alarms",
                f"{report.shadow.caught:.3f}",
                "share of members that this attacker names with one outsider in a hundred; .01 is a coin",
            )
        )
    rows.append(("membership AUC", _membership(privacy.membership), "guessing from this table alone; .5 is a coin"))
    for name, found in report.advantages.items():
        rows.append(
            (
                name,
                f"{found.members:.4f} members, {found.holdout:.4f} others" + _LEAK * found.is_visible,
                "success of the attack; a leak only if members are hit more often than others",
            )
        )
    rows += [
        ("closer to train", f"{privacy.closer_to_train.value:.3f}", "smoke test; about .5 without copying"),
        (
            "rare values copied",
            str(sum(privacy.shared_literals.values())),
            "values of one or two real rows found again",
        ),
        ("real user ids", str(privacy.user_ids_shared) + _LEAK * bool(privacy.user_ids_shared), "must be 0"),
    ]
    return rows


def _membership(found: Estimate) -> str:
    """The AUC of a guess who was in the data: a leak where a coin is not as good."""
    return _spread(found) + _LEAK * (found.low > 0.5)


def _spread(estimate: Estimate, digits: int = 3) -> str:
    return f"{estimate.value:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def _signed(estimate: Estimate) -> str:
    return f"{estimate.value:+.4f} [{estimate.low:+.4f}, {estimate.high:+.4f}]"


def text(report: SynthesisReport) -> str:
    """A table for a terminal."""
    return "\n".join(f"{name:<36} {value}" for name, value, _ in lines(report))
