"""Configuration from JSON and from the reference services' environment names; reports as the collector reads them."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest

from adyton.auction.collector import parse_report
from adyton.auction.config import load_config, parse_config
from adyton.auction.environment import config_from_environment
from adyton.auction.errors import ConfigError

BUYER = {
    "name": "b",
    "test_mode": True,
    "buyer_front_end": {},
    "bidding": {"generate_bid": "bid.js", "noise_rate": "1/50"},
    "key_value": {"snapshot": "ads"},
}


def test_paths_are_relative_to_the_file_and_urls_stay(tmp_path: Path) -> None:
    document = {**BUYER, "bidding": {"generate_bid": {"default": "bid.js", "versions": {"v2": "https://x/v2.js"}}}}
    path = tmp_path / "party.json"
    path.write_text(json.dumps(document))

    config = load_config(path)

    assert config.bidding is not None
    assert config.key_value is not None
    assert config.bidding.generate_bid.default == str(tmp_path / "bid.js")
    assert config.bidding.generate_bid.versions == {"v2": "https://x/v2.js"}
    assert config.key_value.snapshot == str(tmp_path / "ads")


def test_noise_is_one_in_a_hundred_by_default_and_exact() -> None:
    assert parse_config(BUYER).bidding.noise_rate == Fraction(1, 50)  # type: ignore[union-attr]
    default = parse_config({**BUYER, "bidding": {"generate_bid": "bid.js"}})
    assert default.bidding.noise_rate == Fraction(1, 100)  # type: ignore[union-attr]
    assert parse_config({**BUYER, "bidding": {"generate_bid": "x", "noise_rate": 0.1}}).bidding.noise_rate == Fraction(  # type: ignore[union-attr]
        1, 10
    )


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"bidding": {"generate_bid": "x", "limited_egress_bit": 3}}, "bidding.limited_egress_bit"),
        ({"bidding": {"generate_bid": "x", "noise_rate": 2}}, "bidding.noise_rate"),
        ({"bidding": {"generate_bid": "x", "udf_timeout_ms": 0}}, "bidding.udf_timeout_ms"),
        ({"test_mode": False}, "configuration"),
        ({"key_value": None}, "configuration"),
        ({"bidding": None}, "configuration"),
        ({"seller_front_end": {"seller_domain": "s"}}, "configuration"),
    ],
)
def test_a_wrong_member_is_refused_by_its_name(change: dict[str, object], where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config({**BUYER, **change})
    assert caught.value.where == where


def test_a_file_that_is_missing_or_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ConfigError, match="not JSON"):
        load_config(tmp_path / "bad.json")


def test_reference_environment_names_make_a_seller() -> None:
    config = config_from_environment(
        {
            "TEST_MODE": "true",
            "SELLER_ORIGIN_DOMAIN": "seller.example",
            "BUYER_SERVER_HOSTS": '{"b.example":{"url":"127.0.0.1:5","cloudPlatform":"GCP"}}',
            "GET_BID_RPC_TIMEOUT_MS": "1500",
            "ENABLE_CHAFFING": "true",
            "SELLER_CODE_FETCH_CONFIG": json.dumps(
                {
                    "auctionJsUrl": "https://s/score.js",
                    "enableReportWinUrlGeneration": False,
                    "protectedAppSignalsBuyerReportWinJsUrls": {"b.example": "https://b/win.js"},
                }
            ),
            "ROMA_TIMEOUT_MS": "10000",
        }
    )

    assert config.seller_front_end is not None
    assert config.auction is not None
    assert config.seller_front_end.buyers == {"b.example": "127.0.0.1:5"}
    assert (config.seller_front_end.get_bids_timeout_ms, config.seller_front_end.enable_chaffing) == (1500, True)
    assert config.auction.report_win["b.example"].default == "https://b/win.js"
    assert not config.auction.enable_report_win


def test_reference_environment_names_make_a_buyer() -> None:
    config = config_from_environment(
        {
            "TEST_MODE": "true",
            "BUYER_CODE_FETCH_CONFIG": json.dumps(
                {
                    "protectedAppSignalsBiddingJsUrl": "https://b/bid.js",
                    "prepareDataForAdsRetrievalJsUrl": "https://b/p.js",
                }
            ),
            "EGRESS_SCHEMA_FETCH_CONFIG": '{"fetchMode":0,"egressSchemaUrl":"https://b/schema.json"}',
            "limited_egress_bits": "20",
            "TEE_AD_RETRIEVAL_KV_SERVER_ADDR": "127.0.0.1:7",
        }
    )

    assert config.bidding is not None
    assert config.bidding.limited_egress_bits == 20
    assert config.bidding.retrieval_address == "127.0.0.1:7"
    assert config.buyer_front_end is not None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TEST_MODE", "maybe"),
        ("GET_BID_RPC_TIMEOUT_MS", "soon"),
        ("BUYER_SERVER_HOSTS", "["),
        ("BUYER_SERVER_HOSTS", '{"b":"127.0.0.1:5"}'),
    ],
)
def test_a_wrong_variable_is_refused_by_its_name(name: str, value: str) -> None:
    environ = {"TEST_MODE": "true", "SELLER_ORIGIN_DOMAIN": "s", "AUCTION_SERVER_HOST": "127.0.0.1:1", name: value}

    with pytest.raises(ConfigError) as caught:
        config_from_environment(environ)
    assert caught.value.where == name


def test_reports_keep_parameters_and_odd_ones_are_none() -> None:
    report = parse_report("/win", "egress=AYJA&render=https%3A%2F%2Fr&empty=", 5)

    assert report is not None
    assert (report.kind, report.received_at_ms) == ("win", 5)
    assert dict(report.parameters) == {"egress": "AYJA", "render": "https://r", "empty": ""}
    for path, query in [
        ("/", ""),
        ("/a/b", ""),
        ("/../x", ""),
        ("/win", "a=1&a=2"),
        ("/win", "a b=1"),
        ("/win", "received_at_ms=1"),
        ("/win", "a=%ff"),
        ("/win", "a=" + "x" * 9000),
        ("/win", "&".join(f"p{i}=1" for i in range(40))),
    ]:
        assert parse_report(path, query, 5) is None
