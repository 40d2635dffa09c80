"""The release gate: the last check of everything that would leave. Pure; it says which check failed, and by how much.

Every output:    `template` and `recipients` are the contract's; `guarantee`: differential privacy within what was
                 reserved, or the contract lets this output leave without; `threshold`: k distinct users behind it;
                 `literals`: no user id of any party stands in it (`literal_scan`).
Synthetic table: attacks of `learning.synth.gate_measures` (exact matches, distance, membership, attribute, singling
                 out). A check fails when even the low end of the attack's 95 % interval passes the limit.
Models:          `membership` and `attribute-inference` of `model_attacks`. Distance and singling out need rows, and a
                 model has none; its vocabularies are covered by `literals` and by k users behind each value.

One refused output refuses the run: all boxes leave together or none does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adyton.cleanroom.contract import TEMPLATE_OF, Contract, Output
from adyton.cleanroom.errors import GateRefusedError
from adyton.kernel.canonical import Json
from adyton.kernel.ledger import PrivacyLoss
from adyton.learning.synth.gate_measures import PrivacyMeasures
from adyton.learning.synth.privacy import Advantage

if TYPE_CHECKING:
    from adyton.cleanroom.model_attacks import ModelAttacks

_GENERAL_CHECKS = frozenset(("template", "recipients", "guarantee", "threshold", "literals"))


@dataclass(frozen=True)
class GateLimits:
    """Largest success that an attack may have for certain.

    advantage: of members over the holdout.   membership_auc: .5 is a coin.   model_membership_auc: by loss.
    closer_to_train: share of synthetic rows that are nearer to a member than to anybody else. Copies give 1; without
    copying it is near .5, and not exactly: the two sides are different users, and rows of one user resemble each other.
    """

    advantage: float = 0.05
    membership_auc: float = 0.55
    model_membership_auc: float = 0.75
    closer_to_train: float = 0.6


@dataclass(frozen=True)
class GateCheck:
    """One check of one output; `found` and `limit` in words and figures, never a value of a row."""

    output: Output
    name: str
    passed: bool
    found: str
    limit: str

    def as_json(self) -> dict[str, Json]:
        return {
            "output": self.output.value,
            "name": self.name,
            "passed": self.passed,
            "found": self.found,
            "limit": self.limit,
        }


@dataclass(frozen=True)
class Candidate:
    """What wants to leave.

    users: distinct real users behind it.   loss: what its making spent, None if no guarantee covers it.
    """

    output: Output
    users: int
    loss: PrivacyLoss | None


def check_candidate(
    candidate: Candidate, contract: Contract, *, reserved: PrivacyLoss | None, user_ids_found: int
) -> list[GateCheck]:
    """The checks of every output.

    reserved: what the ledger holds for it.   user_ids_found: how many user ids of any party stand in its bytes.
    """
    output, rule = candidate.output, contract.binding_rule
    template = TEMPLATE_OF[output]
    recipients = contract.recipients(output)
    if candidate.loss is not None:
        covered = reserved is not None and candidate.loss.fits_in(reserved)
        found = f"epsilon {float(candidate.loss.epsilon):g}, delta {float(candidate.loss.delta):g}"
        limit = (
            f"epsilon {float(reserved.epsilon):g}, delta {float(reserved.delta):g}" if reserved else "nothing reserved"
        )
    else:
        covered = output in rule.without_guarantee
        found = "no guarantee"
        limit = "allowed by every owner" if covered else "every owner must allow it"
    is_crowd, crowd = candidate.users >= rule.k, f"at least {rule.k} users"
    return [
        GateCheck(output, "template", template in rule.templates, template.value, "allowed by every owner"),
        GateCheck(output, "recipients", bool(recipients), ", ".join(recipients) or "nobody", "named in the contract"),
        GateCheck(output, "guarantee", covered, found, limit),
        # The number itself stays inside: a count that moves by one would tell who came or went.
        GateCheck(output, "threshold", is_crowd, f"{'at least' if is_crowd else 'fewer than'} {rule.k} users", crowd),
        GateCheck(output, "literals", user_ids_found == 0, f"{user_ids_found} user ids", "none"),
    ]


def check_synthetic(measures: PrivacyMeasures, limits: GateLimits) -> list[GateCheck]:
    """The attacks on a synthetic table."""
    output = Output.SYNTHETIC_TABLE
    literals = sum(measures.shared_literals.values()) + measures.user_ids_shared
    membership, nearer = measures.membership, measures.closer_to_train
    return [
        GateCheck(
            output,
            "distance",
            nearer.low <= limits.closer_to_train,
            f"{nearer.value:.3f} [{nearer.low:.3f}, {nearer.high:.3f}] nearer to members",
            f"certainly at most {limits.closer_to_train:g}",
        ),
        _attack(output, "exact-matches", measures.exact_matches, limits.advantage),
        GateCheck(
            output,
            "membership",
            membership.low <= limits.membership_auc,
            f"AUC {membership.value:.3f} [{membership.low:.3f}, {membership.high:.3f}]",
            f"certainly at most {limits.membership_auc:g}",
        ),
        _attack(output, "attribute-inference", measures.attribute_inference, limits.advantage),
        _attack(output, "singling-out", measures.singling_out, limits.advantage),
        GateCheck(output, "rare-literals", literals == 0, f"{literals} rare values", "none"),
    ]


def check_model(output: Output, attacks: ModelAttacks, limits: GateLimits) -> list[GateCheck]:
    """The attacks on a model."""
    limit, found = limits.model_membership_auc, attacks.membership_auc
    membership = GateCheck(output, "membership", found <= limit, f"AUC {found:.3f}", f"at most {limit:g}")
    if attacks.attribute_inference is None:
        return [membership, GateCheck(output, "attribute-inference", True, "no user attribute", "nothing to infer")]
    return [membership, _attack(output, "attribute-inference", attacks.attribute_inference, limits.advantage)]


def required_checks(output: Output) -> frozenset[str]:
    """Names of the checks that an output must have passed: what a receipt has to show."""
    match output:
        case Output.SYNTHETIC_TABLE:
            attacks = (
                *("exact-matches", "distance", "membership"),
                *("attribute-inference", "singling-out", "rare-literals"),
            )
            return _GENERAL_CHECKS.union(attacks)
        case Output.MODEL | Output.MODEL_WITHOUT_PARTNER:
            return _GENERAL_CHECKS | {"membership", "attribute-inference"}
        case _:
            return _GENERAL_CHECKS


def require_all(checks: Iterable[GateCheck]) -> Sequence[GateCheck]:
    """The checks, if all passed. Raises GateRefusedError naming each that did not, with figure and limit."""
    made = list(checks)
    failed = [check for check in made if not check.passed]
    if failed:
        raise GateRefusedError(
            "; ".join(f"{c.output.value}: {c.name} found {c.found}, wanted {c.limit}" for c in failed),
            where="release gate",
            hint="nothing left the enclave",
        )
    return made


def _attack(output: Output, name: str, advantage: Advantage, limit: float) -> GateCheck:
    found = advantage.difference
    return GateCheck(
        output,
        name,
        found.low <= limit,
        f"advantage {found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]",
        f"certainly at most {limit:g}",
    )
