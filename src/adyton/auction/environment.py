"""The reference services' environment names (protected-auction §15) as one process's configuration.

A deployment script written for those services starts ours: which service a process is follows from the names it sets.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from adyton.auction.config import ProcessConfig, parse_config
from adyton.auction.errors import ConfigError

_TRUE, _FALSE = ("true", "1"), ("false", "0", "")


def config_from_environment(environ: Mapping[str, str]) -> ProcessConfig:
    """The configuration that the names describe.

    `SELLER_ORIGIN_DOMAIN` makes a seller front end, `SELLER_CODE_FETCH_CONFIG` an auction service,
    `BUYER_CODE_FETCH_CONFIG` bidding with a buyer front end before it; `ADYTON_SNAPSHOT_FOLDER` a key/value service.
    Raises ConfigError naming the variable.
    """
    read = _Reader(environ)
    document: dict[str, object] = {
        "name": environ.get("ADYTON_PARTY_NAME") or environ.get("SELLER_ORIGIN_DOMAIN") or "adyton",
        "listen": environ.get("ADYTON_LISTEN", "127.0.0.1:0"),
        "http_listen": environ.get("ADYTON_HTTP_LISTEN"),
        "test_mode": read.flag("TEST_MODE", default=False),
        "consented_debug_token": environ.get("CONSENTED_DEBUG_TOKEN", ""),
    }
    if "SELLER_ORIGIN_DOMAIN" in environ:
        document["seller_front_end"] = _seller_front_end(environ, read)
    if "SELLER_CODE_FETCH_CONFIG" in environ:
        document["auction"] = _auction(read)
    if "BUYER_CODE_FETCH_CONFIG" in environ:
        document["bidding"] = _bidding(environ, read)
        document["buyer_front_end"] = _given(
            bidding_timeout_ms=read.number("PROTECTED_APP_SIGNALS_GENERATE_BID_TIMEOUT_MS")
        )
    if "ADYTON_SNAPSHOT_FOLDER" in environ:
        document["key_value"] = {"snapshot": environ["ADYTON_SNAPSHOT_FOLDER"], "udf": environ.get("ADYTON_KV_UDF")}
    if "INFERENCE_MODEL_BUCKET_NAME" in environ:
        document["inference"] = _given(
            models=environ["INFERENCE_MODEL_BUCKET_NAME"],
            model_list=environ.get("INFERENCE_MODEL_CONFIG_PATH"),
            fetch_period_ms=read.number("INFERENCE_MODEL_FETCH_PERIOD_MS"),
        )
    return parse_config(document)


def _seller_front_end(environ: Mapping[str, str], read: _Reader) -> dict[str, object]:
    hosts = read.document("BUYER_SERVER_HOSTS") if "BUYER_SERVER_HOSTS" in environ else {}
    buyers = {}
    for buyer, entry in hosts.items():
        url = entry.get("url") if isinstance(entry, dict) else None
        if not isinstance(url, str):
            raise ConfigError("each buyer needs an object with a url", where="BUYER_SERVER_HOSTS")
        buyers[buyer] = url
    key_value = environ.get("TEE_KV_SERVER_ADDR")
    return _given(
        seller_domain=environ["SELLER_ORIGIN_DOMAIN"],
        buyers=buyers,
        enable_protected_app_signals=read.flag("ENABLE_PROTECTED_APP_SIGNALS", default=True),
        auction_address=environ.get("AUCTION_SERVER_HOST"),
        key_value_address=key_value,
        uses_scoring_signals=bool(key_value) or "ADYTON_SNAPSHOT_FOLDER" in environ,
        get_bids_timeout_ms=read.number("GET_BID_RPC_TIMEOUT_MS"),
        score_ads_timeout_ms=read.number("SCORE_ADS_RPC_TIMEOUT_MS"),
        key_value_timeout_ms=read.number("KEY_VALUE_SIGNALS_FETCH_RPC_TIMEOUT_MS"),
        enable_chaffing=read.flag("ENABLE_CHAFFING", default=False),
        enable_chaffing_v2=read.flag("ENABLE_CHAFFING_V2", default=False),
        enable_buyer_caching=read.flag("ENABLE_BUYER_CACHING", default=False),
    )


def _auction(read: _Reader) -> dict[str, object]:
    code = read.document("SELLER_CODE_FETCH_CONFIG")
    return _given(
        score_ad=_member(code, "auctionJsUrl", "SELLER_CODE_FETCH_CONFIG"),
        report_win=code.get("protectedAppSignalsBuyerReportWinJsUrls"),
        enable_report_result=code.get("enableReportResultUrlGeneration"),
        enable_report_win=code.get("enableReportWinUrlGeneration"),
        enable_report_win_input_noising=read.flag("ENABLE_REPORT_WIN_INPUT_NOISING", default=True),
        udf_timeout_ms=read.number("ROMA_TIMEOUT_MS"),
    )


def _bidding(environ: Mapping[str, str], read: _Reader) -> dict[str, object]:
    code = read.document("BUYER_CODE_FETCH_CONFIG")
    schema = read.document("EGRESS_SCHEMA_FETCH_CONFIG") if "EGRESS_SCHEMA_FETCH_CONFIG" in environ else {}
    return _given(
        generate_bid=_member(code, "protectedAppSignalsBiddingJsUrl", "BUYER_CODE_FETCH_CONFIG"),
        prepare_data=code.get("prepareDataForAdsRetrievalJsUrl"),
        egress_schema=schema.get("egressSchemaUrl"),
        limited_egress_bits=read.number("limited_egress_bits"),
        enable_temporary_unlimited_egress=read.flag("enable_temporary_unlimited_egress", default=True),
        retrieval_address=environ.get("TEE_AD_RETRIEVAL_KV_SERVER_ADDR"),
        lookup_address=environ.get("TEE_KV_SERVER_ADDR"),
        retrieval_timeout_ms=read.number("AD_RETRIEVAL_TIMEOUT_MS"),
        udf_timeout_ms=read.number("ROMA_TIMEOUT_MS"),
    )


def _given(**members: object) -> dict[str, object]:
    """The members that were set; the others keep their defaults."""
    return {name: value for name, value in members.items() if value is not None}


def _member(document: Mapping[str, object], name: str, where: str) -> object:
    if not document.get(name):
        raise ConfigError(f"{name} is missing", where=where)
    return document[name]


class _Reader:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def flag(self, name: str, *, default: bool) -> bool:
        text = self._environ.get(name)
        if text is None:
            return default
        if text.lower() in _TRUE:
            return True
        if text.lower() in _FALSE:
            return False
        raise ConfigError("must be true or false", where=name)

    def number(self, name: str) -> int | None:
        text = self._environ.get(name)
        if text is None:
            return None
        try:
            return int(text)
        except ValueError as error:
            raise ConfigError("must be a whole number", where=name) from error

    def document(self, name: str) -> dict[str, object]:
        try:
            parsed = json.loads(self._environ[name])
        except ValueError as error:
            raise ConfigError("must be JSON", where=name) from error
        if not isinstance(parsed, dict):
            raise ConfigError("must be a JSON object", where=name)
        return parsed
