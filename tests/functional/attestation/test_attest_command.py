"""`adyton attest verify` as a person calls it: every named check on stdout, the verdict in the exit."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from adyton.cleanroom.attestation import dev_sim
from adyton.cli.attest import attest
from adyton.kernel.errors import BadInputError, RefusedError

DATA = Path(__file__).parents[2] / "vectors" / "attestation" / "data"
SNP = ("verify", str(DATA / "snp-report.bin"), "--platform", "sev-snp", "--certificate", str(DATA / "snp-vcek.der"))
SNP_NONCE = "ec6c52d7533cc2c4f45be7849cf112ab82b2009fe7bd43e71ed08c14400ad7e2"
NITRO = ("verify", str(DATA / "nitro-document.bin"), "--platform", "nitro")
TPM = ("verify", str(DATA / "tpm-evidence.json"), "--platform", "tpm")
TDX = ("verify", str(DATA / "tdx-quote-v4.bin"), "--platform", "tdx")


def call(*arguments: str) -> Result:
    return CliRunner().invoke(attest, list(arguments))


def states(result: Result) -> dict[str, str]:
    return {check["name"]: check["state"] for check in json.loads(result.stdout)["checks"]}


def test_a_genuine_report_is_printed_check_by_check_and_what_was_not_asked_is_said() -> None:
    result = call(*SNP, "--at", "document")

    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()[3:]].count("ok") == 8
    assert "not asked: revocation, measurement, binding, freshness" in result.stderr
    assert "chain" in result.stdout


def test_a_floor_for_amds_firmware_is_kept_and_a_malformed_one_is_named() -> None:
    assert call(*SNP, "--snp-floor", "0.0.0.0").exit_code == 0
    under = call(*SNP, "--json", "--snp-floor", "255.0.0.0")
    assert states(under)["tcb"] == "failed"
    for malformed in ("3.0.8", "3.0.8.115.1.1", "3.0.8.256", "3.0.8.x", ""):
        assert isinstance(call(*SNP, "--snp-floor", malformed).exception, BadInputError)


@pytest.mark.parametrize("arguments", [NITRO, TDX])
def test_genuine_evidence_passes_at_its_own_date(arguments: tuple[str, ...]) -> None:
    assert call(*arguments, "--at", "document").exit_code == 0


def test_a_quote_whose_key_nobody_vouches_for_is_refused_unless_that_is_asked_for(tmp_path: Path) -> None:
    """Anybody can make a key and sign a quote with it: no root is pinned for TPMs."""
    unknown = call(*TPM, "--json")
    assert isinstance(unknown.exception, RefusedError)
    assert "chain" in str(unknown.exception)
    assert "--any-key" in str(unknown.exception.hint)
    assert states(unknown)["chain"] == "failed"

    looked_at = call(*TPM, "--any-key")
    assert looked_at.exit_code == 0
    assert "not asked  chain" in looked_at.stdout
    assert "not asked: chain, validity, " in looked_at.stderr
    assert "whose key" in looked_at.stderr
    assert isinstance(call(*TPM, "--any-key", "--strict").exception, RefusedError)

    key = tmp_path / "key.der"
    key.write_bytes(base64.b64decode(json.loads((DATA / "tpm-evidence.json").read_text())["ak_public"]))
    trusted = call(*TPM, "--json", "--certificate", str(key))
    assert trusted.exit_code == 0
    assert states(trusted)["chain"] == "ok"


def test_any_key_does_not_let_a_changed_quote_pass_and_is_for_tpms_alone(tmp_path: Path) -> None:
    quote = json.loads((DATA / "tpm-evidence.json").read_text())
    message = bytearray(base64.b64decode(quote["tpm_quote"]["message"]))
    message[-1] ^= 1
    quote["tpm_quote"]["message"] = base64.b64encode(message).decode()
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(quote))

    assert isinstance(call("verify", str(changed), *TPM[2:], "--any-key").exception, RefusedError)
    assert call(*NITRO, "--any-key").exit_code == 2
    assert call(*TPM, "--any-key", "--certificate", str(DATA / "snp-vcek.der")).exit_code == 2


def test_a_date_alone_means_the_documents_own_moment_on_that_day() -> None:
    assert call(*NITRO, "--at", "2022-10-13").exit_code == 0
    assert call(*NITRO, "--at", "2022-10-13T09:30:00Z").exit_code == 0
    assert isinstance(call(*NITRO, "--at", "2022-10-14").exception, RefusedError)
    assert isinstance(call(*NITRO).exception, RefusedError)
    assert isinstance(call(*NITRO, "--at", "yesterday").exception, BadInputError)


def test_nonce_and_measurement_are_checked_when_given() -> None:
    measurement = (DATA / "snp-report.bin").read_bytes()[0x90:0xC0].hex()
    good = call(*SNP, "--json", "--nonce", SNP_NONCE, "--measurement", measurement)
    replayed = call(*SNP, "--json", "--nonce", "00" * 31 + "01", "--measurement", measurement)
    other_code = call(*SNP, "--json", "--nonce", SNP_NONCE, "--measurement", "ab" * 48)

    assert good.exit_code == 0
    assert {states(good)[name] for name in ("binding", "measurement", "freshness")} == {"ok"}
    assert isinstance(replayed.exception, RefusedError)
    assert states(replayed)["binding"] == "failed"
    assert isinstance(other_code.exception, RefusedError)
    assert states(other_code)["measurement"] == "failed"


def test_strict_asks_what_a_broker_asks() -> None:
    assert isinstance(call(*SNP, "--strict").exception, RefusedError)


def test_debug_evidence_names_its_failed_check() -> None:
    files = ("--certificate", str(DATA / "snp-debug-vcek.der"))
    result = call("verify", str(DATA / "snp-debug-report.bin"), "--platform", "sev-snp", *files)

    assert isinstance(result.exception, RefusedError)
    assert "debug_off" in str(result.exception)
    assert "FAILED     debug_off" in result.stdout


@pytest.mark.parametrize("encode", [bytes.hex, lambda data: base64.encodebytes(data).decode()])
def test_binary_evidence_may_come_as_text(tmp_path: Path, encode: object) -> None:
    path = tmp_path / "report.txt"
    path.write_text(encode((DATA / "snp-report.bin").read_bytes()))  # type: ignore[operator]

    assert call("verify", str(path), *SNP[2:]).exit_code == 0


def test_development_evidence_is_labelled_and_refused_unless_allowed(tmp_path: Path) -> None:
    path = tmp_path / "evidence.json"
    path.write_bytes(dev_sim.make_evidence(bytes(range(32)), b"nonce of ours", 1_790_000_000_000))
    arguments = ("verify", str(path), "--platform", "dev-sim", "--at", "document")

    assert isinstance(call(*arguments).exception, RefusedError)
    allowed = call(*arguments, "--allow-dev", "--nonce", b"nonce of ours".hex())
    assert allowed.exit_code == 0
    assert "DEVELOPMENT" in allowed.stdout


def test_junk_fails_its_format_and_zero_nonces_are_no_nonces(tmp_path: Path) -> None:
    path = tmp_path / "junk"
    path.write_bytes(b"\x00" * 1184)

    assert isinstance(call("verify", str(path), *SNP[2:], "--at", "document").exception, RefusedError)
    assert isinstance(call(*SNP, "--nonce", "00" * 32).exception, BadInputError)
    assert isinstance(call(*SNP, "--nonce", "zz").exception, BadInputError)
