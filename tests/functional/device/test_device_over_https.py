"""A device against real HTTPS servers on this machine, with a test authority, and real scripts in the sandbox."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from adyton.device.delegation import Grant, sign_token
from adyton.device.device import Device
from adyton.device.encoding import REFRESH_AFTER_MS, Step
from adyton.device.enrolment import AdTech, App, Enrolment
from adyton.device.errors import (
    AdTechServerError,
    DelegationError,
    NoPublicKeyError,
    NotAllowedError,
    RateExceededError,
    UpdateUriError,
)
from adyton.device.reporting import Destination
from adyton.device.runtime import SandboxEncoder
from adyton.device.web import Web
from adyton.kernel.clock import ManualClock
from adyton.kernel.ids import BuyerId
from adyton.protocol.compression import gzip_compress, gzip_decompress
from adyton.protocol.errors import KeyListError, SignalUpdateError
from adyton.protocol.frames import Compression, decode_client_frame, encode_client_frame, padded_response_size
from adyton.protocol.keys import TEST_MODE_KEY, KeyRing, PrivateKey, print_public_key_list
from adyton.protocol.messages import bidding_auction_servers_pb2 as messages
from adyton.protocol.ohttp import decapsulate_request
from adyton.sandbox.pool import SandboxPool

BUYER, SELLER, PARTNER = "buyer.example", "seller.example", "partner.example"
ENCODER = b"""
function encodeSignals(signals, maxSize) {
  const out = [maxSize >> 8, maxSize & 255];
  for (const [key, values] of signals) {
    for (const v of values) {
      if (typeof v.creation_time !== "number" || v.package_name !== "com.news") throw new Error("shape");
      out.push(...key, ...v.signal_value);
    }
  }
  return {status: 0, results: new Uint8Array(out)};
}
"""


@dataclass
class Answer:
    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    before: Callable[[], None] = lambda: None


@dataclass
class Seen:
    method: str
    host: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class AdTechs:
    """Every ad tech's server at once: answers by (host, path)."""

    port: int
    answers: dict[str, Answer] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    tls: ssl.SSLContext | None = None

    def web(self) -> Web:
        routes = dict.fromkeys((BUYER, f"ads.{BUYER}", SELLER, PARTNER, "x.example"), f"https://127.0.0.1:{self.port}")
        return Web(tls=self.tls, routes=routes)


def authority_and_certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "adyton test")])
    now = datetime.now(UTC)
    import ipaddress

    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    public, both = folder / "ca.pem", folder / "server.pem"
    public.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    both.write_bytes(private + public.read_bytes())
    return public, both


@pytest.fixture
def ad_techs(tmp_path: Path) -> Iterator[AdTechs]:
    public, both = authority_and_certificate(tmp_path)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            host = self.headers["Host"]
            techs.seen.append(Seen(self.command, host, self.path, dict(self.headers), body))
            answer = techs.answers.get(f"{host}{self.path}", Answer(status=404))
            answer.before()
            self.send_response(answer.status)
            self.send_header("Content-Length", str(len(answer.body)))
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    techs = AdTechs(server.server_port, tls=ssl.create_default_context(cafile=public))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield techs
    server.shutdown()
    thread.join()
    server.server_close()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def put(value: bytes, **more: object) -> bytes:
    return json.dumps({"put": {"AAAAAQ==": b64(value)}, **more}).encode()


def in_loop(
    ad_techs: AdTechs,
    steps: Callable[[Device, ManualClock], object],
    *,
    enrolment: Enrolment | None = None,
    runs_scripts: bool = False,
) -> None:
    async def main() -> None:
        async with ad_techs.web() as web, AsyncExitStack() as stack:
            pool = await stack.enter_async_context(SandboxPool()) if runs_scripts else None
            clock = ManualClock(10**12)
            device = Device.open(
                None,
                web=web,
                runtime=SandboxEncoder(pool) if pool else None,
                clock=clock,
                enrolment=enrolment or Enrolment.of([AdTech(BuyerId(BUYER))]),
                public_keys=[TEST_MODE_KEY.public_key],
            )
            await steps(device, clock)  # type: ignore[misc]

    asyncio.run(main())


def test_from_an_update_to_the_reports_of_a_win(ad_techs: AdTechs, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    register = {"update_encoder": {"action": "REGISTER", "endpoint": f"https://{BUYER}/encoder.js"}}
    ad_techs.answers = {
        f"{BUYER}/signals": Answer(put(b"hello", **register)),
        f"{BUYER}/encoder.js": Answer(ENCODER, headers={"X_ENCODER_VERSION": "12"}),
        f"{BUYER}/win": Answer(),
        f"{SELLER}/win": Answer(status=500),
        f"{BUYER}/click": Answer(status=204),
    }

    async def steps(device: Device, clock: ManualClock) -> None:
        await device.update_signals(f"https://{BUYER}/signals", package="com.news")
        assert [outcome.step for outcome in await device.encode()] == [Step.RUN]
        asked = device.get_ad_selection_data(SELLER, package="com.news")

        plaintext, context = decapsulate_request(KeyRing.test_mode(), asked.data)
        message = messages.ProtectedAuctionInput.FromString(
            decode_client_frame(plaintext, read_compression=False).payload
        )
        signals = messages.BuyerInput.FromString(gzip_decompress(message.buyer_input[BUYER])).protected_app_signals
        assert signals.app_install_signals == b"\x06\x00" + b"\0\0\0\1" + b"hello"
        assert signals.encoding_version == 12

        result = messages.AuctionResult(
            ad_render_url=f"https://ads.{BUYER}/1",
            interest_group_owner=BUYER,
            score=1,
            ad_type=messages.AD_TYPE_PROTECTED_APP_SIGNALS_AD,
            win_reporting_urls={
                "buyer_reporting_urls": {
                    "reporting_url": f"https://{BUYER}/win",
                    "interaction_reporting_urls": {"click": f"https://{BUYER}/click"},
                },
                "top_level_seller_reporting_urls": {"reporting_url": f"https://{SELLER}/win"},
            },
        )
        payload = gzip_compress(result.SerializeToString())
        frame = encode_client_frame(payload, compression=Compression.GZIP, size=padded_response_size(len(payload)))
        device.persist_ad_selection_result(asked.ad_selection_id, context.encapsulate_response(frame))
        impression = await device.report_impression(asked.ad_selection_id)
        click = await device.report_event(asked.ad_selection_id, "click", '{"x":1}')
        other = await device.report_event(asked.ad_selection_id, "view", "x")

        assert (impression.sent, impression.failed) == ((Destination.BUYER,), (Destination.SELLER,))
        assert (click.sent, click.failed) == ((Destination.BUYER,), ())
        assert (other.sent, other.failed) == ((), ())

    in_loop(ad_techs, steps, runs_scripts=True)

    for secret in ("hello", b64(b"hello"), b"hello".hex(), "/win", "/signals"):
        assert secret not in caplog.text
    assert [f"{s.method} {s.host}{s.path}" for s in ad_techs.seen[:2]] == [
        f"GET {BUYER}/signals",
        f"GET {BUYER}/encoder.js",
    ]
    headers = {name.upper(): value for name, value in ad_techs.seen[0].headers.items()}
    assert headers["X-PROTECTED-SIGNALS-PACKAGE"] == "com.news"
    assert "COOKIE" not in headers
    assert (ad_techs.seen[-1].method, ad_techs.seen[-1].body) == ("POST", b'{"x":1}')


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(b"{" + b" " * (10 * 1024)), AdTechServerError),
        (Answer(b"{}", status=404), AdTechServerError),
        (Answer(b"", status=302, headers={"Location": f"https://{BUYER}/other"}), AdTechServerError),
        (Answer(b"not json"), SignalUpdateError),
        (Answer(gzip_compress(b"{}"), headers={"Content-Encoding": "gzip"}), SignalUpdateError),
    ],
    ids=["too large", "not found", "redirect", "no JSON", "compressed"],
)
def test_an_unusable_answer_stores_nothing(ad_techs: AdTechs, answer: Answer, error: type[Exception]) -> None:
    ad_techs.answers = {f"{BUYER}/signals": answer, f"{BUYER}/other": Answer(put(b"x"))}

    async def steps(device: Device, clock: ManualClock) -> None:
        with pytest.raises(error):
            await device.update_signals(f"https://{BUYER}/signals", package="com.news")
        assert device.list_signals() == []

    in_loop(ad_techs, steps)


def test_a_body_of_exactly_ten_kibibytes_is_accepted(ad_techs: AdTechs) -> None:
    body = put(b"x")
    ad_techs.answers = {f"{BUYER}/signals": Answer(body + b" " * (10 * 1024 - len(body)))}

    async def steps(device: Device, clock: ManualClock) -> None:
        await device.update_signals(f"https://{BUYER}/signals", package="com.news")
        assert len(device.list_signals()) == 1

    in_loop(ad_techs, steps)


def test_one_request_a_second_and_app(ad_techs: AdTechs) -> None:
    ad_techs.answers = {f"{BUYER}/signals": Answer(put(b"x"))}

    async def steps(device: Device, clock: ManualClock) -> None:
        url = f"https://{BUYER}/signals"
        await device.update_signals(url, package="com.news")
        clock.advance_ms(999)
        with pytest.raises(RateExceededError):
            await device.update_signals(url, package="com.news")
        await device.update_signals(url, package="com.other")
        clock.advance_ms(1)
        await device.fetch_signal_updates(url, package="com.news")

    in_loop(ad_techs, steps)


@pytest.mark.parametrize(
    ("uri", "error", "text"),
    [
        ("", UpdateUriError, "should be specified"),
        ("https:///x", UpdateUriError, "should have present host"),
        (f"http://{BUYER}/x", UpdateUriError, "should use HTTPS"),
        ("https://[x", UpdateUriError, "malformed"),
        ("https://x.example/", NotAllowedError, "not enrolled"),
        (f"https://not{BUYER}/", NotAllowedError, "not enrolled"),
    ],
)
def test_a_uri_that_may_not_be_fetched_is_not(ad_techs: AdTechs, uri: str, error: type[Exception], text: str) -> None:
    async def steps(device: Device, clock: ManualClock) -> None:
        with pytest.raises(error, match=text):
            await device.update_signals(uri, package="com.news")

    in_loop(ad_techs, steps)

    assert ad_techs.seen == []


def test_a_blocked_app_and_an_opt_out_fetch_nothing_and_say_nothing(ad_techs: AdTechs) -> None:
    ad_techs.answers = {f"{BUYER}/signals": Answer(put(b"x"))}

    async def steps(device: Device, clock: ManualClock) -> None:
        device.block_app("com.news")
        await device.update_signals(f"https://{BUYER}/signals", package="com.news")
        device.opt_out()
        await device.update_signals(f"https://{BUYER}/signals", package="com.shop")

    in_loop(ad_techs, steps)

    assert ad_techs.seen == []


def test_an_app_blocked_while_its_update_is_on_the_way_stores_nothing(ad_techs: AdTechs) -> None:
    asked, answered = threading.Event(), threading.Event()

    def wait_for_the_user() -> None:
        asked.set()
        assert answered.wait(10)

    ad_techs.answers = {f"{BUYER}/signals": Answer(put(b"x"), before=wait_for_the_user)}

    async def steps(device: Device, clock: ManualClock) -> None:
        update = asyncio.create_task(device.update_signals(f"https://{BUYER}/signals", package="com.news"))
        await asyncio.to_thread(asked.wait, 10)
        device.block_app("com.news")
        answered.set()
        await update
        assert device.list_signals() == []

    in_loop(ad_techs, steps)


def test_the_callers_package_must_be_its_own(ad_techs: AdTechs) -> None:
    enrolment = Enrolment.of([AdTech(BuyerId(BUYER))], [App("com.news", uid=10001)])
    ad_techs.answers = {f"{BUYER}/signals": Answer(put(b"x"))}

    async def steps(device: Device, clock: ManualClock) -> None:
        with pytest.raises(NotAllowedError, match="does not match"):
            await device.update_signals(f"https://{BUYER}/signals", package="com.news", uid=10002)
        await device.update_signals(f"https://{BUYER}/signals", package="com.news", uid=10001)

    in_loop(ad_techs, steps, enrolment=enrolment)


def test_a_server_that_no_authority_vouches_for_is_not_believed(ad_techs: AdTechs) -> None:
    ad_techs.tls = ssl.create_default_context()
    ad_techs.answers = {f"{BUYER}/signals": Answer(put(b"x"))}

    async def steps(device: Device, clock: ManualClock) -> None:
        with pytest.raises(AdTechServerError, match="ConnectError"):
            await device.update_signals(f"https://{BUYER}/signals", package="com.news")

    in_loop(ad_techs, steps)

    assert ad_techs.seen == []


# ---- delegation

PRIVATE = bytes(range(32))
VERIFICATION_KEY = Ed25519PrivateKey.from_private_bytes(PRIVATE).public_key().public_bytes_raw()
NOW_MS = 10**12


def token(**changes: object) -> str:
    grant = {"ad_tech": BUYER, "partner": PARTNER, "package": "com.news", "not_after_ms": NOW_MS, **changes}
    return sign_token(Grant(**grant), PRIVATE)  # type: ignore[arg-type]


def delegating(**more: object) -> Enrolment:
    return Enrolment.of([AdTech(BuyerId(BUYER), verification_key=VERIFICATION_KEY, **more)])  # type: ignore[arg-type]


def test_a_partner_with_a_token_stores_signals_of_the_ad_tech(ad_techs: AdTechs) -> None:
    ad_techs.answers = {f"{PARTNER}/signals": Answer(put(b"x"))}

    async def steps(device: Device, clock: ManualClock) -> None:
        await device.update_signals(
            f"https://{PARTNER}/signals", package="com.news", buyer=BUYER, verification_token=token()
        )
        assert [signal.buyer for signal in device.list_signals()] == [BUYER]

    in_loop(ad_techs, steps, enrolment=delegating())


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "x.y",
        token()[:-8],
        token(ad_tech="other.example"),
        token(partner="x.example"),
        token(package="com.other"),
        token(not_after_ms=NOW_MS - 1),
        sign_token(Grant(BUYER, PARTNER, "com.news", NOW_MS), b"\x09" * 32),
    ],
    ids=["none", "empty", "garbage", "cut", "ad tech", "partner", "app", "expired", "another signer"],
)
def test_without_a_token_for_exactly_this_nothing_is_fetched(ad_techs: AdTechs, given: str | None) -> None:
    ad_techs.answers = {f"{PARTNER}/signals": Answer(put(b"x"))}

    async def steps(device: Device, clock: ManualClock) -> None:
        with pytest.raises(DelegationError):
            await device.update_signals(
                f"https://{PARTNER}/signals", package="com.news", buyer=BUYER, verification_token=given
            )

    in_loop(ad_techs, steps, enrolment=delegating())

    assert ad_techs.seen == []


@pytest.mark.parametrize("status", [200, 403])
def test_an_ad_tech_that_wants_to_acknowledge_decides(ad_techs: AdTechs, status: int) -> None:
    body = put(b"x")
    ad_techs.answers = {f"{PARTNER}/signals": Answer(body), f"{BUYER}/acknowledge": Answer(status=status)}

    async def steps(device: Device, clock: ManualClock) -> None:
        update = device.update_signals(
            f"https://{PARTNER}/signals", package="com.news", buyer=BUYER, verification_token=token()
        )
        if status == 200:
            await update
        else:
            with pytest.raises(DelegationError, match="did not acknowledge"):
                await update
        assert len(device.list_signals()) == (status == 200)

    in_loop(ad_techs, steps, enrolment=delegating(acknowledgement_endpoint=f"https://{BUYER}/acknowledge"))

    headers = {name.upper(): value for name, value in ad_techs.seen[-1].headers.items()}
    assert headers["X-PROTECTED-SIGNALS-DIGEST"] == hashlib.sha256(body).hexdigest()
    assert headers["X-PROTECTED-SIGNALS-PARTNER"] == PARTNER


# ---- encoding scripts


def test_a_new_endpoint_is_used_at_the_next_refresh_only(ad_techs: AdTechs) -> None:
    def registering(path: str) -> Answer:
        return Answer(put(b"x", update_encoder={"action": "REGISTER", "endpoint": f"https://{BUYER}{path}"}))

    ad_techs.answers = {
        f"{BUYER}/first": registering("/one.js"),
        f"{BUYER}/second": registering("/two.js"),
        f"{BUYER}/one.js": Answer(ENCODER, headers={"X_ENCODER_VERSION": "1"}),
        f"{BUYER}/two.js": Answer(b"function encodeSignals() { return null }", headers={"X_ENCODER_VERSION": "2"}),
    }

    async def steps(device: Device, clock: ManualClock) -> None:
        await device.update_signals(f"https://{BUYER}/first", package="com.news")
        clock.advance_ms(1000)
        await device.update_signals(f"https://{BUYER}/second", package="com.news")
        assert [o.failure for o in await device.encode()] == [None]
        clock.advance_ms(REFRESH_AFTER_MS)
        assert [o.step for o in await device.encode()] == [Step.UNCHANGED]
        failure = [o.failure for o in await device.encode()]
        assert failure == [
            "The encoding script either doesn't contain the required function or the function returned null"
        ]

    in_loop(ad_techs, steps, runs_scripts=True)

    assert [s.path for s in ad_techs.seen] == ["/first", "/one.js", "/second", "/two.js"]


@pytest.mark.parametrize(
    "script", [b"", b"  \n", b"\xff\xfe", b"x" * 1_048_577], ids=["empty", "blank", "binary", "large"]
)
def test_a_script_that_cannot_be_used_is_not_stored_and_the_signals_are(ad_techs: AdTechs, script: bytes) -> None:
    register = {"update_encoder": {"action": "REGISTER", "endpoint": f"https://{BUYER}/encoder.js"}}
    ad_techs.answers = {f"{BUYER}/signals": Answer(put(b"x", **register)), f"{BUYER}/encoder.js": Answer(script)}

    async def steps(device: Device, clock: ManualClock) -> None:
        await device.update_signals(f"https://{BUYER}/signals", package="com.news")
        assert len(device.list_signals()) == 1
        assert [o.step for o in await device.encode()] == [Step.NO_ENCODER]

    in_loop(ad_techs, steps)


def test_hostile_scripts_cost_their_buyer_a_payload_and_nothing_else(ad_techs: AdTechs) -> None:
    scripts = {
        "throws.example": b"function encodeSignals() { throw new Error('no') }",
        "large.example": b"function encodeSignals(s, n) { return {status: 0, results: new Uint8Array(n + 1)} }",
        "status.example": b"function encodeSignals() { return {status: 1, results: new Uint8Array(1)} }",
        "string.example": b"function encodeSignals() { return {status: 0, results: 'text'} }",
        "syntax.example": b"function (",
        "good.example": ENCODER,
    }

    async def steps(device: Device, clock: ManualClock) -> None:
        for buyer, script in scripts.items():
            device.apply_update(buyer, "com.news", put(b"x"))
            device.install_encoder(buyer, script)
        outcomes = {o.buyer: (o.failure, o.payload_bytes) for o in await device.encode()}

        assert outcomes == {
            "throws.example": (
                "The encoding script either doesn't contain the required function or the function returned null",
                None,
            ),
            "large.example": ("Payload size exceeds limits.", None),
            "status.example": ("Exception processing result from encoding", None),
            "string.example": ("Malformed encoded payload.", None),
            "syntax.example": ("Exception processing result from encoding", None),
            "good.example": (None, 7),
        }

    in_loop(ad_techs, steps, enrolment=Enrolment(is_enforced=False), runs_scripts=True)


def test_the_key_list_is_fetched_once_while_it_is_fresh(ad_techs: AdTechs) -> None:
    listed = print_public_key_list([TEST_MODE_KEY.public_key]).encode()
    ad_techs.answers = {f"{SELLER}/keys": Answer(listed, headers={"Cache-Control": "max-age=60", "Age": "10"})}

    async def steps(device: Device, clock: ManualClock) -> None:
        for pause_ms in (0, 49_999, 1):
            clock.advance_ms(pause_ms)
            await device.fetch_public_keys(f"https://{SELLER}/keys")

    in_loop(ad_techs, steps)

    assert len(ad_techs.seen) == 2


def test_each_coordinator_has_a_key_list_of_its_own(ad_techs: AdTechs) -> None:
    one, two = (PrivateKey.generate(number).public_key for number in (11, 22))
    ad_techs.answers = {
        f"{SELLER}/one": Answer(print_public_key_list([one]).encode()),
        f"{SELLER}/two": Answer(print_public_key_list([two]).encode()),
        f"{SELLER}/none": Answer(b"{}"),
    }
    origins = ("https://one.example", "https://two.example")

    async def steps(device: Device, clock: ManualClock) -> None:
        for name, origin in zip(("one", "two"), origins, strict=True):
            await device.fetch_public_keys(f"https://{SELLER}/{name}", coordinator=origin)
        with pytest.raises(KeyListError):
            await device.fetch_public_keys(f"https://{SELLER}/none", coordinator="https://none.example")
        # The key's number is the second byte of a request in the current format.
        numbers = [
            device.get_ad_selection_data(SELLER, package="com.news", coordinator=origin).data[1]
            for origin in ("", *origins)
        ]
        assert numbers == [TEST_MODE_KEY.key_id, 11, 22]
        for unknown in ("https://none.example", "https://other.example"):
            with pytest.raises(NoPublicKeyError) as caught:
                device.get_ad_selection_data(SELLER, package="com.news", coordinator=unknown)
            assert caught.value.where == unknown

    in_loop(ad_techs, steps)
