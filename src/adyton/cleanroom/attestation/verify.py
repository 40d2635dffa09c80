"""Evidence in, verdict out: the one entrance to all verifiers.

Any bytes give a verdict. Bytes that are not evidence of the platform give one whose `format` failed, and since missing
checks are failed checks, nothing else of it holds either.
"""

from __future__ import annotations

from collections.abc import Callable

from adyton.cleanroom.attestation import confidential_space, dcap, dev_sim, nitro, sev_snp, tpm
from adyton.cleanroom.attestation.checks import Platform, Verdict, unreadable
from adyton.cleanroom.attestation.errors import EvidenceFormatError, EvidenceRefusedError
from adyton.cleanroom.attestation.expected import Expected

_VERIFIERS: dict[Platform, Callable[[bytes, Expected], Verdict]] = {
    Platform.NITRO: nitro.verify,
    Platform.SEV_SNP: sev_snp.verify,
    Platform.TDX: dcap.verify_tdx,
    Platform.SGX: dcap.verify_sgx,
    Platform.CONFIDENTIAL_SPACE: confidential_space.verify,
    Platform.TPM: tpm.verify_tpm,
    Platform.DEV_SIM: dev_sim.verify,
    Platform.DEV_TPM: tpm.verify_dev_tpm,
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
