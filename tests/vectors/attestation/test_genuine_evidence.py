"""Genuine evidence holds at its own date, and every sibling that somebody made hostile is refused by name.

Origin of the files: `data/NOTE.md`.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, replace
from pathlib import Path

import cbor2
import pytest

from adyton.cleanroom.attestation.checks import REQUIRED, CheckName, Platform, Verdict
from adyton.cleanroom.attestation.document_time import document_time_ms
from adyton.cleanroom.attestation.expected import Expected
from adyton.cleanroom.attestation.snp_tcb import SnpTcb
from adyton.cleanroom.attestation.verify import verify

DATA = Path(__file__).parent / "data"
YEAR_MS = 365 * 86_400_000


def read(name: str) -> bytes:
    return (DATA / name).read_bytes()


@dataclass(frozen=True)
class Genuine:
    """A piece of evidence, what it is bound to, what it measures, and the bytes that a signature covers."""

    platform: Platform
    evidence: bytes
    nonce: bytes
    measurement: str
    flips: range
    certificates: tuple[bytes, ...] = ()
    trust_anchors: tuple[bytes, ...] = ()
    open_checks: frozenset[CheckName] = frozenset()

    def expected(self, **changed: object) -> Expected:
        asked = Expected(
            at_ms=1,
            nonce=self.nonce,
            allowed_measurements=frozenset({self.measurement}),
            certificates=self.certificates,
            trust_anchors=self.trust_anchors,
        )
        own = document_time_ms(self.platform, self.evidence, asked)
        at_own_date = replace(asked, at_ms=own[0] if own else 1_700_000_000_000)
        return replace(at_own_date, **changed)  # type: ignore[arg-type]

    def judge(self, evidence: bytes | None = None, **changed: object) -> Verdict:
        return verify(self.platform, self.evidence if evidence is None else evidence, expected=self.expected(**changed))


def nitro() -> Genuine:
    evidence = read("nitro-document.bin")
    payload = cbor2.loads(cbor2.loads(evidence)[2])
    return Genuine(Platform.NITRO, evidence, payload["nonce"], payload["pcrs"][0].hex(), range(len(evidence)))


def snp(name: str = "snp") -> Genuine:
    evidence = read(f"{name}-report.bin")
    return Genuine(
        Platform.SEV_SNP,
        evidence,
        evidence[0x50:0x90].rstrip(b"\0"),
        evidence[0x90:0xC0].hex(),
        range(len(evidence)),
        certificates=(read(f"{name}-vcek.der"),),
        open_checks=frozenset({CheckName.REVOCATION}),
    )


def tdx() -> Genuine:
    evidence = read("tdx-quote-v4.bin")
    length = 636 + int.from_bytes(evidence[632:636], "little")
    return Genuine(
        Platform.TDX,
        evidence,
        evidence[568:632],
        evidence[184:232].hex(),
        range(length),
        open_checks=frozenset({CheckName.REVOCATION, CheckName.TCB}),
    )


def tpm() -> Genuine:
    evidence = read("tpm-evidence.json")
    fields = json.loads(evidence)
    message = base64.b64decode(fields["tpm_quote"]["message"])
    signer = int.from_bytes(message[6:8], "big")
    extra_at = 8 + signer
    extra = message[extra_at + 2 : extra_at + 2 + int.from_bytes(message[extra_at : extra_at + 2], "big")]
    key = base64.b64decode(fields["ak_public"])
    return Genuine(Platform.TPM, evidence, extra, message[-32:].hex(), range(0), trust_anchors=(key,))


ALL = {"nitro": nitro, "snp": snp, "tdx": tdx, "tpm": tpm}


@pytest.mark.parametrize("name", sorted(ALL))
def test_genuine_evidence_holds_for_its_nonce_and_measurement(name: str) -> None:
    genuine = ALL[name]()
    verdict = genuine.judge()

    assert verdict.failed == tuple(check for check in CheckName if check in genuine.open_checks)
    assert {check.name for check in verdict.checks} == REQUIRED[genuine.platform]
    assert verdict.holds_as_asked


def test_a_genuine_nitro_document_says_when_it_was_made() -> None:
    verdict = nitro().judge()

    assert verdict.holds
    assert verdict.issued_at_ms == 1665651482136


def test_a_broker_asks_for_its_binding_in_user_data_and_absent_is_refused() -> None:
    assert nitro().judge(binding=bytes(range(32))).failed == (CheckName.BINDING,)


def test_pcr0_to_pcr2_may_be_asked_together_but_not_pcr1_alone() -> None:
    pcrs = cbor2.loads(cbor2.loads(nitro().evidence)[2])["pcrs"]
    together, alone = (pcrs[0] + pcrs[1] + pcrs[2]).hex(), pcrs[1].hex()

    assert nitro().judge(allowed_measurements=frozenset({together})).check(CheckName.MEASUREMENT).passed
    assert not nitro().judge(allowed_measurements=frozenset({alone})).check(CheckName.MEASUREMENT).passed


@pytest.mark.parametrize("name", sorted(ALL))
def test_another_nonce_is_a_replay_and_no_nonce_shows_nothing(name: str) -> None:
    genuine = ALL[name]()
    replayed = genuine.judge(nonce=b"another nonce of ours")
    unasked = genuine.judge(nonce=None)

    assert {CheckName.BINDING, CheckName.FRESHNESS} <= set(replayed.failed)
    assert not replayed.holds_as_asked
    assert CheckName.BINDING in unasked.failed
    assert not unasked.holds


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_measurement_that_is_not_allowed_is_refused(name: str) -> None:
    verdict = ALL[name]().judge(allowed_measurements=frozenset({"ab" * 48}))

    assert CheckName.MEASUREMENT in verdict.failed
    assert not verdict.holds_as_asked


@pytest.mark.parametrize("name", ["nitro", "snp", "tdx"])
def test_evidence_is_refused_long_after_and_before_its_certificates_hold(name: str) -> None:
    genuine = ALL[name]()
    own = genuine.expected().at_ms

    for at_ms in (own + 30 * YEAR_MS, own - 15 * YEAR_MS):
        assert CheckName.VALIDITY in genuine.judge(at_ms=at_ms).failed


def test_a_nitro_document_is_stale_after_minutes_although_its_certificate_lives_hours() -> None:
    own = nitro().expected().at_ms
    verdict = nitro().judge(at_ms=own + 10 * 60_000)

    assert verdict.check(CheckName.VALIDITY).passed
    assert not verdict.check(CheckName.FRESHNESS).passed


def test_debug_snp_is_refused_although_all_else_of_it_is_genuine() -> None:
    verdict = snp("snp-debug").judge()

    assert verdict.failed == (CheckName.REVOCATION, CheckName.DEBUG_OFF)
    assert verdict.check(CheckName.SIGNATURE).passed
    assert verdict.check(CheckName.CHAIN).passed
    assert not verdict.holds_as_asked


@pytest.mark.parametrize("name", ["nitro", "snp", "tdx"])
def test_every_region_is_covered_one_flipped_bit_is_enough(name: str) -> None:
    """All bits would take minutes; a stride that is odd visits every bit position and every region."""
    genuine = ALL[name]()
    baseline = genuine.judge().failed
    for at in range(0, len(genuine.flips), 37):
        flipped = bytearray(genuine.evidence)
        flipped[at] ^= 1 << (at % 8)
        verdict = genuine.judge(bytes(flipped))
        assert set(baseline) < set(verdict.failed), f"byte {at} of {name} can be changed unnoticed"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nitro", "snp", "tdx"])
def test_each_byte_is_covered(name: str) -> None:
    genuine = ALL[name]()
    baseline = genuine.judge().failed
    for at in genuine.flips:
        flipped = bytearray(genuine.evidence)
        flipped[at] ^= 1 << (at * 5 % 8)
        assert set(baseline) < set(genuine.judge(bytes(flipped)).failed), f"byte {at} of {name}"


@pytest.mark.parametrize("name", sorted(ALL))
def test_cut_evidence_is_no_evidence(name: str) -> None:
    genuine = ALL[name]()
    whole = len(genuine.flips) or len(genuine.evidence.rstrip())
    for length in (0, 1, 4, 47, 48, whole // 3, whole // 2, whole - 1):
        verdict = genuine.judge(genuine.evidence[:length])
        assert CheckName.FORMAT in verdict.failed
        assert not verdict.holds_as_asked


def test_another_chips_certificate_does_not_fit() -> None:
    verdict = snp().judge(certificates=(read("snp-debug-vcek.der"),))

    assert {CheckName.SIGNATURE, CheckName.TCB} <= set(verdict.failed)


def test_without_its_certificate_a_report_proves_nothing() -> None:
    verdict = snp().judge(certificates=())

    assert {CheckName.SIGNATURE, CheckName.CHAIN, CheckName.VALIDITY, CheckName.TCB} <= set(verdict.failed)


def test_a_report_that_names_the_other_kind_of_key_is_refused() -> None:
    flags = bytearray(snp().evidence)
    flags[0x48] |= 1 << 2

    assert CheckName.SIGNATURE in snp().judge(bytes(flags)).failed


def test_privilege_levels_other_than_zero_must_be_allowed() -> None:
    lower = bytearray(snp().evidence)
    lower[0x30] = 2

    assert CheckName.VMPL in snp().judge(bytes(lower)).failed
    assert not snp().judge(allowed_vmpls=frozenset({1})).check(CheckName.VMPL).passed
    assert snp().judge(allowed_vmpls=frozenset({0, 1})).check(CheckName.VMPL).passed


def test_firmware_under_the_floor_is_refused_part_by_part() -> None:
    own = SnpTcb.parse("3.0.8.115")
    assert str(own) in snp().judge().check(CheckName.TCB).found
    assert snp().judge(snp_floor=own).check(CheckName.TCB).passed
    for newer in ("4.0.8.115", "3.1.8.115", "3.0.9.115", "3.0.8.116"):
        assert CheckName.TCB in snp().judge(snp_floor=SnpTcb.parse(newer)).failed


@pytest.mark.parametrize("name", sorted(ALL))
@pytest.mark.parametrize("platform", [p for p in Platform if p is not Platform.DEV_TPM])
def test_evidence_of_one_platform_is_never_evidence_of_another(name: str, platform: Platform) -> None:
    genuine = ALL[name]()
    if platform is genuine.platform:
        platform = Platform.DEV_SIM
    verdict = verify(platform, genuine.evidence, expected=genuine.expected(allow_dev=True))

    assert CheckName.FORMAT in verdict.failed


def test_a_tpm_quote_is_not_development_evidence_unless_it_is_allowed() -> None:
    every = frozenset(range(24))
    refused = verify(Platform.DEV_TPM, tpm().evidence, expected=tpm().expected(pcrs=every))
    allowed = verify(Platform.DEV_TPM, tpm().evidence, expected=tpm().expected(pcrs=every, allow_dev=True))

    assert refused.failed == (CheckName.DEVELOPMENT,)
    assert allowed.holds


def test_a_tpm_key_that_nobody_enrolled_is_refused() -> None:
    unknown = tpm().judge(trust_anchors=())
    other = tpm().judge(trust_anchors=(read("snp-vcek.der"),))

    assert not unknown.holds
    assert CheckName.CHAIN in other.failed
    assert not other.holds_as_asked


@pytest.mark.parametrize(
    ("offset", "failed"),
    [(0, CheckName.FORMAT), (4, CheckName.FORMAT), (-1, CheckName.SIGNATURE), (46, CheckName.SIGNATURE)],
)
def test_a_changed_tpm_message_is_refused(offset: int, failed: CheckName) -> None:
    fields = json.loads(tpm().evidence)
    message = bytearray(base64.b64decode(fields["tpm_quote"]["message"]))
    message[offset] ^= 1
    fields["tpm_quote"]["message"] = base64.b64encode(message).decode()

    assert failed in tpm().judge(json.dumps(fields).encode()).failed


def test_pcr_values_that_were_not_quoted_are_refused() -> None:
    fields = json.loads(tpm().evidence)
    fields["tpm_quote"]["pcrs"][7] = "11" * 32

    assert CheckName.MEASUREMENT in tpm().judge(json.dumps(fields).encode()).failed


@pytest.mark.parametrize("pcrs", [[], ["00" * 32] * 3, ["00" * 20] * 24])
def test_missing_or_short_pcr_values_are_refused(pcrs: list[str]) -> None:
    fields = json.loads(tpm().evidence)
    fields["tpm_quote"]["pcrs"] = pcrs

    assert CheckName.MEASUREMENT in tpm().judge(json.dumps(fields).encode()).failed


def test_a_nitro_header_cannot_choose_another_algorithm() -> None:
    _, unprotected, payload, signature = cbor2.loads(nitro().evidence)
    for header in ({1: -7}, {1: -35, 4: b"kid"}, {}):
        changed = cbor2.dumps([cbor2.dumps(header), unprotected, payload, signature])
        assert nitro().judge(changed).failed[0] is CheckName.FORMAT


def test_a_tag_around_a_nitro_document_changes_nothing() -> None:
    tagged = cbor2.dumps(cbor2.CBORTag(18, cbor2.loads(nitro().evidence)))

    assert nitro().judge(tagged, nonce=None).holds_as_asked
    assert CheckName.FORMAT in nitro().judge(nitro().evidence + b"\0").failed


def test_what_follows_a_quote_is_not_part_of_it() -> None:
    genuine = tdx()
    bare = genuine.evidence[: len(genuine.flips)]

    assert genuine.judge(bare).holds_as_asked
    assert genuine.judge(bare + b"anything").failed == genuine.judge(bare).failed
