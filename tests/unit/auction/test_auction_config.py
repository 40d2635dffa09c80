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
        ({"bidding": {"generate_bid": "x", "noise_rate": "1/0"}}, "bidding.noise_rate"),
        ({"bidding": {"generate_bid": "x", "noise_rate": "1e999999999"}}, "bidding.noise_rate"),
        ({"bidding": {"generate_bid": "x", "noise_rate": True}}, "bidding.noise_rate"),
        ({"bidding": {"generate_bid": "x", "lookup_address": ""}}, "bidding.lookup_address"),
        ({"seller_front_end": {"seller_domain": "s", "buyers": {"b": ""}}}, "seller_front_end.buyers.b"),
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
                    "enableReportWinUrlGeneration": True,
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
    assert config.auction.enable_report_win
    assert not config.auction.enable_report_result  # off unless it is named, as in the reference


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


def test_the_shortest_fetch_times_and_the_models_bucket_and_threads_are_read() -> None:
    code = {"protectedAppSignalsBiddingJsUrl": "https://b/bid.js", "urlFetchPeriodMs": 9000, "urlFetchTimeoutMs": 70}
    schema = {"egressSchemaUrl": "https://b/schema.json", "urlFetchPeriodMs": 5000, "urlFetchTimeoutMs": 80}
    environ = {
        "TEST_MODE": "true",
        "TEE_AD_RETRIEVAL_KV_SERVER_ADDR": "127.0.0.1:7",
        "BUYER_CODE_FETCH_CONFIG": json.dumps(code),
        "EGRESS_SCHEMA_FETCH_CONFIG": json.dumps(schema),
        "INFERENCE_MODEL_BUCKET_NAME": "models",
        "INFERENCE_MODEL_CONFIG_PATH": "list.json",
        "INFERENCE_SIDECAR_RUNTIME_CONFIG": '{"num_interop_threads": 4, "num_intraop_threads": 5, "module_name": "x"}',
    }

    config = config_from_environment(environ)

    assert (config.code_fetch_period_ms, config.code_fetch_timeout_ms) == (5000, 70)
    assert config.inference is not None
    assert (config.inference.models, config.inference.model_list) == ("s3://models", "list.json")
    assert config.inference.threads == 5
    for name, models in (("gs", "gs://models"), ("s3", "s3://models")):
        found = config_from_environment({**environ, "ADYTON_BUCKET_SCHEME": name}).inference
        assert found is not None
        assert found.models == models
    folder = config_from_environment({**environ, "INFERENCE_MODEL_BUCKET_NAME": "./models"}).inference
    assert folder is not None
    assert folder.models == "./models"
    for name in ("BUYER_CODE_FETCH_CONFIG", "EGRESS_SCHEMA_FETCH_CONFIG"):
        with pytest.raises(ConfigError, match="urlFetchPeriodMs") as caught:
            config_from_environment({**environ, name: json.dumps({**code, **schema, "urlFetchPeriodMs": "often"})})
        assert caught.value.where == name


@pytest.mark.parametrize(
    ("address", "is_near"),
    [
        ("127.0.0.1:5", True),
        ("localhost:5", True),
        ("[::1]:5", True),
        ("unix:/run/models.sock", True),
        ("10.0.0.1:5", False),
        ("models.example:5", False),
        ("127.example:5", False),
        ("localhost.example:5", False),
    ],
)
def test_outside_of_test_mode_inference_is_called_on_this_machine_only(address: str, is_near: bool) -> None:
    bidding = {"generate_bid": "b.js", "retrieval_address": "kv:1", "inference_address": address}
    keys = {"private_keys": "k.json", "public_keys": "l.json"}
    document = {"name": "b", "keys": keys, "bidding": bidding}

    if is_near:
        assert parse_config(document).bidding is not None
    else:
        with pytest.raises(ConfigError, match="not encrypted"):
            parse_config(document)
    assert parse_config({**document, "test_mode": True}).bidding is not None


SELLER_CODE = json.dumps({"auctionJsUrl": "https://s/score.js"})
BUYER_CODE = json.dumps({"protectedAppSignalsBiddingJsUrl": "https://b/bid.js"})


@pytest.mark.parametrize(
    ("environ", "services"),
    [
        ({"SELLER_FRONTEND_PORT": "50051", "SELLER_ORIGIN_DOMAIN": "s", "AUCTION_SERVER_HOST": "a:1",
          "SELLER_CODE_FETCH_CONFIG": SELLER_CODE}, {"seller_front_end"}),
        ({"SELLER_ORIGIN_DOMAIN": "s", "AUCTION_SERVER_HOST": "a:1", "SELLER_CODE_FETCH_CONFIG": SELLER_CODE},
         {"seller_front_end"}),
        ({"AUCTION_PORT": "50051", "SELLER_CODE_FETCH_CONFIG": SELLER_CODE}, {"auction"}),
        ({"SELLER_CODE_FETCH_CONFIG": SELLER_CODE}, {"auction"}),
        ({"BUYER_FRONTEND_PORT": "50051", "BIDDING_SERVER_ADDR": "b:1"}, {"buyer_front_end"}),
        ({"BIDDING_SERVER_ADDR": "b:1"}, {"buyer_front_end"}),
        ({"BIDDING_PORT": "50051", "BUYER_CODE_FETCH_CONFIG": BUYER_CODE, "TEE_KV_SERVER_ADDR": "kv:1"}, {"bidding"}),
        ({"ADYTON_SNAPSHOT_FOLDER": "ads"}, {"key_value"}),
        ({"INFERENCE_MODEL_BUCKET_NAME": "models"}, {"inference"}),
    ],
)  # fmt: skip
def test_each_service_starts_alone_from_its_environment_names(environ: dict[str, str], services: set[str]) -> None:
    config = config_from_environment({"TEST_MODE": "true", **environ})

    names = ("seller_front_end", "auction", "buyer_front_end", "bidding", "key_value", "inference")
    assert {name for name in names if getattr(config, name) is not None} == services
    has_port = any(name.endswith("_PORT") for name in environ)
    assert config.listen == ("0.0.0.0:50051" if has_port else "127.0.0.1:0")


@pytest.mark.parametrize(
    ("mode", "source"),
    [
        (0, {"default": "https://b/bid.js", "bucket": None}),
        ("FETCH_MODE_URL", {"default": "https://b/bid.js", "bucket": None}),
        (1, {"default": "v1.js", "bucket": "s3://code"}),
        ("FETCH_MODE_BUCKET", {"default": "v1.js", "bucket": "s3://code"}),
        (2, {"default": "/srv/bid.js", "bucket": None}),
    ],
)
def test_the_fetch_mode_chooses_among_url_bucket_and_file(mode: object, source: dict[str, object]) -> None:
    code = {
        "fetchMode": mode,
        "protectedAppSignalsBiddingJsUrl": "https://b/bid.js",
        "protectedAppSignalsBiddingJsBucket": "code",
        "protectedAppSignalsBiddingJsBucketDefaultBlob": "v1.js",
        "biddingJsPath": "/srv/bid.js",
        "urlFetchPeriodMs": 13_000,
        "urlFetchTimeoutMs": 700,
    }
    environ = {"TEST_MODE": "1", "TEE_KV_SERVER_ADDR": "kv:1", "BUYER_CODE_FETCH_CONFIG": json.dumps(code)}
    config = config_from_environment(environ)

    assert config.bidding is not None
    assert config.bidding.generate_bid.model_dump(exclude={"versions"}) == source
    assert (config.code_fetch_period_ms, config.code_fetch_timeout_ms) == (13_000, 700)
    google = config_from_environment({**environ, "ADYTON_BUCKET_SCHEME": "gs"})
    if source["bucket"]:
        assert google.bidding.generate_bid.bucket == "gs://code"  # type: ignore[union-attr]


@pytest.mark.parametrize("mode", [3, "url", None, True, [0]])
def test_another_fetch_mode_is_refused(mode: object) -> None:
    code = {"fetchMode": mode, "protectedAppSignalsBiddingJsUrl": "https://b/bid.js"}
    with pytest.raises(ConfigError, match="fetchMode") as caught:
        config_from_environment({"TEST_MODE": "true", "BUYER_CODE_FETCH_CONFIG": json.dumps(code)})
    assert caught.value.where == "BUYER_CODE_FETCH_CONFIG"


def test_keys_outside_of_test_mode_come_from_the_coordinators_that_are_named() -> None:
    config = config_from_environment(
        {
            "AUCTION_PORT": "50051",
            "SELLER_CODE_FETCH_CONFIG": SELLER_CODE,
            "PUBLIC_KEY_ENDPOINT": "https://keys/list",
            "PRIMARY_COORDINATOR_PRIVATE_KEY_ENDPOINT": "https://one/v1alpha/encryptionKeys",
            "SECONDARY_COORDINATOR_PRIVATE_KEY_ENDPOINT": "https://two/v1alpha/encryptionKeys/",
            "PRIVATE_KEY_CACHE_TTL_SECONDS": "3974400",
            "KEY_REFRESH_FLOW_RUN_FREQUENCY_SECONDS": "20000",
        }
    )

    assert config.keys is not None
    assert config.keys.coordinators == ("https://one", "https://two")
    assert (config.keys.max_age_s, config.keys.refresh_period_ms) == (3_974_400, 20_000_000)


def test_scoring_signals_are_fetched_as_their_mode_says() -> None:
    seller = {"TEST_MODE": "true", "SELLER_ORIGIN_DOMAIN": "s", "AUCTION_SERVER_HOST": "a:1"}
    for mode, expected in (
        ("NOT_FETCHED", (False, False)), ("FETCHED_BUT_OPTIONAL", (True, False)), ("REQUIRED", (True, True)),
    ):  # fmt: skip
        front = config_from_environment({**seller, "SCORING_SIGNALS_FETCH_MODE": mode}).seller_front_end
        assert front is not None
        assert (front.uses_scoring_signals, front.requires_scoring_signals) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SCORING_SIGNALS_FETCH_MODE", "SOMETIMES"),
        ("SELLER_FRONTEND_PORT", "http"),
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


def test_what_is_asked_for_and_not_offered_is_said(caplog: pytest.LogCaptureFixture) -> None:
    environ = {"TEST_MODE": "true", "SELLER_ORIGIN_DOMAIN": "s", "AUCTION_SERVER_HOST": "127.0.0.1:1"}

    config_from_environment({**environ, "ENABLE_PROTECTED_AUDIENCE": "false", "DEBUG_SAMPLE_RATE_MICRO": "0"})
    assert caplog.text == ""
    config_from_environment({**environ, "ENABLE_PROTECTED_AUDIENCE": "true", "DEBUG_SAMPLE_RATE_MICRO": "5"})
    assert [record.getMessage().split()[0] for record in caplog.records] == [
        "ENABLE_PROTECTED_AUDIENCE", "DEBUG_SAMPLE_RATE_MICRO",
    ]  # fmt: skip


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


def test_an_error_in_a_file_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "party.json"
    for document, told in (
        ({"name": "b"}, ", configuration: a process needs at least one service"),
        ({**BUYER, "name": ""}, ", name: "),
        ({**BUYER, "bidding": {"generate_bid": "x", "limited": 3}}, ", bidding.limited: "),
    ):
        path.write_text(json.dumps(document))
        with pytest.raises(ConfigError) as caught:
            load_config(path)
        assert str(caught.value).startswith(f"{path}{told}")
    path.write_text("[" * 100_000)
    with pytest.raises(ConfigError, match="not JSON"):
        load_config(path)


def test_names_that_are_left_empty_are_as_good_as_none() -> None:
    given = {
        "TEST_MODE": "true",
        "BUYER_CODE_FETCH_CONFIG": '{"fetchMode":2,"biddingJsPath":"bid.js"}',
        "ADYTON_SNAPSHOT_FOLDER": "ads",
    }
    empty = (
        "ADYTON_HTTP_LISTEN", "ADYTON_KV_UDF", "AD_RETRIEVAL_TIMEOUT_MS", "AUCTION_SERVER_HOST", "BIDDING_SERVER_ADDR",
        "INFERENCE_MODEL_BUCKET_NAME", "PUBLIC_KEY_ENDPOINT", "SELLER_CODE_FETCH_CONFIG", "SELLER_ORIGIN_DOMAIN",
        "TEE_AD_RETRIEVAL_KV_SERVER_ADDR", "TEE_KV_SERVER_ADDR",
    )  # fmt: skip

    assert config_from_environment({**given, **dict.fromkeys(empty, "")}) == config_from_environment(given)
    switched_off = config_from_environment({**given, "enable_temporary_unlimited_egress": ""})
    assert switched_off.bidding is not None
    assert not switched_off.bidding.enable_temporary_unlimited_egress


def test_the_retrieval_function_may_have_the_name_of_the_documents() -> None:
    given = {"TEST_MODE": "true", "ADYTON_SNAPSHOT_FOLDER": "ads", "ADYTON_KV_UDF": "retrieval.js"}
    for names, expected in (
        (given, "HandleRequest"),
        ({**given, "ADYTON_KV_HANDLER": "getCandidateAds"}, "getCandidateAds"),
    ):
        found = config_from_environment(names).key_value
        assert found is not None
        assert found.handler_name == expected
