"""What each buyer is told, and what the seller makes of the answers."""

from __future__ import annotations

import pytest

from adyton.auction.buyer.get_bids_checks import build_bidding_request, check_inputs, read_get_bids_frame
from adyton.auction.errors import DownstreamError, RequestError
from adyton.auction.request_metadata import device_metadata, forwarded_metadata
from adyton.auction.seller.auction_result import chaff_result, error_result, frame_result, winner_result
from adyton.auction.seller.bid_collection import BuyerAnswer, collect_bids
from adyton.auction.seller.bid_requests import (
    build_chaff_request,
    build_get_bids_request,
    has_something_to_bid_on,
    is_protected_app_signals_active,
)
from adyton.protocol.compression import gzip_decompress
from adyton.protocol.frames import decode_client_frame, encode_get_bids_frame
from adyton.protocol.messages import bidding_auction_servers_pb2 as ba


def request_for(buyer: str = "b", **contextual: object) -> ba.SelectAdRequest:
    request = ba.SelectAdRequest(client_type=ba.CLIENT_TYPE_ANDROID)
    config = request.auction_config
    config.seller, config.auction_signals = "s", '{"x":1}'
    per_buyer = config.per_buyer_config[buyer]
    per_buyer.buyer_signals, per_buyer.buyer_debug_id = '{"y":2}', "debug-b"
    per_buyer.blob_versions.protected_app_signals_generate_bid_udf = "v2"
    if contextual:
        per_buyer.contextual_protected_app_signals_data.MergeFrom(ba.ContextualProtectedAppSignalsData(**contextual))
    return request


def build(
    request: ba.SelectAdRequest, *, is_active: bool = True, **client: object
) -> ba.GetBidsRequest.GetBidsRawRequest:
    data = ba.BuyerInput(protected_app_signals={"app_install_signals": b"\x01", "encoding_version": 3})
    return build_get_bids_request(
        buyer="b",
        buyer_input=data,
        client_input=ba.ProtectedAuctionInput(publisher_name="app", generation_id="7", **client),
        request=request,
        config=request.auction_config,
        is_pas_active=is_active,
    )


def test_a_buyer_gets_its_own_signals_and_no_copy_of_them() -> None:
    raw = build(request_for(), enable_unlimited_egress=True, enable_debug_reporting=True)

    assert raw.protected_app_signals_buyer_input.protected_app_signals.app_install_signals == b"\x01"
    assert not raw.buyer_input.HasField("protected_app_signals")
    assert (raw.buyer_signals, raw.auction_signals, raw.publisher_name, raw.seller) == (
        '{"y":2}',
        '{"x":1}',
        "app",
        "s",
    )
    assert (raw.log_context.generation_id, raw.log_context.adtech_debug_id) == ("7", "debug-b")
    assert raw.blob_versions.protected_app_signals_generate_bid_udf == "v2"
    assert raw.enable_unlimited_egress
    assert raw.is_debug_eligible
    assert not raw.enable_debug_reporting
    assert not raw.is_chaff
    assert raw.multi_bid_limit == 0


def test_inactive_signals_are_dropped_and_nobody_is_called_for_nothing() -> None:
    raw = build(request_for(ad_render_ids=["ad"]), is_active=False)

    assert not raw.HasField("protected_app_signals_buyer_input")
    assert not raw.buyer_input.HasField("protected_app_signals")
    data = ba.BuyerInput(protected_app_signals={"app_install_signals": b"\x01"})
    assert has_something_to_bid_on(data, is_pas_active=True)
    assert not has_something_to_bid_on(data, is_pas_active=False)


def test_contextual_data_travel_only_with_ad_ids_and_only_from_the_plain_configuration() -> None:
    with_ids = build(request_for(ad_render_ids=["ad"], fetch_ads_from_retrieval_service=True))
    without = build(request_for(fetch_ads_from_retrieval_service=True))
    packed = request_for(ad_render_ids=["ad"])
    config = ba.AuctionConfig()
    config.CopyFrom(packed.auction_config)
    packed.ClearField("auction_config")
    from_packed = build_get_bids_request(
        buyer="b",
        buyer_input=ba.BuyerInput(protected_app_signals={"app_install_signals": b"\x01"}),
        client_input=ba.ProtectedAuctionInput(generation_id="7"),
        request=packed,
        config=config,
        is_pas_active=True,
    )

    name = "contextual_protected_app_signals_data"
    assert list(with_ids.protected_app_signals_buyer_input.contextual_protected_app_signals_data.ad_render_ids) == [
        "ad"
    ]
    assert not without.protected_app_signals_buyer_input.HasField(name)
    assert not from_packed.protected_app_signals_buyer_input.HasField(name)
    assert from_packed.buyer_signals == '{"y":2}'


def test_chaff_holds_the_generation_id_and_nothing_else() -> None:
    assert build_chaff_request("7") == ba.GetBidsRequest.GetBidsRawRequest(
        is_chaff=True, log_context={"generation_id": "7"}
    )


def test_signals_are_active_only_for_a_single_seller_that_enabled_them() -> None:
    request = request_for()
    multi = request_for()
    multi.auction_config.top_level_seller = "top"
    component = request_for()
    component.component_auction_results.add()

    def is_active(of: ba.SelectAdRequest, *, is_enabled: bool = True) -> bool:
        return is_protected_app_signals_active(of, of.auction_config, is_enabled=is_enabled)

    assert is_active(request)
    assert not is_active(request, is_enabled=False)
    assert not is_active(multi)
    assert not is_active(component)


def test_buyer_front_end_reads_its_frames_and_fills_the_bidding_request() -> None:
    raw = build(request_for(ad_render_ids=["ad"]))
    for gzip in (False, True):
        assert read_get_bids_frame(encode_get_bids_frame(raw.SerializeToString(), gzip=gzip, size=4096)) == raw
    bidding = build_bidding_request(raw)

    assert bidding.multi_bid_limit == 2
    assert bidding.protected_app_signals.encoding_version == 3
    assert list(bidding.contextual_protected_app_signals_data.ad_render_ids) == ["ad"]
    raw.enforce_kanon, raw.multi_bid_limit = True, 5
    assert build_bidding_request(raw).multi_bid_limit == 5


CONSENT = {"is_consented": True, "token": "t", "is_debug_info_in_response": True}
VERSIONS = {
    "protected_app_signals_generate_bid_udf": "g",
    "prepare_data_for_ad_retrieval_udf": "p",
    "egress_schema": "e",
}
SIGNALS = {"app_install_signals": b"\x01", "encoding_version": 3}
CONTEXT = {"ad_render_ids": ["ad"], "fetch_ads_from_retrieval_service": True}


def test_a_buyer_front_end_is_told_every_member_of_the_specification_and_no_more() -> None:
    request = ba.SelectAdRequest(client_type=ba.CLIENT_TYPE_ANDROID)
    config = request.auction_config
    config.MergeFrom(
        ba.AuctionConfig(
            seller="s", auction_signals="a", seller_signals="secret", top_level_seller="t", priority_signals="p"
        )
    )
    per_buyer = ba.AuctionConfig.PerBuyerConfig(
        buyer_signals="b", buyer_kv_experiment_group_id=0, buyer_debug_id="d", buyer_currency="EUR",
        per_buyer_multi_bid_limit=7, blob_versions=VERSIONS, contextual_protected_app_signals_data=CONTEXT,
    )  # fmt: skip
    config.per_buyer_config["b"].CopyFrom(per_buyer)
    config.per_buyer_config["other"].CopyFrom(per_buyer)

    raw = build(request, enable_unlimited_egress=True, enable_debug_reporting=True, consented_debug_config=CONSENT)

    assert raw == ba.GetBidsRequest.GetBidsRawRequest(
        buyer_input=ba.BuyerInput(),
        auction_signals="a",
        buyer_signals="b",
        seller="s",
        publisher_name="app",
        log_context={"generation_id": "7", "adtech_debug_id": "d"},
        consented_debug_config=CONSENT,
        protected_app_signals_buyer_input={
            "protected_app_signals": SIGNALS,
            "contextual_protected_app_signals_data": CONTEXT,
        },
        client_type=ba.CLIENT_TYPE_ANDROID,
        top_level_seller="t",
        buyer_kv_experiment_group_id=0,
        enable_unlimited_egress=True,
        is_debug_eligible=True,
        priority_signals="p",
        blob_versions=VERSIONS,
    )


def test_bidding_is_told_every_member_of_the_specification() -> None:
    raw = ba.GetBidsRequest.GetBidsRawRequest(
        auction_signals="a",
        buyer_signals="b",
        seller="s",
        publisher_name="app",
        enable_debug_reporting=True,
        log_context={"generation_id": "7", "adtech_debug_id": "d"},
        consented_debug_config=CONSENT,
        protected_app_signals_buyer_input={
            "protected_app_signals": SIGNALS,
            "contextual_protected_app_signals_data": CONTEXT,
        },
        top_level_seller="t",
        enable_unlimited_egress=True,
        multi_bid_limit=7,
        enforce_kanon=True,
        blob_versions=VERSIONS,
    )
    bidding = ba.GenerateProtectedAppSignalsBidsRequest.GenerateProtectedAppSignalsBidsRawRequest(
        auction_signals="a",
        buyer_signals="b",
        protected_app_signals=SIGNALS,
        seller="s",
        publisher_name="app",
        log_context={"generation_id": "7", "adtech_debug_id": "d"},
        consented_debug_config=CONSENT,
        enable_debug_reporting=True,
        contextual_protected_app_signals_data=CONTEXT,
        enable_unlimited_egress=True,
        multi_bid_limit=7,
        enforce_kanon=True,
        blob_versions=VERSIONS,
        top_level_seller="t",
    )

    assert build_bidding_request(raw) == bidding
    for enforced, given in ((False, 7), (True, 0), (True, -1)):
        raw.enforce_kanon, raw.multi_bid_limit = enforced, given
        assert build_bidding_request(raw).multi_bid_limit == 2


def test_a_bid_reaches_the_auction_with_every_member_of_its_own_and_its_owner() -> None:
    sent = ba.ProtectedAppSignalsAdWithBid(
        bid=1.5, render="https://r", ad_cost=0.5, bid_currency="EUR", egress_payload="AYJA",
        temporary_unlimited_egress_payload="Af9A", allow_component_auction=True,
    )  # fmt: skip
    sent.ad.string_value = "ad"

    (kept,) = collect_bids({"b": BuyerAnswer((sent,))}, ba.AuctionConfig())

    assert kept == ba.ScoreAdsRequest.ScoreAdsRawRequest.ProtectedAppSignalsAdWithBidMetadata(
        ad=sent.ad, bid=1.5, render="https://r", ad_cost=0.5, owner="b", bid_currency="EUR", egress_payload="AYJA",
        temporary_unlimited_egress_payload="Af9A",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (b"", "Malformed request."),
        (b"\x00\x00\x00\x00\xff\x01", "Malformed request."),
        (b"\x01\x00\x00\x00\x02hi", "Malformed request."),
        (b"\x00\x00\x00\x00\x01\xff", "Malformed request."),
        (b"\x02\x00\x00\x00\x00", "Unsupported version and compression combination"),
    ],
)
def test_buyer_front_end_refuses_bad_frames_with_their_text(frame: bytes, text: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_get_bids_frame(frame)
    assert caught.value.what == text


def test_a_request_without_any_input_is_refused() -> None:
    with pytest.raises(RequestError, match="Missing inputs"):
        check_inputs(ba.GetBidsRequest.GetBidsRawRequest())
    groups = ba.GetBidsRequest.GetBidsRawRequest()
    groups.buyer_input.interest_groups.add()
    check_inputs(groups)


def bid(value: float, currency: str = "") -> ba.ProtectedAppSignalsAdWithBid:
    return ba.ProtectedAppSignalsAdWithBid(bid=value, render=f"https://r/{value}", bid_currency=currency)


def test_bids_in_another_currency_are_dropped_and_the_rest_is_kept() -> None:
    config = ba.AuctionConfig()
    config.per_buyer_config["a"].buyer_currency = "USD"
    answers = {
        "a": BuyerAnswer((bid(1, "USD"), bid(2, "EUR"), bid(3))),
        "b": BuyerAnswer((bid(4, "EUR"),)),
        "c": BuyerAnswer(None),
    }

    assert [(b.owner, b.bid) for b in collect_bids(answers, config)] == [("a", 1), ("a", 3), ("b", 4)]


def test_all_failed_and_all_in_the_wrong_currency_are_different_errors() -> None:
    config = ba.AuctionConfig()
    config.per_buyer_config["a"].buyer_currency = "USD"

    with pytest.raises(DownstreamError, match="Internal server error"):
        collect_bids({"a": BuyerAnswer(None), "b": BuyerAnswer(None)}, config)
    with pytest.raises(RequestError, match="All bids rejected for failure to match buyer currency"):
        collect_bids({"a": BuyerAnswer((bid(1, "EUR"),))}, config)
    assert collect_bids({"a": BuyerAnswer(())}, config) == ()


def test_results_are_padded_so_that_a_short_winner_looks_like_no_winner() -> None:
    score = ba.ScoreAdsResponse.AdScore(desirability=2, render="https://r", buyer_bid=1, interest_group_owner="b")
    frames = [frame_result(result) for result in (winner_result(score), chaff_result(), error_result(400, "x"))]

    assert [len(frame) for frame in frames] == [512, 512, 512]
    assert [frame[0] for frame in frames] == [2, 2, 2]
    decoded = ba.AuctionResult.FromString(gzip_decompress(decode_client_frame(frames[0]).payload))
    assert (decoded.ad_render_url, decoded.score, decoded.bid, decoded.ad_type) == ("https://r", 2, 0, 2)


def test_device_headers_are_forwarded_and_others_are_not() -> None:
    pairs = (("x-user-agent", "A"), ("x-accept-language", "de"), ("user-agent", "grpc"), ("trace-bin", b"\x00"))

    forwarded = forwarded_metadata(pairs)

    assert forwarded == (("x-accept-language", "de"), ("x-user-agent", "A"))
    assert device_metadata(forwarded) == {"X-Accept-Language": "de", "X-User-Agent": "A"}


@pytest.mark.parametrize("pair", [("X-User-Agent", "a"), ("x-user-agent", "a\tb"), ("x-user-agent", "ä"), ("a b", "c")])
def test_headers_outside_of_the_allowed_characters_are_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(RequestError, match="Illegal header"):
        forwarded_metadata([pair])
