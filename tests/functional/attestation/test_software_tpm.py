"""A real TPM 2.0 protocol against swtpm: enrolment, quote, refusals, a counter that only goes up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from adyton.cleanroom.attestation import dev_tpm
from adyton.cleanroom.attestation.checks import CheckName, Platform
from adyton.cleanroom.attestation.errors import CounterRefusedError, EvidenceRefusedError, TpmUnavailableError
from adyton.cleanroom.attestation.expected import Expected
from adyton.cleanroom.attestation.tpm_counter import TpmCounter
from adyton.cleanroom.attestation.tpm_tools import TpmConnection, software_tpm, tools_are_installed
from adyton.cleanroom.attestation.verify import verify

pytestmark = pytest.mark.skipif(
    not tools_are_installed(), reason="swtpm or tpm2-tools is not installed: apt-get install swtpm tpm2-tools"
)
CODE, BINDING = bytes(range(32)), bytes(range(32, 64))


@pytest.fixture
def tpm(tmp_path: Path) -> Iterator[TpmConnection]:
    with software_tpm(tmp_path) as connection:
        yield connection


def test_an_enrolled_tpm_attests_code_and_binding_and_nothing_else(tpm: TpmConnection) -> None:
    dev_tpm.create_keys(tpm)
    key = dev_tpm.enrol(tpm)
    dev_tpm.extend(tpm.wire, CODE)
    evidence = dev_tpm.make_evidence(tpm.wire, BINDING)
    expected = Expected(
        at_ms=1,
        nonce=b"a broker's nonce",
        binding=BINDING,
        allowed_measurements=frozenset({dev_tpm.measurement_of(CODE).hex()}),
        allow_dev=True,
        trust_anchors=(key,),
    )

    assert verify(Platform.DEV_TPM, evidence, expected=expected).holds
    for changed, failed in (
        ({"allow_dev": False}, CheckName.DEVELOPMENT),
        ({"binding": CODE}, CheckName.BINDING),
        ({"trust_anchors": ()}, CheckName.CHAIN),
        ({"allowed_measurements": frozenset({CODE.hex()})}, CheckName.MEASUREMENT),
    ):
        asked = replace(expected, **changed)  # type: ignore[arg-type]
        assert failed in verify(Platform.DEV_TPM, evidence, expected=asked).failed

    dev_tpm.extend(tpm.wire, CODE)
    other_code = dev_tpm.make_evidence(tpm.wire, BINDING)
    assert verify(Platform.DEV_TPM, other_code, expected=expected).failed == (CheckName.MEASUREMENT,)
    mixed = json.loads(evidence)
    mixed["tpm_quote"]["signature"] = json.loads(other_code)["tpm_quote"]["signature"]
    assert CheckName.SIGNATURE in verify(Platform.DEV_TPM, json.dumps(mixed).encode(), expected=expected).failed


def test_a_key_of_another_tpm_cannot_be_enrolled(tpm: TpmConnection, tmp_path: Path) -> None:
    dev_tpm.create_keys(tpm)
    with software_tpm(tmp_path / "other") as other:
        dev_tpm.create_keys(other)
        (tpm.folder / "ek.pub").write_bytes(other.read("ek.pub"))

        with pytest.raises((TpmUnavailableError, EvidenceRefusedError)):
            dev_tpm.enrol(tpm)


def test_a_counter_only_goes_up_also_across_restarts(tmp_path: Path) -> None:
    with software_tpm(tmp_path) as tpm:
        counter = TpmCounter(tpm.wire)
        first = counter.create()
        second = counter.increment()
        counter.check(second)

        assert second == first + 1
        for record in (first, second + 1):
            with pytest.raises(CounterRefusedError):
                counter.check(record)
        with pytest.raises(CounterRefusedError):
            counter.create()
    with software_tpm(tmp_path) as tpm:
        assert TpmCounter(tpm.wire).value() == second
        assert TpmCounter(tpm.wire).increment() == second + 1


def test_a_missing_counter_and_a_missing_tool_are_unavailable(tpm: TpmConnection) -> None:
    with pytest.raises(TpmUnavailableError):
        TpmCounter(tpm.wire).value()
    with pytest.raises(TpmUnavailableError):
        tpm.call("tpm2_does_not_exist")


def test_a_tpm_may_be_started_many_times(tmp_path: Path) -> None:
    """Ended without an orderly shutdown it locks itself against what it takes for guessing, at the third start."""
    with software_tpm(tmp_path) as tpm:
        dev_tpm.create_keys(tpm)
    for _ in range(5):
        with software_tpm(tmp_path) as tpm:
            assert dev_tpm.make_evidence(tpm.wire, b"binding".ljust(32, b"\0"))
