"""What one process of the auction holds: a JSON document, checked once and frozen.

A party usually runs one process with all of its services; a section with an address instead of a neighbour's section
makes the same service call another process. Paths are relative to the configuration file.
"""

from __future__ import annotations

import json
import re
from fractions import Fraction
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from adyton.auction.errors import ConfigError
from adyton.kernel.errors import BadInputError
from adyton.protocol.egress_noise import DEFAULT_RATE, parse_rate
from adyton.protocol.egress_schema import Dialect
from adyton.sandbox.engines import Engine


class Section(BaseModel):
    """Frozen, and unknown members are errors: a misspelt limit must not silently be the default."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ScriptSource(Section):
    """Where code or a schema comes from: files, http(s) URLs, or a bucket. A text alone is the `default`.

    default: file or URL, or with a bucket the name of its default blob.   versions: name -> file or URL, for requests
    with blob versions.   bucket: folder, `s3://`, `gs://` or `https://host/bucket`; each of its blobs is a version, by
    its name.
    """

    default: str
    versions: dict[str, str] = Field(default_factory=dict)
    bucket: str | None = None


def _as_source(value: object) -> object:
    return {"default": value} if isinstance(value, str) else value


def _as_fraction(value: object) -> object:
    """Exact: "1/100", "0.01" and 0.01 are all one in a hundred."""
    if not isinstance(value, int | float | str):
        return value
    try:
        return parse_rate(str(value))
    except BadInputError as error:
        raise ValueError(error.what) from error


Script = Annotated[ScriptSource, BeforeValidator(_as_source)]
Rate = Annotated[Fraction, BeforeValidator(_as_fraction), Field(ge=0, le=1)]
Address = Annotated[str, Field(min_length=1)]
Milliseconds = Annotated[int, Field(gt=0)]


class SellerFrontEndConfig(Section):
    """SelectAd.

    buyers: buyer -> "host:port" of its front end.   auction_address, key_value_address: None means the service of this
    process.   untrusted_key_value_url: the seller's own HTTP server instead, for test mode only.
    replay_window_s: the documented limit on a request's age; None for no limit.
    max_buyers: None for the reference's limits (15 with chaff, 2 without) lifted.
    auctions_at_once: how many are worked on at the same time, the others wait in the order of arrival; None for no
    limit. With buyers on the same machine, two serve best on two cores; the farther they are, the more.
    max_waiting_auctions: beyond this many the answer is RESOURCE_EXHAUSTED.
    """

    seller_domain: str
    buyers: dict[str, Address] = Field(default_factory=dict)
    enable_protected_app_signals: bool = True
    auction_address: Address | None = None
    key_value_address: Address | None = None
    untrusted_key_value_url: str | None = Field(default=None, pattern="^https?://")
    uses_scoring_signals: bool = True
    requires_scoring_signals: bool = False
    get_bids_timeout_ms: Milliseconds = 60_000
    score_ads_timeout_ms: Milliseconds = 60_000
    key_value_timeout_ms: Milliseconds = 60_000
    enable_chaffing: bool = False
    enable_chaffing_v2: bool = False
    enable_buyer_caching: bool = False
    replay_window_s: int | None = Field(default=None, gt=0)
    max_buyers: int | None = Field(default=None, gt=0)
    auctions_at_once: int | None = Field(default=None, gt=0)
    max_waiting_auctions: int = Field(default=1000, ge=0)


class AuctionConfig(Section):
    """ScoreAds. `score_ad` holds `scoreAd` and `reportResult`; `report_win` holds each buyer's `reportWin`.

    requires_scoring_signals: for a service alone; beside a seller front end, that section's value holds.
    """

    score_ad: Script
    report_win: dict[str, Script] = Field(default_factory=dict)
    enable_report_result: bool = True
    enable_report_win: bool = True
    enable_report_win_input_noising: bool = True
    requires_scoring_signals: bool = False
    udf_timeout_ms: Milliseconds = 10_000


class BuyerFrontEndConfig(Section):
    """GetBids.

    bidding_address: None means the service of this process.
    requests_at_once, max_waiting_requests: as `auctions_at_once` and `max_waiting_auctions` of the seller. Chaff does
    not wait.
    """

    bidding_address: Address | None = None
    bidding_timeout_ms: Milliseconds = 60_000
    requests_at_once: int | None = Field(default=None, gt=0)
    max_waiting_requests: int = Field(default=1000, ge=0)


class BiddingConfig(Section):
    """GenerateProtectedAppSignalsBids.

    retrieval_address, lookup_address, inference_address: None means the service of this process. Calls of inference
    are not encrypted, as in the reference, so that outside of test mode its address must be on this machine.
    noise_rate: share of egress payloads that are replaced.   noise_temporary_unlimited_egress: of that channel's too,
    as the proposal asks.   egress_dialect: `documented` for schemas with `type` and nullable features, as the documents
    show them and the reference does not read them.   insecure_fixed_noise_seed: repeatable noise that protects nobody,
    for tests and demonstrations.
    """

    generate_bid: Script
    prepare_data: Script | None = None
    egress_schema: Script | None = None
    temporary_unlimited_egress_schema: Script | None = None
    limited_egress_bits: int = Field(default=0, ge=0)
    enable_temporary_unlimited_egress: bool = True
    noise_rate: Rate = DEFAULT_RATE
    noise_temporary_unlimited_egress: bool = False
    insecure_fixed_noise_seed: int | None = None
    egress_protocol: int = Field(default=0, ge=0, le=31)
    egress_dialect: Dialect = Dialect.SHIPPED
    pad_egress_to_limit: bool = False
    retrieval_address: Address | None = None
    lookup_address: Address | None = None
    inference_address: Address | None = None
    retrieval_timeout_ms: Milliseconds = 60_000
    udf_timeout_ms: Milliseconds = 10_000


class KeyValueConfig(Section):
    """The key/value and ad-retrieval service. `udf` None means the built-in lookups."""

    snapshot: str
    udf: Script | None = None
    handler_name: str = "HandleRequest"
    udf_timeout_ms: Milliseconds = 5_000
    poll_period_ms: Milliseconds = 10_000


class InferenceConfig(Section):
    """The inference process.

    models: the bucket: a folder, `s3://`, `gs://` or `https://host/bucket`; None for models that are registered over
    gRPC only.   model_list: the place of the model list JSON inside it (protected-auction §9).
    timeout_ms: longest time of one prediction.   threads: of one prediction.
    python: the interpreter that runs the models, for runtimes in an environment of their own; it needs numpy, orjson
    and the runtime, such as tensorflow-cpu.   memory_mb: what the model process may use.
    """

    models: str | None = None
    model_list: str = "models.json"
    fetch_period_ms: int = Field(default=300_000, ge=60_000)
    timeout_ms: Milliseconds = 5_000
    python: str | None = None
    memory_mb: int = Field(default=8192, ge=256)
    threads: int = Field(default=1, ge=1, le=64)


class KeysConfig(Section):
    """Where keys come from outside of test mode.

    private_keys: key file of this party, `{"keys": [{"id": hex, "private": base64}]}`.   coordinators: instead of it,
    the http(s) URLs of one key service, or of two that hold a half of each key (protected-auction §14.2).
    public_keys: the public key list that requests to peers are sealed to: a file or an http(s) URL.
    max_age_s: how old keys of coordinators may be.
    """

    private_keys: str | None = None
    coordinators: tuple[str, ...] = Field(default=(), max_length=2)
    public_keys: str
    refresh_period_ms: Milliseconds = 20_000_000
    max_age_s: int = Field(default=3_974_400, gt=0)

    @model_validator(mode="after")
    def _check_source(self) -> KeysConfig:
        if (self.private_keys is None) == (not self.coordinators):
            raise ValueError("give one of `private_keys` and `coordinators`")
        if len(set(self.coordinators)) != len(self.coordinators):
            raise ValueError("two coordinators must be different services")
        return self


class SandboxConfig(Section):
    """Processes for scripts.

    engine: `v8` (Deno), or `quickjs` (extra of the same name) for machines where no V8 binary may run.
    workers_per_udf: processes for one script file. One is the fastest on few cores, but a script that hangs then holds
    up its own other requests until the deadline. Functions of one party in one file share processes, and those that
    work on the same request share a context; that is a third cheaper than a file for each.
    """

    engine: Engine = Engine.V8
    spares: int = Field(default=1, ge=0)
    workers: int = Field(default=24, gt=0)
    workers_per_udf: int = Field(default=2, gt=0)
    requests_per_worker: int = Field(default=20_000, gt=0)


class ProcessConfig(Section):
    """One process. At least one service; whatever has no address must have its section here.

    listen: gRPC "host:port"; port 0 lets the system choose.   http_listen: health, metrics, and the calls of the
    services here as JSON (`POST /v1/selectAd` and its like, `PUT /v2/getvalues`); None for none.
    code_fetch_period_ms: how often scripts from URLs and files are looked at again.
    """

    name: str = Field(min_length=1)
    listen: str = "127.0.0.1:0"
    http_listen: str | None = None
    test_mode: bool = False
    production: bool = False
    keys: KeysConfig | None = None
    consented_debug_token: str = ""
    code_fetch_period_ms: Milliseconds = 13_000_000
    code_fetch_timeout_ms: Milliseconds = 30_000
    sandbox: SandboxConfig = SandboxConfig()
    seller_front_end: SellerFrontEndConfig | None = None
    auction: AuctionConfig | None = None
    buyer_front_end: BuyerFrontEndConfig | None = None
    bidding: BiddingConfig | None = None
    key_value: KeyValueConfig | None = None
    inference: InferenceConfig | None = None

    @model_validator(mode="after")
    def _check_whole(self) -> ProcessConfig:
        services = (
            self.seller_front_end, self.auction, self.buyer_front_end, self.bidding, self.key_value, self.inference,
        )  # fmt: skip
        if not any(services):
            raise ValueError("a process needs at least one service")
        if not self.test_mode and self.keys is None:
            raise ValueError("keys are missing: give `keys`, or set `test_mode` on a machine that serves nobody")
        front = self.seller_front_end
        if front is not None and front.untrusted_key_value_url is not None and not self.test_mode:
            raise ValueError("an untrusted key/value server is for test mode: it would learn which ads were bid on")
        if front is not None and front.auction_address is None and self.auction is None:
            raise ValueError("seller_front_end needs an `auction` section or an `auction_address`")
        if self.buyer_front_end is not None and self.buyer_front_end.bidding_address is None and self.bidding is None:
            raise ValueError("buyer_front_end needs a `bidding` section or a `bidding_address`")
        inference = self.bidding.inference_address if self.bidding is not None else None
        if inference is not None and not self.test_mode and not _is_on_this_machine(inference):
            raise ValueError("inference_address must be on this machine: what a script sends there is not encrypted")
        if self.bidding is not None and self.bidding.retrieval_address is None and self.key_value is None:
            raise ValueError("bidding needs a `key_value` section or a `retrieval_address`")
        return self


def _is_on_this_machine(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    return (
        address.startswith("unix:")
        or host in ("localhost", "::1")
        or re.fullmatch(r"127(?:\.[0-9]{1,3}){3}", host) is not None
    )


def parse_config(document: object) -> ProcessConfig:
    """The configuration of a parsed JSON document.

    Raises ConfigError naming the first member that is wrong. Values are not repeated: they may be tokens.
    """
    try:
        return ProcessConfig.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "configuration"
        raise ConfigError(first["msg"].removeprefix("Value error, "), where=where) from error


def load_config(path: Path) -> ProcessConfig:
    """The configuration in a file; relative paths inside it are made absolute.

    Raises ConfigError if it cannot be read, is no JSON, or a member is wrong.
    """
    try:
        document = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError("the configuration cannot be read", where=str(path)) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError("the configuration is not JSON", where=str(path)) from error
    try:
        return anchored(parse_config(document), path.resolve().parent)
    except ConfigError as error:
        raise error.inside(str(path)) from error.__cause__


def anchored(config: ProcessConfig, folder: Path) -> ProcessConfig:
    """The same configuration with every relative path put under `folder`."""

    def place(text: str) -> str:
        return text if text.startswith(("http://", "https://", "s3://", "gs://")) else str(folder / text)

    def source(script: ScriptSource | None) -> ScriptSource | None:
        if script is None:
            return None
        versions = {name: place(text) for name, text in script.versions.items()}
        if script.bucket is None:
            return ScriptSource(default=place(script.default), versions=versions)
        return ScriptSource(default=script.default, versions=versions, bucket=place(script.bucket))

    def changed(section: Section, **members: object) -> Section:
        return section.model_copy(update=members)

    updates: dict[str, object] = {}
    if config.auction is not None:
        report_win = {buyer: source(script) for buyer, script in config.auction.report_win.items()}
        updates["auction"] = changed(config.auction, score_ad=source(config.auction.score_ad), report_win=report_win)
    if config.bidding is not None:
        names = ("generate_bid", "prepare_data", "egress_schema", "temporary_unlimited_egress_schema")
        updates["bidding"] = changed(config.bidding, **{n: source(getattr(config.bidding, n)) for n in names})
    if config.key_value is not None:
        updates["key_value"] = changed(
            config.key_value, snapshot=place(config.key_value.snapshot), udf=source(config.key_value.udf)
        )
    if config.inference is not None and config.inference.models is not None:
        updates["inference"] = changed(config.inference, models=place(config.inference.models))
    if config.keys is not None:
        private = None if config.keys.private_keys is None else place(config.keys.private_keys)
        updates["keys"] = changed(config.keys, private_keys=private, public_keys=place(config.keys.public_keys))
    return config.model_copy(update=updates)
