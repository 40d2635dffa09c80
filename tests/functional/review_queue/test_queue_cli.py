"""`adyton queue` as an operator uses it, in its own processes."""

from __future__ import annotations

import json
import signal
import ssl
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import httpx
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from adyton.cli.queue import queue
from adyton.kernel.errors import AdytonError
from adyton.review.queue.desk import Desk, open_engine
from adyton.review.queue.people import find_person, put_person


def _run(folder: Path, *arguments: str) -> tuple[str, str]:
    result = CliRunner().invoke(queue, [*arguments, "--database", f"sqlite:///{folder}/queue.db"])
    if isinstance(result.exception, AdytonError):
        return "", f"{type(result.exception).__name__}: {result.exception} [{result.exception.hint}]"
    assert result.exception is None, result.exception
    return result.stdout, result.stderr


def _start(folder: Path, *options: str) -> subprocess.Popen[str]:
    call = "from adyton.cli.queue import queue; queue()"
    database = f"sqlite:///{folder}/queue.db"
    return subprocess.Popen(
        [sys.executable, "-c", call, "serve", *options, "--database", database], stderr=subprocess.PIPE, text=True
    )


def _stop(server: subprocess.Popen[str]) -> None:
    assert server.stderr is not None
    server.send_signal(signal.SIGINT)
    server.wait(30)
    server.stderr.close()


def test_from_nothing_to_an_answer_over_http(tmp_path: Path) -> None:
    refused = _run(tmp_path, "verify")
    first, again = _run(tmp_path, "migrate"), _run(tmp_path, "migrate")
    _run(tmp_path, "person", "ann", "--role", "lead", "--market", "US")
    _run(tmp_path, "policy", "weapons", "--title", "Weapons", "--worst", "rejected")
    token = _run(tmp_path, "token", "ann")[0].strip()
    server = _start(tmp_path, "--port", "0")
    try:
        assert server.stderr is not None
        line = server.stderr.readline()
        address = line.removeprefix("listening on ").strip()
        me = httpx.get(f"{address}/api/me", headers={"Authorization": f"Bearer {token}"}, timeout=30).json()
    finally:
        _stop(server)
    verified = json.loads(_run(tmp_path, "verify", "--json")[0])

    assert refused[1].startswith("StoreUnavailableError")
    assert "there is no database" in refused[1]
    assert "adyton queue migrate" in refused[1]
    assert first[1] == "from version none to 0002\n"
    assert again[1] == "already at version 0002\n"
    assert me["role"] == "lead"
    assert verified["n_events"] == 3


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "queue test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate, secret = folder / "cert.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate, secret


def test_over_tls_the_cookie_is_for_tls_only_and_a_wrong_key_is_refused(tmp_path: Path) -> None:
    _run(tmp_path, "migrate")
    _run(tmp_path, "person", "ann", "--role", "lead")
    token = _run(tmp_path, "token", "ann")[0].strip()
    certificate, key = _certificate(tmp_path)
    (tmp_path / "other").mkdir()
    _, wrong = _certificate(tmp_path / "other")
    refused = _run(tmp_path, "serve", "--port", "0", "--tls-cert", str(certificate), "--tls-key", str(wrong))
    options = ["--port", "0", "--tls-cert", str(certificate), "--tls-key", str(key)]
    server = _start(tmp_path, *options)
    try:
        assert server.stderr is not None
        address = server.stderr.readline().removeprefix("listening on ").strip()
        trusted = ssl.create_default_context(cafile=str(certificate))
        answer = httpx.post(f"{address}/sign-in", json={"token": token}, timeout=30, verify=trusted)
    finally:
        _stop(server)

    assert "TlsError" in refused[1]
    assert address.startswith("https://")
    assert "secure" in answer.headers["set-cookie"].lower()


def test_data_goes_to_stdout_and_everything_else_to_stderr(tmp_path: Path) -> None:
    _run(tmp_path, "migrate")
    exported = _run(tmp_path, "export")
    swept = _run(tmp_path, "sweep")

    assert exported == ("", "0 ads; 0 kept back, their limits would not be kept\n")
    assert swept == ("", "0 claims taken back, 0 ads ended\n")


def test_an_unknown_person_gets_no_token(tmp_path: Path) -> None:
    _run(tmp_path, "migrate")

    assert _run(tmp_path, "token", "nobody")[1].startswith("UnknownRecordError")


def test_another_kind_of_database_is_refused_with_the_kinds_there_are() -> None:
    result = CliRunner().invoke(queue, ["migrate", "--database", "mysql://localhost/x"])

    assert isinstance(result.exception, AdytonError)
    assert "sqlite" in str(result.exception.hint)


def test_changing_a_person_keeps_what_is_not_said(tmp_path: Path) -> None:
    _run(tmp_path, "migrate")
    _run(tmp_path, "person", "mo", "--role", "moderator", "--market", "US", "--minutes-per-day", "300")
    desk = Desk(open_engine(f"sqlite:///{tmp_path}/queue.db"))
    with desk.reading() as tx:
        mo = find_person(tx, "mo")
    put_person(desk, None, replace(mo, exposure_budget=7, utc_offset_minutes=480, is_active=False, labels=("a",)))
    told = _run(tmp_path, "person", "mo", "--role", "moderator", "--market", "FR")
    with desk.reading() as tx:
        changed = find_person(tx, "mo")
    _run(tmp_path, "person", "ad", "--role", "advertiser", "--buyer", "shop.example")
    _run(tmp_path, "person", "ad", "--role", "lead")
    with desk.reading() as tx:
        promoted = find_person(tx, "ad")

    assert changed == replace(
        mo, markets=("FR",), exposure_budget=7, utc_offset_minutes=480, is_active=False, labels=("a",)
    )
    assert "not active" in told[1]
    assert promoted.buyer is None
