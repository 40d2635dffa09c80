"""The device's half of an auction: the sealed input, and what may be kept of the result (protected-auction §4).

Pure: the caller stores contexts and results.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from google.protobuf.message import DecodeError

from adyton.device.enrolment import belongs_to, https_host
from adyton.device.errors import AuctionResultError, DeviceStoreError, UpdateUriError
from adyton.device.records import EncodedPayload
from adyton.kernel.chance import RandomSource, randbelow
from adyton.kernel.ids import AdSelectionId
from adyton.protocol.compression import gzip_compress, gzip_decompress
from adyton.protocol.errors import EncapsulationError, MalformedMessageError
from adyton.protocol.frames import (
    HEADER_BYTES,
    Compression,
    PaddingFormat,
    decode_client_frame,
    encode_client_frame,
    padded_request_size,
)
from adyton.protocol.keys import PublicKey
from adyton.protocol.messages import bidding_auction_servers_pb2 as messages
from adyton.protocol.messages import server_common_pb2
from adyton.protocol.ohttp import ClientContext, Label, encapsulate_request

OPTED_OUT_BYTES = 1024
MAX_BEACONS_PER_AD_TECH = 10
MAX_BEACONS = 1000
MAX_BEACON_KEY_BYTES = 40
MAX_BEACON_URL_BYTES = 400


@dataclass(frozen=True)
class SellerConfiguration:
    """What a seller asks of the input. `max_payload_bytes`: the exact size of the frame (padding V2).

    target_bytes: buyer -> how large its compressed input may be; a larger one is included only if room is left.
    """

    max_payload_bytes: int
    target_bytes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class AuctionPolicy:
    """How a device asks. `label`: which of the two request formats.   consented_debug_token: "" for none."""

    label: Label = Label.SFE_CURRENT
    padding: PaddingFormat = PaddingFormat.V0
    enable_debug_reporting: bool = False
    enable_unlimited_egress: bool = False
    is_ad_id_limited: bool = False
    prod_debug: bool = False
    consented_debug_token: str = field(default="", repr=False)
    debug_info_in_response: bool = False


@dataclass(frozen=True)
class AdSelectionData:
    """What an SDK sends to its seller's ad server: `data` becomes `protected_auction_ciphertext`."""

    ad_selection_id: AdSelectionId
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class ReportingUrls:
    """Where one party is told. `beacons`: event key -> URL. Empty text: nowhere."""

    reporting_url: str = ""
    beacons: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def with_beacons_for(self, room: int) -> ReportingUrls:
        """The same with the first `room` >= 0 beacons."""
        return ReportingUrls(self.reporting_url, MappingProxyType(dict(list(self.beacons.items())[:room])))


@dataclass(frozen=True)
class AdSelectionOutcome:
    """What a device keeps of a result; `ad_render_uri` and `buyer` are empty if nobody won."""

    ad_selection_id: AdSelectionId
    ad_render_uri: str
    buyer: str
    seller_urls: ReportingUrls = field(default_factory=ReportingUrls)
    buyer_urls: ReportingUrls = field(default_factory=ReportingUrls)

    @property
    def has_winner(self) -> bool:
        return bool(self.ad_render_uri)

    @property
    def n_beacons(self) -> int:
        return len(self.seller_urls.beacons) + len(self.buyer_urls.beacons)

    def with_beacons_for(self, room: int) -> AdSelectionOutcome:
        """The same with at most `room` beacons, the seller's first."""
        if self.n_beacons <= room:
            return self
        seller_urls = self.seller_urls.with_beacons_for(room)
        buyer_urls = self.buyer_urls.with_beacons_for(room - len(seller_urls.beacons))
        return replace(self, seller_urls=seller_urls, buyer_urls=buyer_urls)


def new_ad_selection_id(source: RandomSource) -> AdSelectionId:
    """A positive 63-bit number."""
    return AdSelectionId(1 + randbelow(source, 2**63 - 1))


def auction_input(
    payloads: Sequence[EncodedPayload],
    *,
    ad_selection_id: AdSelectionId,
    package: str,
    policy: AuctionPolicy,
    now_ms: int,
    seller: SellerConfiguration | None = None,
) -> bytes:
    """The padded frame around a serialized `ProtectedAuctionInput`, uncompressed behind a byte that says gzip (§4.1).

    Raises MalformedMessageError if it is too large for its padding.
    """
    message = messages.ProtectedAuctionInput(
        publisher_name=package,
        enable_debug_reporting=policy.enable_debug_reporting,
        generation_id=str(ad_selection_id),
        enable_unlimited_egress=policy.enable_unlimited_egress and not policy.is_ad_id_limited,
        request_timestamp_ms=now_ms,
        prod_debug=policy.prod_debug,
    )
    if policy.consented_debug_token:
        message.consented_debug_config.CopyFrom(
            server_common_pb2.ConsentedDebugConfiguration(
                is_consented=True,
                token=policy.consented_debug_token,
                is_debug_info_in_response=policy.debug_info_in_response,
            )
        )
    inputs: dict[str, bytes] = {payload.buyer: _buyer_input(payload) for payload in payloads}
    if seller is None:
        message.buyer_input.update(inputs)
        size = padded_request_size(message.ByteSize(), policy.padding)
    else:
        _fill(message, inputs, seller)
        size = padded_request_size(message.ByteSize(), PaddingFormat.V2, max_size=seller.max_payload_bytes)
    return encode_client_frame(message.SerializeToString(deterministic=True), compression=Compression.GZIP, size=size)


def seal_auction_input(frame: bytes, key: PublicKey, policy: AuctionPolicy) -> tuple[bytes, ClientContext]:
    """The ciphertext for the seller, and the context that opens the result."""
    return encapsulate_request(key, frame, policy.label)


def context_to_bytes(context: ClientContext, seller: str) -> bytes:
    """For the store, which seals it."""
    tree = {
        "label": context.label.name,
        "enc": context.enc.hex(),
        "secret": context.secret.hex(),
        "seller": seller,
    }
    return json.dumps(tree).encode()


def context_from_bytes(data: bytes) -> tuple[ClientContext, str]:
    """The context and the seller of a stored selection."""
    try:
        tree = json.loads(data)
        label, enc, secret = Label[tree["label"]], bytes.fromhex(tree["enc"]), bytes.fromhex(tree["secret"])
        return ClientContext(label, enc, secret), str(tree["seller"])
    except (ValueError, KeyError, TypeError) as error:
        raise DeviceStoreError("a stored ad selection cannot be read") from error


def open_auction_result(
    data: bytes,
    context: ClientContext,
    *,
    ad_selection_id: AdSelectionId,
    seller: str,
    is_enrolled: Callable[[str], bool],
) -> AdSelectionOutcome:
    """What of an encrypted result may be kept (§4.3).

    Raises AuctionResultError with the reference texts.
    """
    try:
        frame = decode_client_frame(context.decapsulate_response(data))
        result = messages.AuctionResult.FromString(gzip_decompress(frame.payload))
    except (EncapsulationError, MalformedMessageError, DecodeError) as error:
        raise AuctionResultError("the auction result cannot be read") from error
    if result.error.code != 0:
        raise AuctionResultError(f"AuctionResult has an error: {result.error.message}")
    if result.is_chaff:
        return AdSelectionOutcome(ad_selection_id, "", "")
    if result.ad_type == messages.AD_TYPE_UNKNOWN:
        raise AuctionResultError("AuctionResult type is unknown")
    buyer = result.interest_group_owner
    if not (
        buyer
        and is_enrolled(buyer)
        and _is_https_of(result.ad_render_url, buyer)
        and _is_not_negative(result.bid)
        and _is_not_negative(result.score)
    ):
        raise AuctionResultError("Invalid object of Auction Result")
    urls = result.win_reporting_urls
    return AdSelectionOutcome(
        ad_selection_id,
        result.ad_render_url,
        buyer,
        seller_urls=_own_urls(urls.top_level_seller_reporting_urls, seller),
        buyer_urls=_own_urls(urls.buyer_reporting_urls, buyer),
    )


def outcome_to_bytes(outcome: AdSelectionOutcome) -> bytes:
    """For the store, which seals it."""
    tree = {
        "ad_render_uri": outcome.ad_render_uri,
        "buyer": outcome.buyer,
        "seller_urls": [outcome.seller_urls.reporting_url, dict(outcome.seller_urls.beacons)],
        "buyer_urls": [outcome.buyer_urls.reporting_url, dict(outcome.buyer_urls.beacons)],
    }
    return json.dumps(tree).encode()


def outcome_from_bytes(ad_selection_id: int, data: bytes) -> AdSelectionOutcome:
    """The outcome of a stored selection."""
    try:
        tree = json.loads(data)
        seller_urls, buyer_urls = (ReportingUrls(*tree[name]) for name in ("seller_urls", "buyer_urls"))
        return AdSelectionOutcome(
            AdSelectionId(ad_selection_id), tree["ad_render_uri"], tree["buyer"], seller_urls, buyer_urls
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DeviceStoreError("a stored auction result cannot be read") from error


def _buyer_input(payload: EncodedPayload) -> bytes:
    signals = messages.ProtectedAppSignals(app_install_signals=payload.data, encoding_version=payload.version)
    return gzip_compress(messages.BuyerInput(protected_app_signals=signals).SerializeToString())


def _fill(message: messages.ProtectedAuctionInput, inputs: Mapping[str, bytes], seller: SellerConfiguration) -> None:
    """Buyers within their target size first, then the others, each only if it still fits."""

    def is_over_target(buyer: str) -> bool:
        return len(inputs[buyer]) > seller.target_bytes.get(buyer, seller.max_payload_bytes)

    listed = list(seller.target_bytes)
    order = sorted(inputs, key=lambda b: (is_over_target(b), listed.index(b) if b in listed else len(listed)))
    for buyer in order:
        message.buyer_input[buyer] = inputs[buyer]
        if HEADER_BYTES + message.ByteSize() > seller.max_payload_bytes:
            del message.buyer_input[buyer]


def _own_urls(urls: messages.WinReportingUrls.ReportingUrls, ad_tech: str) -> ReportingUrls:
    beacons: dict[str, str] = {}
    for key, url in sorted(urls.interaction_reporting_urls.items()):
        if (
            len(beacons) < MAX_BEACONS_PER_AD_TECH
            and len(key.encode()) <= MAX_BEACON_KEY_BYTES
            and len(url.encode()) <= MAX_BEACON_URL_BYTES
            and _is_https_of(url, ad_tech)
        ):
            beacons[key] = url
    url = urls.reporting_url if _is_https_of(urls.reporting_url, ad_tech) else ""
    return ReportingUrls(url, MappingProxyType(beacons))


def _is_https_of(url: str, ad_tech: str) -> bool:
    try:
        return belongs_to(https_host(url), ad_tech)
    except UpdateUriError:
        return False


def _is_not_negative(number: float) -> bool:
    return not math.isnan(number) and number >= 0
