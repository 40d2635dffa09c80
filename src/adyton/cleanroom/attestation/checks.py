"""Named checks and what follows from them.

Each platform has a fixed table of checks that must all pass. A check that was not made is a failed check: a verifier
cannot forget one and still let evidence through. `asked=False` marks a check that nobody gave the means for (no nonce,
no collateral); it does not pass, so a broker refuses it, but `adyton attest verify` reports it apart from failures.

Source: cleanroom §2.1, step 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from adyton.cleanroom.attestation.errors import EvidenceFormatError
from adyton.kernel.canonical import Json
from adyton.kernel.errors import InternalError


class Platform(StrEnum):
    """What made the evidence. The `dev-` platforms prove the protocol and protect nothing."""

    NITRO = "nitro"
    SEV_SNP = "sev-snp"
    TDX = "tdx"
    SGX = "sgx"
    CONFIDENTIAL_SPACE = "confidential-space"
    TPM = "tpm"
    DEV_SIM = "dev-sim"
    DEV_TPM = "dev-tpm"

    @property
    def is_development(self) -> bool:
        return self in (Platform.DEV_SIM, Platform.DEV_TPM)


class CheckName(StrEnum):
    """One question about evidence."""

    FORMAT = "format"
    """The bytes are well-formed evidence of the platform and nothing else."""
    SIGNATURE = "signature"
    """The evidence is signed by the key its certificate names."""
    CHAIN = "chain"
    """That key is vouched for by a root pinned in this package (or one the caller gave on purpose)."""
    VALIDITY = "validity"
    """Every certificate of the chain is valid at the time asked for."""
    REVOCATION = "revocation"
    """No certificate of the chain is on its issuer's revocation list."""
    TCB = "tcb"
    """Firmware and microcode are those the key was made for, and at or over the floor."""
    DEBUG_OFF = "debug_off"
    """Nobody can read the memory through a debug interface."""
    VMPL = "vmpl"
    """The report was asked for by the most privileged level of the guest (SEV-SNP)."""
    MEASUREMENT = "measurement"
    """The code is one of those allowed."""
    BINDING = "binding"
    """The evidence was made for this nonce, contract and key."""
    FRESHNESS = "freshness"
    """The evidence was made after the nonce was issued."""
    DEVELOPMENT = "development"
    """The platform is real hardware, or a development platform was explicitly allowed."""


_ALWAYS = (
    CheckName.FORMAT,
    CheckName.SIGNATURE,
    CheckName.CHAIN,
    CheckName.VALIDITY,
    CheckName.DEBUG_OFF,
    CheckName.MEASUREMENT,
    CheckName.BINDING,
    CheckName.FRESHNESS,
    CheckName.DEVELOPMENT,
)
_WITH_TCB = (*_ALWAYS, CheckName.REVOCATION, CheckName.TCB)

# AWS publishes no revocation for enclave certificates (a leaf lives three hours); Google's tokens live an hour; a TPM
# has no debug mode of its own, its PCRs say what the firmware started.
REQUIRED: dict[Platform, frozenset[CheckName]] = {
    Platform.NITRO: frozenset(_ALWAYS),
    Platform.SEV_SNP: frozenset((*_WITH_TCB, CheckName.VMPL)),
    Platform.TDX: frozenset(_WITH_TCB),
    Platform.SGX: frozenset(_WITH_TCB),
    Platform.CONFIDENTIAL_SPACE: frozenset(_ALWAYS),
    Platform.TPM: frozenset(_ALWAYS) - {CheckName.DEBUG_OFF},
    Platform.DEV_SIM: frozenset(_ALWAYS),
    Platform.DEV_TPM: frozenset(_ALWAYS) - {CheckName.DEBUG_OFF},
}


@dataclass(frozen=True)
class Check:
    """One named check and what was found, in words and public values only."""

    name: CheckName
    passed: bool
    found: str
    asked: bool = True

    def __post_init__(self) -> None:
        if self.passed and not self.asked:
            raise InternalError(f"check {self.name} cannot pass without being asked")

    @property
    def state(self) -> str:
        """`ok`, `failed` or `not asked`."""
        if self.passed:
            return "ok"
        return "failed" if self.asked else "not asked"

    def as_json(self) -> dict[str, Json]:
        return {"name": self.name.value, "state": self.state, "found": self.found}


@dataclass(frozen=True)
class Verdict:
    """All checks of one piece of evidence.

    measurement: lower-case hex of all measured registers in order, None if the evidence could not be read.
    issued_at_ms: when the evidence says it was made, where the platform says so.
    """

    platform: Platform
    checks: tuple[Check, ...]
    measurement: str | None = None
    issued_at_ms: int | None = None

    def __post_init__(self) -> None:
        names = [check.name for check in self.checks]
        if len(set(names)) != len(names):
            raise InternalError("a check appears twice in a verdict")

    @property
    def complete(self) -> tuple[Check, ...]:
        """The checks in the order of `CheckName`, with a failed one in the place of each that is missing."""
        made = {check.name: check for check in self.checks}
        required = REQUIRED[self.platform]
        return tuple(
            made.get(name, Check(name, False, "was not checked"))
            for name in CheckName
            if name in made or name in required
        )

    @property
    def holds(self) -> bool:
        """True only if every check that the platform requires was made and passed. What a broker asks."""
        return all(check.passed for check in self.complete)

    @property
    def holds_as_asked(self) -> bool:
        """True if every check that was asked passed. For `adyton attest verify`; never enough for a key."""
        return all(check.passed or not check.asked for check in self.complete)

    @property
    def failed(self) -> tuple[CheckName, ...]:
        """Names of all checks that did not pass."""
        return tuple(check.name for check in self.complete if not check.passed)

    def check(self, name: CheckName) -> Check:
        """The check of that name; a failed one if it was not made."""
        return next((c for c in self.complete if c.name is name), Check(name, False, "was not checked"))

    def as_json(self) -> dict[str, Json]:
        return {
            "platform": self.platform.value,
            "development": self.platform.is_development,
            "holds": self.holds,
            "measurement": self.measurement,
            "issued_at_ms": self.issued_at_ms,
            "checks": [check.as_json() for check in self.complete],
        }


class Findings:
    """Collects what a verifier finds; a name found twice passes only if it passed each time."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self._checks: dict[CheckName, Check] = {}

    def add(self, name: CheckName, passed: bool, found: str) -> bool:
        """Record a check that was made, and give back whether it passed."""
        self._put(Check(name, passed, found))
        return passed

    def not_asked(self, name: CheckName, found: str) -> None:
        """Record a check that nobody gave the means for."""
        self._put(Check(name, False, found, asked=False))

    def verdict(self, *, measurement: bytes | None = None, issued_at_ms: int | None = None) -> Verdict:
        return Verdict(
            self.platform,
            tuple(self._checks.values()),
            None if measurement is None else measurement.hex(),
            issued_at_ms,
        )

    def _put(self, check: Check) -> None:
        earlier = self._checks.get(check.name)
        if earlier is not None:
            worse = earlier if (earlier.asked, earlier.passed) == (True, False) else check
            if earlier.passed and check.passed:
                worse = Check(check.name, True, f"{earlier.found}; {check.found}")
            elif not check.asked and not earlier.asked:
                worse = Check(check.name, False, f"{earlier.found}; {check.found}", asked=False)
            elif check.passed:
                worse = earlier
            check = worse
        self._checks[check.name] = check


def unreadable(platform: Platform, error: EvidenceFormatError) -> Verdict:
    """The verdict on bytes that are not evidence: `format` failed, and with it everything that depends on it."""
    return Verdict(platform, (Check(CheckName.FORMAT, False, str(error)),))
