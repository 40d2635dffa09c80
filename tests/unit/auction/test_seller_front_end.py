"""SelectAd between neighbours that answer as told: what becomes of every answer (protected-auction §7.1, 8 to 12)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from adyton.auction.config import SellerFrontEndConfig
from adyton.auction.errors import DownstreamError, RequestError
from adyton.auction.kv_messages import scoring_request
from adyton.auction.services.key_material import KeyMaterial
from adyton.auction.services.ports import GetBidsRawResponse, Metadata, ScoreAdsRawRequest, ScoreAdsRawResponse
from adyton.auction.services.seller_front_end import SellerFrontEndService
from adyton.auction.services.telemetry import DebugPolicy, Metrics
from adyton.kernel.clock import ManualClock
from adyton.protocol.compression import gzip_compress, gzip_decompress
from adyton.protocol.frames import Compression, decode_client_frame, decode_get_bids_frame, encode_client_frame
from adyton.protocol.keys import TEST_MODE_KEY
from adyton.protocol.messages import bidding_auction_servers_pb2 as ba
from adyton.protocol.messages import kv_server_v2_pb2 as kv
from adyton.protocol.ohttp import Label, encapsulate_request

ONE, TWO = "one.example", "two.example"
SIGNALS = {"app_install_signals": b"\x01", "encoding_version": 3}
CONSENT = {"is_consented": True, "token": "t"}
NOW_MS = 10**12
KV_CONTENT = (
    b'[{"id":0,"keyGroupOutputs":[{"tags":["renderUrls"],"keyValues":{"https://one/":{"value":"{\\"good\\":1}"}}}]}]'
)
FLATTENED = '{"renderUrls":{"https://one/":{"good":1}}}'


def bid(owner: str, **members: object) -> ba.ProtectedAppSignalsAdWithBid:
    return ba.ProtectedAppSignalsAdWithBid(
        **{"bid": 1.0, "render": f"https://{owner.split('.')[0]}/", **members}  # type: ignore[arg-type]
    )


@dataclass
class Neighbours:
    """What each neighbour answers, or raises; and what they were asked."""

    bids: Mapping[str, list[ba.ProtectedAppSignalsAdWithBid] | Exception]
    values: kv.GetValuesResponse | Exception = field(default_factory=kv.GetValuesResponse)
    score: ScoreAdsRawResponse | Exception = field(default_factory=ScoreAdsRawResponse)
    get_bids_timeouts_s: list[float] = field(default_factory=list)
    get_bids_requests: dict[str, ba.GetBidsRequest.GetBidsRawRequest] = field(default_factory=dict)
    lookups: list[kv.GetValuesRequest] = field(default_factory=list)
    score_requests: list[ba.ScoreAdsRequest.ScoreAdsRawRequest] = field(default_factory=list)


@dataclass
class Buyer:
    name: str
    told: Neighbours

    async def get_bids(
        self, frame: bytes, *, metadata: Metadata, timeout_s: float
    ) -> ba.GetBidsResponse.GetBidsRawResponse:
        self.told.get_bids_timeouts_s.append(timeout_s)
        plain = decode_get_bids_frame(frame)
        self.told.get_bids_requests[self.name] = ba.GetBidsRequest.GetBidsRawRequest.FromString(plain)
        answer = self.told.bids[self.name]
        if isinstance(answer, Exception):
            raise answer
        return GetBidsRawResponse(protected_app_signals_bids=answer)


@dataclass
class SellersStore:
    told: Neighbours

    async def get_values(self, request: kv.GetValuesRequest, *, timeout_s: float) -> kv.GetValuesResponse:
        self.told.lookups.append(request)
        if isinstance(self.told.values, Exception):
            raise self.told.values
        return self.told.values


@dataclass
class Auction:
    told: Neighbours

    async def score_ads(
        self, raw: ba.ScoreAdsRequest.ScoreAdsRawRequest, *, timeout_s: float
    ) -> ba.ScoreAdsResponse.ScoreAdsRawResponse:
        self.told.score_requests.append(raw)
        if isinstance(self.told.score, Exception):
            raise self.told.score
        return self.told.score


def auction_config() -> ba.AuctionConfig:
    config = ba.AuctionConfig(
        seller="s.example", seller_signals="{}", auction_signals="[]", buyer_list=[ONE, TWO], seller_debug_id="sd",
        seller_currency="EUR", code_experiment_spec={"seller_kv_experiment_group_id": 7, "score_ad_version": "v9"},
    )  # fmt: skip
    for buyer in (ONE, TWO):
        config.per_buyer_config[buyer].buyer_signals = f'"{buyer}"'
    return config


def select(
    told: Neighbours,
    config: ba.AuctionConfig | None = None,
    *,
    buyer_input: ba.BuyerInput | None = None,
    request_timestamp_ms: int = 0,
    **options: object,
) -> ba.AuctionResult:
    """The opened result of one auction with input of every buyer that `told` knows."""
    buyer_input = buyer_input or ba.BuyerInput(protected_app_signals=SIGNALS)
    client = ba.ProtectedAuctionInput(
        publisher_name="app", generation_id="77", consented_debug_config=CONSENT,
        request_timestamp_ms=request_timestamp_ms,
    )  # fmt: skip
    for buyer in told.bids:
        client.buyer_input[buyer] = gzip_compress(buyer_input.SerializeToString())
    frame = encode_client_frame(client.SerializeToString(), compression=Compression.GZIP, size=1024)
    ciphertext, context = encapsulate_request(TEST_MODE_KEY.public_key, frame, Label.SFE_CURRENT)
    service = SellerFrontEndService(
        SellerFrontEndConfig(seller_domain="s.example", get_bids_timeout_ms=4_000, **options),  # type: ignore[arg-type]
        keys=KeyMaterial.test_mode(),
        buyers={name: Buyer(name, told) for name in told.bids},
        auction=Auction(told),
        key_value=SellersStore(told),
        clock=ManualClock(NOW_MS),
        debug=DebugPolicy(),
        metrics=Metrics(),
    )
    request = ba.SelectAdRequest(
        protected_auction_ciphertext=ciphertext,
        client_type=ba.CLIENT_TYPE_ANDROID,
        auction_config=config or auction_config(),
    )
    response = asyncio.run(service.select_ad(request, metadata=()))
    plain = decode_client_frame(context.decapsulate_response(response.auction_result_ciphertext))
    return ba.AuctionResult.FromString(gzip_decompress(plain.payload))


CHAFF = ba.AuctionResult(is_chaff=True)
FAILURE = DownstreamError("gone", code="UNAVAILABLE")


def values() -> kv.GetValuesResponse:
    response = kv.GetValuesResponse()
    response.compression_groups.add(compression_group_id=0, content=KV_CONTENT)
    return response


def winner(**members: object) -> ScoreAdsRawResponse:
    score = {"desirability": 2.5, "render": "https://one/", "buyer_bid": 1.0, "interest_group_owner": ONE, **members}
    return ScoreAdsRawResponse(ad_score=score)


def test_the_auction_is_told_every_member_of_the_specification_and_the_client_the_winner() -> None:
    told = Neighbours({ONE: [bid(ONE, bid_currency="USD", egress_payload="AYJA")], TWO: [bid(TWO)]}, values())
    urls = {"buyer_reporting_urls": {"reporting_url": "https://one.example/win"}}
    told.score = winner(win_reporting_urls=urls)

    result = select(told)

    (raw,) = told.score_requests
    bids = [
        {"bid": 1.0, "render": "https://one/", "owner": ONE, "bid_currency": "USD", "egress_payload": "AYJA", "ad": {}},
        {"bid": 1.0, "render": "https://two/", "owner": TWO, "ad": {}},
    ]
    assert raw == ScoreAdsRawRequest(
        seller_signals="{}",
        auction_signals="[]",
        scoring_signals=FLATTENED,
        publisher_hostname="app",
        log_context={"generation_id": "77", "adtech_debug_id": "sd"},
        per_buyer_signals={ONE: f'"{ONE}"', TWO: f'"{TWO}"'},
        consented_debug_config=CONSENT,
        protected_app_signals_ad_bids=bids,  # type: ignore[arg-type]
        seller="s.example",
        seller_currency="EUR",
        score_ad_version="v9",
    )
    assert result == ba.AuctionResult(
        ad_render_url="https://one/", interest_group_owner=ONE, score=2.5, win_reporting_urls=urls,
        ad_type=ba.AD_TYPE_PROTECTED_APP_SIGNALS_AD,
    )  # fmt: skip


def test_the_sellers_store_is_asked_for_each_url_with_the_experiment_and_the_consent() -> None:
    told = Neighbours({ONE: [bid(ONE), bid(ONE)], TWO: [bid(TWO)]}, values())
    select(told)

    (lookup,) = told.lookups
    assert lookup == scoring_request(
        ["https://one/", "https://two/"],
        client_type=1,
        experiment_group_id=7,
        log_context=lookup.log_context,
        consented_debug_config=lookup.consented_debug_config,
    )
    assert (lookup.log_context.generation_id, lookup.log_context.adtech_debug_id) == ("77", "sd")
    assert (lookup.consented_debug_config.is_consented, lookup.consented_debug_config.token) == (True, "t")


def test_a_bid_is_told_to_the_client_only_where_the_seller_changed_it() -> None:
    told = Neighbours({ONE: [bid(ONE)]}, score=winner(bid=3.0))

    assert select(told).bid == 3.0


@pytest.mark.parametrize(
    "told",
    [
        Neighbours({ONE: [], TWO: []}),
        Neighbours({ONE: FAILURE, TWO: []}),
        Neighbours({ONE: [bid(ONE)]}, score=ScoreAdsRawResponse()),
        Neighbours({ONE: [bid(ONE)]}, score=winner(buyer_bid=0.0)),
        Neighbours({ONE: [bid(ONE)]}, score=DownstreamError("x", code="INTERNAL")),
    ],
)
def test_without_a_buyer_a_bid_or_a_winner_the_client_gets_chaff(told: Neighbours) -> None:
    assert select(told) == CHAFF


def test_no_buyer_is_called_that_the_ad_server_does_not_name() -> None:
    config = auction_config()
    config.buyer_list[:] = ["stranger.example", TWO]
    told = Neighbours({ONE: [bid(ONE)], TWO: [bid(TWO)]}, score=winner())
    select(told, config)
    assert set(told.get_bids_requests) == {TWO}

    config.buyer_list[:] = ["stranger.example"]
    assert select(Neighbours({ONE: [bid(ONE)]}), config) == CHAFF


def test_interest_groups_are_passed_on_and_signals_only_in_an_auction_of_one_seller_that_enabled_them() -> None:
    both = ba.BuyerInput(interest_groups=[{}], protected_app_signals=SIGNALS)
    multi = auction_config()
    multi.top_level_seller, multi.top_level_cloud_platform = "top.example", ba.ENCRYPTION_CLOUD_PLATFORM_GCP
    for config, is_enabled, has_signals in (
        (auction_config(), True, True), (multi, True, False), (auction_config(), False, False),
    ):  # fmt: skip
        told = Neighbours({ONE: []})
        assert select(told, config, buyer_input=both, enable_protected_app_signals=is_enabled) == CHAFF
        raw = told.get_bids_requests[ONE]
        assert len(raw.buyer_input.interest_groups) == 1
        assert not raw.buyer_input.HasField("protected_app_signals")
        assert raw.HasField("protected_app_signals_buyer_input") is has_signals
    silent = Neighbours({ONE: []})
    assert select(silent, multi) == CHAFF
    assert silent.get_bids_requests == {}


def test_one_buyers_failure_leaves_the_others_and_all_failing_is_an_error() -> None:
    told = Neighbours({ONE: [bid(ONE)], TWO: FAILURE}, score=winner())
    assert select(told).ad_render_url == "https://one/"

    with pytest.raises(DownstreamError, match=r"^Internal server error\.$") as caught:
        select(Neighbours({ONE: FAILURE, TWO: FAILURE}))
    assert caught.value.code == "INTERNAL"


def test_bids_in_another_currency_than_the_buyers_are_dropped() -> None:
    config = auction_config()
    config.per_buyer_config[ONE].buyer_currency = config.per_buyer_config[TWO].buyer_currency = "EUR"
    told = Neighbours({ONE: [bid(ONE, bid_currency="USD")], TWO: [bid(TWO, bid_currency="EUR"), bid(TWO)]})
    select(told, config)
    assert [sent.owner for sent in told.score_requests[0].protected_app_signals_ad_bids] == [TWO, TWO]

    with pytest.raises(RequestError, match=r"^All bids rejected for failure to match buyer currency\.$"):
        select(Neighbours({ONE: [bid(ONE, bid_currency="USD")], TWO: []}), config)


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "UNAVAILABLE", "DEADLINE_EXCEEDED"])
def test_other_failures_of_scoring_are_passed_on(code: str) -> None:
    with pytest.raises(DownstreamError) as caught:
        select(Neighbours({ONE: [bid(ONE)]}, score=DownstreamError("why", code=code)))

    assert (caught.value.code, caught.value.what) == (code, "why")


def test_scoring_signals_that_fail_or_are_missing() -> None:
    with pytest.raises(DownstreamError, match=r"^Internal server error\.$"):
        select(Neighbours({ONE: [bid(ONE)]}, values=FAILURE))

    told = Neighbours({ONE: [bid(ONE)]}, score=winner())
    assert select(told, requires_scoring_signals=True) == CHAFF
    assert told.score_requests == []
    assert select(told).ad_render_url == "https://one/"

    unasked = Neighbours({ONE: [bid(ONE)]}, values=FAILURE, score=winner())
    assert select(unasked, uses_scoring_signals=False).ad_render_url == "https://one/"
    assert unasked.lookups == []


@pytest.mark.parametrize(("asked_ms", "wanted_s"), [(0, 4.0), (150, 0.15), (90_000, 90.0), (-5, 4.0)])
def test_the_ad_servers_deadline_replaces_the_configured_one(asked_ms: int, wanted_s: float) -> None:
    config = auction_config()
    config.buyer_timeout_ms = asked_ms
    told = Neighbours({ONE: []})
    select(told, config)

    assert told.get_bids_timeouts_s == [wanted_s]


def test_an_old_request_is_the_clients_error_where_a_window_is_configured() -> None:
    told = Neighbours({ONE: [bid(ONE)]}, score=winner())
    for age_ms, is_fresh in ((0, True), (60_000, True), (60_001, False), (-60_000, True), (-60_001, False)):
        result = select(told, request_timestamp_ms=NOW_MS - age_ms, replay_window_s=60)
        assert (result.error.code == 0) is is_fresh
        assert select(told, request_timestamp_ms=NOW_MS - age_ms).error.code == 0
    assert result.error.code == 400
