"""`adyton device`: a person plays a device over several calls."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import click
import grpc
import pytest
from click.testing import CliRunner, Result

from adyton.cli.device import device
from adyton.device.errors import (
    AdTechServerError,
    BackgroundCallerError,
    EnrolmentFileError,
    NotAllowedError,
    UnknownSelectionError,
)
from adyton.kernel.errors import BadInputError, PeerError, UnavailableError
from adyton.protocol.compression import gzip_compress
from adyton.protocol.errors import SignalUpdateError
from adyton.protocol.frames import Compression, decode_client_frame, encode_client_frame, padded_response_size
from adyton.protocol.keys import KeyRing
from adyton.protocol.messages import bidding_auction_servers_pb2 as messages
from adyton.protocol.messages import bidding_auction_servers_pb2_grpc as services
from adyton.protocol.ohttp import decapsulate_request

BUYER = "buyer.example"
VALUE = b"a-secret-signal"
SCRIPT = "function encodeSignals(s, n) { return {status: 0, results: [...s.values()][0][0].signal_value} }"


def call(home: Path, *arguments: str, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(device, ["--home", str(home), *arguments], input=stdin, standalone_mode=False)


def ok(home: Path, *arguments: str, stdin: str | bytes | None = None) -> str:
    result = call(home, *arguments, stdin=stdin)
    assert result.exception is None, result.exception
    return result.stdout


def update(home: Path, package: str = "com.news") -> None:
    body = json.dumps({"put": {"AAAAAQ==": base64.b64encode(VALUE).decode()}})
    assert ok(home, "update", "--package", package, "--buyer", BUYER, "--file", "-", stdin=body) == ""


def answer(request: messages.SelectAdRequest, result: messages.AuctionResult) -> bytes:
    _, context = decapsulate_request(KeyRing.test_mode(), request.protected_auction_ciphertext)
    payload = gzip_compress(result.SerializeToString())
    frame = encode_client_frame(payload, compression=Compression.GZIP, size=padded_response_size(len(payload)))
    return context.encapsulate_response(frame)


def opened_input(request: messages.SelectAdRequest) -> messages.ProtectedAuctionInput:
    plaintext, _ = decapsulate_request(KeyRing.test_mode(), request.protected_auction_ciphertext)
    return messages.ProtectedAuctionInput.FromString(decode_client_frame(plaintext, read_compression=False).payload)


WINNER = messages.AuctionResult(ad_render_url=f"https://{BUYER}/ad", interest_group_owner=BUYER, score=1, ad_type=2)


@pytest.fixture
def seller_front_end() -> Iterator[str]:
    """A gRPC server that lets one ad win, and refuses a configuration without seller signals."""
    started, address, loop = threading.Event(), [""], asyncio.new_event_loop()

    class Servicer(services.SellerFrontEndServicer):
        async def SelectAd(
            self, request: messages.SelectAdRequest, context: grpc.aio.ServicerContext
        ) -> messages.SelectAdResponse:
            if not request.auction_config.seller_signals:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Seller signals missing in auction config")
            response = messages.SelectAdResponse(auction_result_ciphertext=answer(request, WINNER))
            if opened_input(request).consented_debug_config.token == "a-token":
                response.debug_info.logs.append("3 bids")
            return response

    async def serve() -> None:
        server = grpc.aio.server()
        services.add_SellerFrontEndServicer_to_server(Servicer(), server)
        address[0] = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        started.set()
        await stop.wait()
        await server.stop(None)

    stop = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert started.wait(20)
    yield address[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


def test_signals_are_listed_by_size_and_time_and_never_by_value(tmp_path: Path) -> None:
    update(tmp_path)

    listed = ok(tmp_path, "signals", "list", "--json")
    table = ok(tmp_path, "signals", "list")

    (row,) = json.loads(listed)
    assert (row["buyer"], row["package"], row["size_bytes"]) == (BUYER, "com.news", 4 + len(VALUE))
    for text in (listed, table):
        assert VALUE.decode() not in text
        assert base64.b64encode(VALUE).decode() not in text
    assert BUYER in table
    assert VALUE not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


def test_from_signals_to_a_winning_ad(tmp_path: Path, seller_front_end: str) -> None:
    home, config = tmp_path / "device", tmp_path / "config.json"
    config.write_text(json.dumps({"seller_signals": "{}", "buyer_list": [BUYER]}))
    update(home)
    ok(home, "install-encoder", "--buyer", BUYER, "--script", "-", "--version", "3", stdin=SCRIPT)

    (encoded,) = json.loads(ok(home, "encode", "--json"))
    common = ("select", "--package", "com.news", "--seller", "seller.example", "--test-key", "--json")
    won = json.loads(ok(home, *common, "--sfe", seller_front_end, "--config", str(config)))
    told = json.loads(ok(home, "report", str(won["ad_selection_id"]), "--json"))

    assert encoded == {"buyer": BUYER, "step": "encode", "payload_bytes": len(VALUE), "failure": None}
    assert (won["ad_render_uri"], won["buyer"]) == (f"https://{BUYER}/ad", BUYER)
    assert told == {"sent": [], "failed": []}


def test_options_of_a_selection_reach_the_seller(tmp_path: Path, seller_front_end: str) -> None:
    home, config = tmp_path / "device", tmp_path / "config.json"
    config.write_text(json.dumps({"seller_signals": "{}", "buyer_list": [BUYER]}))
    common = ("select", "--package", "p", "--seller", "s.example", "--test-key", "--json")
    asked = json.loads(ok(home, *common, "--max-bytes", "3000", "--unlimited-egress", "--debug-token", "t"))
    ciphertext = base64.b64decode(asked["protected_auction_ciphertext"])
    message = opened_input(messages.SelectAdRequest(protected_auction_ciphertext=ciphertext))

    assert len(ciphertext) == 1 + 7 + 32 + 3000 + 16
    assert message.enable_unlimited_egress
    assert (message.consented_debug_config.token, message.consented_debug_config.is_debug_info_in_response) == (
        "t",
        True,
    )
    told = call(home, *common, "--sfe", seller_front_end, "--config", str(config), "--debug-token", "a-token")
    assert json.loads(told.stdout)["buyer"] == BUYER
    assert json.loads(told.stderr) == {"logs": ["3 bids"]}
    assert call(home, *common, "--sfe", seller_front_end, "--config", str(config)).stderr == ""


def test_uninstalling_and_clearing_data_forget_an_app(tmp_path: Path) -> None:
    for command in ("uninstall", "clear-data"):
        update(tmp_path)
        update(tmp_path, "com.shop")
        ok(tmp_path, command, "com.news")
        assert [app["package"] for app in json.loads(ok(tmp_path, "apps", "--json"))] == ["com.shop"]


def test_an_app_in_the_background_is_refused_where_the_foreground_is_enforced(tmp_path: Path) -> None:
    arguments = ("update", "--package", "com.news", "--uri", f"https://{BUYER}/u", "--background")
    route = ("--route", f"{BUYER}=http://127.0.0.1:9")

    assert isinstance(call(tmp_path, *route, *arguments).exception, AdTechServerError)
    assert isinstance(call(tmp_path, "--enforce-foreground", *route, *arguments).exception, BackgroundCallerError)


def test_the_ciphertext_can_go_through_an_ad_server_by_hand(tmp_path: Path) -> None:
    asked = json.loads(ok(tmp_path, "select", "--package", "p", "--seller", "s.example", "--test-key", "--json"))
    ciphertext = base64.b64decode(asked["protected_auction_ciphertext"])
    response = answer(messages.SelectAdRequest(protected_auction_ciphertext=ciphertext), WINNER)

    number = str(asked["ad_selection_id"])
    text = ok(tmp_path, "result", number, "-", stdin=base64.b64encode(response))

    assert f"ad_render_uri: https://{BUYER}/ad" in text
    assert isinstance(call(tmp_path, "result", number, "AAAA").exception, UnknownSelectionError)
    assert isinstance(call(tmp_path, "result", number, "?").exception, BadInputError)


def test_a_refusal_of_the_seller_is_the_other_partys_fault(tmp_path: Path, seller_front_end: str) -> None:
    config = tmp_path / "config.json"
    config.write_text("{}")
    common = ("select", "--package", "p", "--seller", "s.example", "--test-key", "--config", str(config), "--sfe")

    refused = call(tmp_path, *common, seller_front_end)
    absent = call(tmp_path, *common, "127.0.0.1:1")
    config.write_text('{"unknown": 1}')
    malformed = call(tmp_path, *common, seller_front_end)

    assert isinstance(refused.exception, PeerError)
    assert "Seller signals missing in auction config" in str(refused.exception)
    assert isinstance(absent.exception, UnavailableError)
    assert isinstance(malformed.exception, BadInputError)


def test_blocking_and_resetting_work_over_calls(tmp_path: Path) -> None:
    update(tmp_path)
    ok(tmp_path, "block", "com.news")
    update(tmp_path)
    (app,) = json.loads(ok(tmp_path, "apps", "--json"))
    assert app.pop("consented_at").endswith("Z")
    assert app == {"package": "com.news", "signals": 0, "size_bytes": 0, "blocked": True}
    ok(tmp_path, "unblock", "com.news")
    update(tmp_path)
    assert len(json.loads(ok(tmp_path, "signals", "list", "--json"))) == 1
    ok(tmp_path, "reset")
    assert json.loads(ok(tmp_path, "signals", "list", "--json")) == []
    ok(tmp_path, "opt-out")
    update(tmp_path)
    assert json.loads(ok(tmp_path, "signals", "list", "--json")) == []
    ok(tmp_path, "opt-in")
    update(tmp_path)
    ok(tmp_path, "maintain")
    assert len(json.loads(ok(tmp_path, "signals", "list", "--json"))) == 1


def test_a_failing_script_sets_the_exit_code(tmp_path: Path) -> None:
    update(tmp_path)
    ok(tmp_path, "install-encoder", "--buyer", BUYER, "--script", "-", stdin="function encodeSignals() { throw 1 }")

    result = call(tmp_path, "encode", "--json")

    assert result.return_value == PeerError.exit_code
    assert json.loads(result.stdout)[0]["failure"]


def test_the_enrolment_file_decides_who_may_store(tmp_path: Path) -> None:
    enrolment = tmp_path / "enrolment.json"
    enrolment.write_text(json.dumps({"ad_techs": [{"domain": "other.example"}]}))
    arguments = ("update", "--package", "p", "--buyer", BUYER, "--file", "-")

    result = call(tmp_path, "--enrolment", str(enrolment), *arguments, stdin="{}")
    enrolment.write_text(json.dumps({"ad_techs": [{"domains": 1}]}))
    broken = call(tmp_path, "--enrolment", str(enrolment), *arguments, stdin="{}")

    assert isinstance(result.exception, NotAllowedError)
    assert isinstance(broken.exception, EnrolmentFileError)


def test_a_bad_update_is_bad_input_and_two_sources_are_a_usage_error(tmp_path: Path) -> None:
    assert isinstance(
        call(tmp_path, "update", "--package", "p", "--buyer", BUYER, "--file", "-", stdin="[]").exception,
        SignalUpdateError,
    )
    usage = CliRunner().invoke(device, ["--home", str(tmp_path), "update", "--package", "p"])
    assert usage.exit_code == 2


def test_a_seller_front_end_without_an_address_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    front_end = ("--sfe", "", "--config", str(tmp_path / "config.json"))
    refused = call(tmp_path, "select", "--package", "p", "--seller", "s", "--test-key", *front_end)
    assert isinstance(refused.exception, BadInputError)


@pytest.mark.parametrize(
    "arguments",
    [
        ("report", "9" * 30),
        ("report", "0"),
        ("result", "9" * 30, "AAAA"),
        ("install-encoder", "--buyer", BUYER, "--script", "-", "--version", str(2**31)),
        ("select", "--package", "p", "--seller", "s", "--test-key", "--max-bytes", str(10**11)),
        ("--route", "buyer.example=127.0.0.1", "signals", "list"),
    ],
)
def test_a_number_or_address_that_cannot_be_is_a_usage_error(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert isinstance(call(tmp_path, *arguments, stdin=SCRIPT).exception, click.BadParameter)


def test_names_of_apps_and_ad_techs_are_checked_before_anything_is_stored(tmp_path: Path) -> None:
    for control in ("block", "unblock", "uninstall", "clear-data"):
        assert isinstance(call(tmp_path, control, "").exception, BadInputError)
        assert isinstance(call(tmp_path, control, "com.news ").exception, BadInputError)
    for buyer in ("", "https://buyer.example", "Buyer.example", "b" * 254):
        refused = call(tmp_path, "update", "--package", "p", "--buyer", buyer, "--file", "-", stdin='{"put": {}}')
        installed = call(tmp_path, "install-encoder", "--buyer", buyer, "--script", "-", stdin=SCRIPT)
        assert [type(result.exception) for result in (refused, installed)] == [BadInputError, BadInputError]
    assert json.loads(ok(tmp_path, "apps", "--json")) == json.loads(ok(tmp_path, "encode", "--json")) == []


def test_an_error_names_the_file_it_is_about(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("{}")
    for arguments in (
        ("--enrolment", str(file), "signals", "list"),
        ("select", "--package", "p", "--seller", "s", "--keys", str(file)),
    ):
        assert str(call(tmp_path, *arguments).exception).startswith(f"{file}, ")
    file.write_bytes(b"\xff")
    for arguments in (
        ("update", "--package", "p", "--buyer", BUYER, "--file", str(file)),
        ("install-encoder", "--buyer", BUYER, "--script", str(file)),
        ("select", "--package", "p", "--seller", "s", "--test-key", "--sfe", "127.0.0.1:1", "--config", str(file)),
    ):
        error = call(tmp_path, *arguments).exception
        assert isinstance(error, BadInputError)
        assert str(error).startswith(f"{file}: ")
