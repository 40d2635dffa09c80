"""Evidence in, verdict out: the one entrance to all verifiers.

Any bytes give a verdict. Bytes that are not evidence of the platform give one whose `format` failed, and since missing
checks are failed checks, nothing else of it holds either.
"""

from __future__ import annotations

from collections.abc import Callable

from adyton.cleanroom.attestation import dev_sim
from adyton.cleanroom.attestation.checks import Platform, Verdict, unreadable
from adyton.cleanroom.attestation.errors import EvidenceFormatError, EvidenceRefusedError
from adyton.cleanroom.attestation.expected import Expected

_VERIFIERS: dict[Platform, Callable[[bytes, Expected], Verdict]] = {
    Platform.DEV_SIM: dev_sim.verify,
}


def verify(platform: Platform, evidence: bytes, *, expected: Expected) -> Verdict:
    """All named checks of `evidence` as evidence of `platform`. Whoever releases a key asks `.holds`."""
    try:
        return _VERIFIERS[platform](evidence, expected)
    except EvidenceFormatError as error:
        return unreadable(platform, error)


def require(verdict: Verdict) -> Verdict:
    """The same verdict, if it holds. Raises EvidenceRefusedError naming the checks that did not pass."""
    if not verdict.holds:
        failed = ", ".join(verdict.failed)
        details = "; ".join(f"{check.name}: {check.found}" for check in verdict.complete if not check.passed)
        raise EvidenceRefusedError(
            f"the evidence does not hold ({failed})",
            where=f"platform {verdict.platform}",
            hint=details,
            failed=tuple(name.value for name in verdict.failed),
            verdict=verdict,
        )
    return verdict
