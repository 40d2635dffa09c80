"""Any bytes that a server could send are an outcome or the one documented error."""

from __future__ import annotations

import httpx
from hypothesis import given
from hypothesis import strategies as st

from adyton.device.auction import open_auction_result, outcome_from_bytes, outcome_to_bytes
from adyton.device.enrolment import https_host
from adyton.device.errors import AuctionResultError, UpdateUriError
from adyton.kernel.ids import AdSelectionId
from adyton.protocol.compression import gzip_compress
from adyton.protocol.frames import Compression, encode_client_frame
from adyton.protocol.keys import TEST_MODE_KEY, KeyRing
from adyton.protocol.messages import bidding_auction_servers_pb2 as messages
from adyton.protocol.ohttp import Label, decapsulate_request, encapsulate_request

BODY, CLIENT = encapsulate_request(TEST_MODE_KEY.public_key, b"x", Label.SFE_CURRENT)
_, SERVER = decapsulate_request(KeyRing.test_mode(), BODY)

urls = st.sampled_from(
    [
        "",
        "https://buyer.example/x",
        "https://a.buyer.example",
        "http://buyer.example",
        "https://[",
        "https://\u00e9/",
        "x",
    ]
) | st.text(max_size=12)
reporting = st.builds(
    messages.WinReportingUrls.ReportingUrls,
    reporting_url=urls,
    interaction_reporting_urls=st.dictionaries(st.text(max_size=4), urls, max_size=12),
)
results = st.builds(
    messages.AuctionResult,
    ad_render_url=urls,
    interest_group_owner=st.sampled_from(["", "buyer.example", "other.example"]),
    score=st.floats(width=32),
    bid=st.floats(width=32),
    is_chaff=st.booleans(),
    ad_type=st.integers(0, 3),
    win_reporting_urls=st.builds(
        messages.WinReportingUrls, buyer_reporting_urls=reporting, top_level_seller_reporting_urls=reporting
    ),
).map(lambda result: result.SerializeToString())


def check(response: bytes) -> None:
    try:
        outcome = open_auction_result(
            response,
            CLIENT,
            ad_selection_id=AdSelectionId(1),
            seller="seller.example",
            is_enrolled=lambda buyer: buyer == "buyer.example",
        )
    except AuctionResultError:
        return
    assert outcome.buyer in ("", "buyer.example")
    assert outcome.has_winner == bool(outcome.buyer)
    for url in (outcome.ad_render_uri, outcome.buyer_urls.reporting_url, *outcome.buyer_urls.beacons.values()):
        assert url == "" or url.startswith(("https://buyer.example", "https://a.buyer.example"))
    assert outcome_from_bytes(1, outcome_to_bytes(outcome)) == outcome


@given(st.binary(max_size=100))
def test_any_bytes_from_the_network(response: bytes) -> None:
    check(response)


@given(st.binary(max_size=60) | st.binary(max_size=40).map(lambda b: b"\x02\0\0\0" + bytes([len(b)]) + b))
def test_any_bytes_from_a_server_that_knows_the_key(plaintext: bytes) -> None:
    check(SERVER.encapsulate_response(plaintext))


@given(results | st.binary(max_size=60))
def test_any_message_from_a_server_that_knows_the_format(message: bytes) -> None:
    check(SERVER.encapsulate_response(encode_client_frame(gzip_compress(message), compression=Compression.GZIP)))


@given(
    st.text(st.sampled_from("abc.example/\\@:#?%[] \t\n443-é"), max_size=20).map(lambda rest: "https://" + rest)
    | st.builds("https://{}buyer.example{}".format, *[st.text(st.sampled_from("ax.@\\/:#?1 \t-"), max_size=5)] * 2)
)
def test_every_parser_sees_the_host_that_was_checked(uri: str) -> None:
    try:
        host = https_host(uri)
    except UpdateUriError:
        return
    assert httpx.URL(uri).host == host
    assert "\\" not in uri
    assert uri.lower().removeprefix("https://").startswith(host)
