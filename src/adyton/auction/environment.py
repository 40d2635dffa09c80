"""The reference services' environment names (protected-auction §15) as one process's configuration.

A deployment script written for those services starts ours. Where it names ports, the process is the services that have
one; else what it is follows from the names it sets:

    SELLER_FRONTEND_PORT    SELLER_ORIGIN_DOMAIN                                  seller front end
    AUCTION_PORT            SELLER_CODE_FETCH_CONFIG without AUCTION_SERVER_HOST  auction
    BUYER_FRONTEND_PORT     BIDDING_SERVER_ADDR, or what makes bidding            buyer front end
    BIDDING_PORT            BUYER_CODE_FETCH_CONFIG                               bidding
    -                       ADYTON_SNAPSHOT_FOLDER                                key/value
    -                       INFERENCE_MODEL_BUCKET_NAME                           inference

A bucket's bare name is an S3 bucket, or one of Google where ADYTON_BUCKET_SCHEME is gs; an address or a path stays as
it is. Names of features that are not offered here, such as ENABLE_PROTECTED_AUDIENCE, are left alone, with a warning
where they ask for something.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from adyton.auction.config import ProcessConfig, parse_config
from adyton.auction.errors import ConfigError
from adyton.auction.keys.wire import PRIVATE_PATH

_log = logging.getLogger(__name__)
_TRUE, _FALSE = ("true", "1"), ("false", "0", "")
_PORTS = ("SELLER_FRONTEND_PORT", "AUCTION_PORT", "BUYER_FRONTEND_PORT", "BIDDING_PORT")
_FETCH_MODES: Mapping[object, int] = MappingProxyType(
    {0: 0, 1: 1, 2: 2, "FETCH_MODE_URL": 0, "FETCH_MODE_BUCKET": 1, "FETCH_MODE_LOCAL": 2}
)
_FETCH_VARIABLES = ("BUYER_CODE_FETCH_CONFIG", "SELLER_CODE_FETCH_CONFIG", "EGRESS_SCHEMA_FETCH_CONFIG")
_SIGNALS_MODES = {"NOT_FETCHED": (False, False), "FETCHED_BUT_OPTIONAL": (True, False), "REQUIRED": (True, True)}


@dataclass(frozen=True)
class _SourceMembers:
    """How one variable names one script or schema, for each of the three ways to fetch it."""

    variable: str
    url: str
    bucket: str
    blob: str
    path: str


_SCORE_AD = _SourceMembers(
    "SELLER_CODE_FETCH_CONFIG", "auctionJsUrl", "auctionJsBucket", "auctionJsBucketDefaultBlob", "auctionJsPath"
)
_GENERATE_BID = _SourceMembers(
    "BUYER_CODE_FETCH_CONFIG",
    "protectedAppSignalsBiddingJsUrl",
    "protectedAppSignalsBiddingJsBucket",
    "protectedAppSignalsBiddingJsBucketDefaultBlob",
    "biddingJsPath",
)
_PREPARE_DATA = _SourceMembers(
    "BUYER_CODE_FETCH_CONFIG",
    "prepareDataForAdsRetrievalJsUrl",
    "adsRetrievalJsBucket",
    "adsRetrievalBucketDefaultBlob",
    "prepareDataForAdsRetrievalJsPath",
)
_EGRESS_SCHEMA = _SourceMembers(
    "EGRESS_SCHEMA_FETCH_CONFIG",
    "egressSchemaUrl",
    "egressSchemaBucket",
    "egressDefaultSchemaInBucket",
    "egressSchemaPath",
)
_UNLIMITED_EGRESS_SCHEMA = _SourceMembers(
    "EGRESS_SCHEMA_FETCH_CONFIG",
    "temporaryUnlimitedEgressSchemaUrl",
    "temporaryUnlimitedEgressSchemaBucket",
    "temporaryUnlimitedEgressDefaultSchemaInBucket",
    "temporaryUnlimitedEgressSchemaPath",
)


def config_from_environment(environ: Mapping[str, str]) -> ProcessConfig:
    """The configuration that the names describe.

    Raises ConfigError naming the variable.
    """
    read = _Reader(environ)
    # Deployments leave names empty for what they do not have; only a switch has a meaning when it is empty.
    environ = read.given
    is_seller, is_auction, is_buyer, is_bidding = _services(environ)
    document: dict[str, object] = {
        "name": environ.get("ADYTON_PARTY_NAME") or environ.get("SELLER_ORIGIN_DOMAIN") or "adyton",
        "listen": _listen(environ, read),
        "http_listen": environ.get("ADYTON_HTTP_LISTEN"),
        "test_mode": read.flag("TEST_MODE", default=False),
        "consented_debug_token": environ.get("CONSENTED_DEBUG_TOKEN", ""),
        "keys": _keys(environ, read),
    }
    if is_seller:
        document["seller_front_end"] = _seller_front_end(environ, read)
    if is_auction:
        document["auction"] = _auction(environ, read)
    if is_bidding:
        document["bidding"] = _bidding(environ, read)
    if is_buyer:
        document["buyer_front_end"] = _given(
            bidding_address=environ.get("BIDDING_SERVER_ADDR"),
            bidding_timeout_ms=read.number("PROTECTED_APP_SIGNALS_GENERATE_BID_TIMEOUT_MS"),
        )
    if "ADYTON_SNAPSHOT_FOLDER" in environ:
        document["key_value"] = _given(
            snapshot=environ["ADYTON_SNAPSHOT_FOLDER"],
            udf=environ.get("ADYTON_KV_UDF"),
            handler_name=environ.get("ADYTON_KV_HANDLER"),
        )
    if "INFERENCE_MODEL_BUCKET_NAME" in environ:
        document["inference"] = _given(
            models=_bucket(environ, environ["INFERENCE_MODEL_BUCKET_NAME"]),
            model_list=environ.get("INFERENCE_MODEL_CONFIG_PATH"),
            fetch_period_ms=read.number("INFERENCE_MODEL_FETCH_PERIOD_MS"),
            threads=read.member("INFERENCE_SIDECAR_RUNTIME_CONFIG", "num_intraop_threads"),
        )
    document |= _fetch_times(read)
    config = parse_config(document)
    _warn_of_what_is_not_offered(read)
    return config


def _warn_of_what_is_not_offered(read: _Reader) -> None:
    if read.flag("ENABLE_PROTECTED_AUDIENCE", default=False):
        _log.warning("ENABLE_PROTECTED_AUDIENCE has no effect: interest groups are passed on and get no bids")
    if read.number("DEBUG_SAMPLE_RATE_MICRO"):
        _log.warning("DEBUG_SAMPLE_RATE_MICRO has no effect: only consented requests are debugged")


def _fetch_times(read: _Reader) -> dict[str, object]:
    """How often and how long code and schemas are fetched: a process has one of each, the least that is named."""
    found: dict[str, object] = {}
    for member, ours in (("urlFetchPeriodMs", "code_fetch_period_ms"), ("urlFetchTimeoutMs", "code_fetch_timeout_ms")):
        given = [number for name in _FETCH_VARIABLES if (number := read.member(name, member))]
        if given:
            found[ours] = min(given)
    return found


def _services(environ: Mapping[str, str]) -> tuple[bool, bool, bool, bool]:
    """Whether this process is a seller front end, an auction, a buyer front end, bidding."""
    if any(environ.get(name) for name in _PORTS):
        seller, auction, buyer, bidding = (bool(environ.get(name)) for name in _PORTS)
        return seller, auction, buyer, bidding
    is_bidding = "BUYER_CODE_FETCH_CONFIG" in environ
    return (
        "SELLER_ORIGIN_DOMAIN" in environ,
        "SELLER_CODE_FETCH_CONFIG" in environ and not environ.get("AUCTION_SERVER_HOST"),
        is_bidding or bool(environ.get("BIDDING_SERVER_ADDR")),
        is_bidding,
    )


def _listen(environ: Mapping[str, str], read: _Reader) -> str:
    """`ADYTON_LISTEN`, or else every address at the one port that is named, as the reference serves."""
    if environ.get("ADYTON_LISTEN"):
        return environ["ADYTON_LISTEN"]
    ports = {read.number(name) for name in _PORTS if environ.get(name)}
    if len(ports) > 1:
        raise ConfigError("a process listens at one port", where=", ".join(_PORTS), hint="give ADYTON_LISTEN")
    return f"0.0.0.0:{ports.pop()}" if ports else "127.0.0.1:0"


def _keys(environ: Mapping[str, str], read: _Reader) -> dict[str, object] | None:
    if "PUBLIC_KEY_ENDPOINT" not in environ:
        return None
    coordinators = [
        # Ours is told the service, the reference the path of its keys.
        environ[name].rstrip("/").removesuffix(PRIVATE_PATH)
        for name in ("PRIMARY_COORDINATOR_PRIVATE_KEY_ENDPOINT", "SECONDARY_COORDINATOR_PRIVATE_KEY_ENDPOINT")
        if environ.get(name)
    ]
    refresh_s = read.number("KEY_REFRESH_FLOW_RUN_FREQUENCY_SECONDS")
    return _given(
        public_keys=environ["PUBLIC_KEY_ENDPOINT"],
        private_keys=environ.get("ADYTON_PRIVATE_KEYS"),
        coordinators=coordinators or None,
        refresh_period_ms=None if refresh_s is None else 1000 * refresh_s,
        max_age_s=read.number("PRIVATE_KEY_CACHE_TTL_SECONDS"),
    )


def _seller_front_end(environ: Mapping[str, str], read: _Reader) -> dict[str, object]:
    buyers = {}
    for buyer, entry in read.document("BUYER_SERVER_HOSTS").items():
        url = entry.get("url") if isinstance(entry, dict) else None
        if not isinstance(url, str):
            raise ConfigError("each buyer needs an object with a url", where="BUYER_SERVER_HOSTS")
        buyers[buyer] = url
    key_value = environ.get("TRUSTED_KEY_VALUE_V2_SIGNALS_HOST") or environ.get("TEE_KV_SERVER_ADDR")
    # The reference asks it in test mode only, and deployments leave placeholders in it otherwise.
    untrusted = environ.get("KEY_VALUE_SIGNALS_HOST", "")
    is_untrusted = not key_value and untrusted.startswith("http") and read.flag("TEST_MODE", default=False)
    uses_signals, requires_signals = read.signals_mode(
        default=(bool(key_value) or is_untrusted or "ADYTON_SNAPSHOT_FOLDER" in environ, False)
    )
    return _given(
        seller_domain=environ.get("SELLER_ORIGIN_DOMAIN"),
        buyers=buyers,
        enable_protected_app_signals=read.flag("ENABLE_PROTECTED_APP_SIGNALS", default=True),
        auction_address=environ.get("AUCTION_SERVER_HOST"),
        key_value_address=key_value,
        untrusted_key_value_url=untrusted if is_untrusted else None,
        uses_scoring_signals=uses_signals,
        requires_scoring_signals=requires_signals,
        get_bids_timeout_ms=read.number("GET_BID_RPC_TIMEOUT_MS"),
        score_ads_timeout_ms=read.number("SCORE_ADS_RPC_TIMEOUT_MS"),
        key_value_timeout_ms=read.number("KEY_VALUE_SIGNALS_FETCH_RPC_TIMEOUT_MS"),
        enable_chaffing=read.flag("ENABLE_CHAFFING", default=False),
        enable_chaffing_v2=read.flag("ENABLE_CHAFFING_V2", default=False),
        enable_buyer_caching=read.flag("ENABLE_BUYER_CACHING", default=False),
    )


def _auction(environ: Mapping[str, str], read: _Reader) -> dict[str, object]:
    code = read.document(_SCORE_AD.variable)
    return _given(
        score_ad=_source(environ, read, _SCORE_AD, is_needed=True),
        report_win=code.get("protectedAppSignalsBuyerReportWinJsUrls"),
        # The reference reports only where it is told to.
        enable_report_result=code.get("enableReportResultUrlGeneration", False),
        enable_report_win=code.get("enableReportWinUrlGeneration", False),
        enable_report_win_input_noising=read.flag("ENABLE_REPORT_WIN_INPUT_NOISING", default=True),
        requires_scoring_signals=read.signals_mode(default=(False, False))[1],
        udf_timeout_ms=read.number("ROMA_TIMEOUT_MS"),
    )


def _bidding(environ: Mapping[str, str], read: _Reader) -> dict[str, object]:
    return _given(
        generate_bid=_source(environ, read, _GENERATE_BID, is_needed=True),
        prepare_data=_source(environ, read, _PREPARE_DATA),
        egress_schema=_source(environ, read, _EGRESS_SCHEMA),
        temporary_unlimited_egress_schema=_source(environ, read, _UNLIMITED_EGRESS_SCHEMA),
        limited_egress_bits=read.number("limited_egress_bits"),
        enable_temporary_unlimited_egress=read.flag("enable_temporary_unlimited_egress", default=True),
        retrieval_address=environ.get("TEE_AD_RETRIEVAL_KV_SERVER_ADDR") or environ.get("TEE_KV_SERVER_ADDR"),
        lookup_address=environ.get("TEE_KV_SERVER_ADDR"),
        retrieval_timeout_ms=read.number("AD_RETRIEVAL_TIMEOUT_MS"),
        udf_timeout_ms=read.number("ROMA_TIMEOUT_MS"),
    )


def _source(environ: Mapping[str, str], read: _Reader, members: _SourceMembers, *, is_needed: bool = False) -> object:
    """Where a script or schema is, by the variable's fetchMode; None if the variable does not name it."""
    document = read.document(members.variable)
    given = document.get("fetchMode", 0)
    name = None
    if isinstance(given, int | str) and not isinstance(given, bool):
        name = {0: members.url, 1: members.bucket, 2: members.path}.get(_FETCH_MODES.get(given, -1))
    if name is None:
        raise ConfigError("fetchMode must be 0 (URL), 1 (bucket) or 2 (local)", where=members.variable)
    found = document.get(name)
    if not found:
        if is_needed:
            raise ConfigError(f"{name} is missing", where=members.variable)
        return None
    if name != members.bucket:
        return found
    if not document.get(members.blob):
        raise ConfigError(f"{members.blob} is missing", where=members.variable)
    return {"bucket": _bucket(environ, found), "default": document[members.blob]}


def _bucket(environ: Mapping[str, str], found: object) -> object:
    """The place of a bucket: a bare name becomes an address, all else stays as it is."""
    is_name = isinstance(found, str) and "/" not in found
    return f"{environ.get('ADYTON_BUCKET_SCHEME', 's3')}://{found}" if is_name else found


def _given(**members: object) -> dict[str, object]:
    """The members that were set; the others keep their defaults."""
    return {name: value for name, value in members.items() if value is not None}


class _Reader:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self._all = environ
        self.given: Mapping[str, str] = {name: text for name, text in environ.items() if text}

    def flag(self, name: str, *, default: bool) -> bool:
        text = self._all.get(name)
        if text is None:
            return default
        if text.lower() in _TRUE:
            return True
        if text.lower() in _FALSE:
            return False
        raise ConfigError("must be true or false", where=name)

    def number(self, name: str) -> int | None:
        text = self.given.get(name)
        if text is None:
            return None
        try:
            return int(text)
        except ValueError as error:
            raise ConfigError("must be a whole number", where=name) from error

    def member(self, name: str, member: str) -> int | None:
        """The whole number of a member of a variable's JSON object."""
        given = self.document(name).get(member)
        if given is not None and (isinstance(given, bool) or not isinstance(given, int)):
            raise ConfigError(f"{member} must be a whole number", where=name)
        return given

    def signals_mode(self, *, default: tuple[bool, bool]) -> tuple[bool, bool]:
        """Whether scoring signals are used and required, by SCORING_SIGNALS_FETCH_MODE."""
        name = "SCORING_SIGNALS_FETCH_MODE"
        if not self.given.get(name):
            return default
        if self.given[name] not in _SIGNALS_MODES:
            raise ConfigError(f"must be one of {', '.join(_SIGNALS_MODES)}", where=name)
        return _SIGNALS_MODES[self.given[name]]

    def document(self, name: str) -> dict[str, object]:
        """The JSON object of a variable; an empty one if it is not set."""
        if name not in self.given:
            return {}
        try:
            parsed = json.loads(self.given[name])
        except ValueError as error:
            raise ConfigError("must be JSON", where=name) from error
        if not isinstance(parsed, dict):
            raise ConfigError("must be a JSON object", where=name)
        return parsed
