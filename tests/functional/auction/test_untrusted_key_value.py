"""A seller in test mode asks its own HTTP server for scoring signals, in the form of key/value version 1."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import grpc
import pytest

from adyton.auction.config import parse_config
from adyton.auction.environment import config_from_environment
from adyton.auction.errors import ConfigError, DownstreamError
from adyton.auction.kv_messages import scoring_request, scoring_signals_of_reply
from adyton.auction.services.process import PartyProcess
from adyton.auction.services.untrusted_key_value import UntrustedKeyValue, lookup_url, values_of_answer
from adyton.protocol.messages import bidding_auction_servers_pb2_grpc as ba_grpc

ONE, TWO = "buyer1.example", "buyer2.example"
SCRIPT = """
function scoreAd(ad, bid, config, trusted, browserSignals) {
  const known = trusted && trusted.renderUrl[browserSignals.renderUrl];
  return known && known.approved ? bid : { desirability: 0, rejectReason: 'disapproved-by-exchange' };
}
"""


class FakeServer(ThreadingHTTPServer):
    daemon_threads = True
    answer: tuple[int, bytes]
    paths: list[str]


class _Handler(BaseHTTPRequestHandler):
    server: FakeServer

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        status, body = self.server.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer(("127.0.0.1", 0), _Handler)
    fake.paths, fake.answer = [], (200, b"{}")
    threading.Thread(target=fake.serve_forever, daemon=True).start()
    yield fake
    fake.shutdown()
    fake.server_close()


def url_of(server: FakeServer) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/v1/getvalues"


def test_the_lookup_is_the_one_of_the_reference() -> None:
    request = scoring_request(["https://b/2?x=1&y", "https://a/1", "https://a/1"], client_type=1, experiment_group_id=7)
    assert lookup_url("https://kv.example/v1", request) == (
        "https://kv.example/v1?client_type=1&experimentGroupId=7"
        "&renderUrls=https%3A%2F%2Fa%2F1,https%3A%2F%2Fb%2F2%3Fx%3D1%26y"
    )
    without = scoring_request(["u"], client_type=1)
    assert lookup_url("http://kv", without) == "http://kv?client_type=1&renderUrls=u"


def test_values_keep_their_json_and_other_answers_are_the_servers_fault() -> None:
    values = {"https://a": {"x": [1]}, "https://b": "[2]", "https://c": "text", "https://d": None}
    reply = values_of_answer(json.dumps({"renderUrls": values, "other": 1}).encode())

    assert json.loads(scoring_signals_of_reply(reply)) == {"renderUrls": {**values, "https://b": [2]}}
    for body in (b"", b"[]", b"{}", b'{"renderUrls":[1]}', b"\xff", b'{"renderUrls":NaN}'):
        with pytest.raises(DownstreamError):
            values_of_answer(body)


@pytest.mark.parametrize("answer", [(500, b"{}"), (200, b"not json"), (302, b""), (200, b" " * (5 * 1024 * 1024))])
def test_a_server_that_fails_is_one_error(server: FakeServer, answer: tuple[int, bytes]) -> None:
    server.answer = answer

    async def work() -> None:
        client = UntrustedKeyValue(url_of(server))
        with pytest.raises(DownstreamError):
            await client.get_values(scoring_request(["u"], client_type=1), timeout_s=5)
        await client.close()

    asyncio.run(work())


def test_its_values_reach_the_sellers_script(server: FakeServer, tmp_path: Path, parts: ModuleType) -> None:
    approved = {parts.ad_url(ONE, 7): {"approved": True}, parts.ad_url(TWO, 7): {"approved": False}}
    server.answer = (200, json.dumps({"renderUrls": approved}).encode())

    async def scenario() -> None:
        parts.write_files(tmp_path)
        (tmp_path / "approving.js").write_text(SCRIPT)
        async with (
            PartyProcess(parse_config(parts.buyer_document(tmp_path, ONE))) as one,
            PartyProcess(parse_config(parts.buyer_document(tmp_path, TWO))) as two,
        ):
            addresses = {ONE: one.addresses.grpc, TWO: two.addresses.grpc}
            document = parts.seller_document(
                tmp_path, addresses, uses_scoring_signals=True, untrusted_key_value_url=url_of(server)
            )
            document["auction"]["score_ad"] = str(tmp_path / "approving.js")
            async with (
                PartyProcess(parse_config(document)) as seller,
                grpc.aio.insecure_channel(seller.addresses.grpc) as channel,
            ):
                ciphertext, context = parts.encrypt(parts.client_input({ONE: b"\x07", TWO: b"\x07"}))
                reply = await ba_grpc.SellerFrontEndStub(channel).SelectAd(
                    parts.select_ad_request(ciphertext), timeout=30
                )
                # The other buyer bids more, and is not approved.
                assert parts.decrypt(reply, context).interest_group_owner == ONE

    asyncio.run(scenario())
    (path,) = server.paths
    assert path.startswith("/v1/getvalues?client_type=1&renderUrls=https%3A%2F%2Fcdn.buyer1.example%2Fad-7,https")


def test_outside_of_test_mode_it_is_never_asked(tmp_path: Path, parts: ModuleType) -> None:
    document = parts.seller_document(tmp_path, {}, untrusted_key_value_url="https://kv.example")
    assert parse_config(document).seller_front_end is not None
    keys = {"private_keys": "keys.json", "public_keys": "https://keys"}
    with pytest.raises(ConfigError, match="test mode"):
        parse_config({**document, "test_mode": False, "keys": keys})

    environ = {"SELLER_ORIGIN_DOMAIN": "s", "AUCTION_SERVER_HOST": "a:1", "KEY_VALUE_SIGNALS_HOST": "https://kv"}
    production = {"PUBLIC_KEY_ENDPOINT": "https://k", "ADYTON_PRIVATE_KEYS": "k.json"}
    asked = [
        config_from_environment({**environ, **more}).seller_front_end
        for more in ({"TEST_MODE": "true"}, production, {"TEST_MODE": "true", "TEE_KV_SERVER_ADDR": "kv:1"})
    ]
    assert [front.untrusted_key_value_url for front in asked if front] == ["https://kv", None, None]
    assert [front.uses_scoring_signals for front in asked if front] == [True, False, True]
