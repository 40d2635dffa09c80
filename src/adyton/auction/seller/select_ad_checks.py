"""The checks of SelectAd (protected-auction §7.1, steps 1 to 4).

Errors come in two classes that reach different readers: what is wrong with the *client's* encrypted input is told to
the client, inside the encrypted result; what is wrong with the *ad server's* part is told to the ad server as a gRPC
status. Neither may learn the other's. Every check gives back texts; none raises, so that all findings are told at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from adyton.auction.currency import is_currency_code
from adyton.auction.errors import RequestError
from adyton.protocol.compression import MAX_UNCOMPRESSED_BYTES, gzip_decompress
from adyton.protocol.errors import MalformedMessageError
from adyton.protocol.messages import bidding_auction_servers_pb2 as ba

CLIENT_ERROR_CODE = 400
SERVER_ERROR_CODE = 500


def join_texts(texts: tuple[str, ...]) -> str:
    """All findings in one message, as both readers get them: each once, in the order of their characters."""
    return "; ".join(sorted(set(texts)))


@dataclass(frozen=True)
class ClientInput:
    """The client's part after decoding. `errors` are texts for the client; non-empty means that no auction runs."""

    message: ba.ProtectedAuctionInput
    buyer_inputs: Mapping[str, ba.BuyerInput]
    errors: tuple[str, ...]


def request_ciphertext(request: ba.SelectAdRequest) -> bytes:
    """The client's ciphertext, from the current or the deprecated member.

    Raises RequestError if neither is there.
    """
    ciphertext = request.protected_auction_ciphertext or request.protected_audience_ciphertext
    if not ciphertext:
        raise RequestError("protected_auction_ciphertext must be non-null.")
    return bytes(ciphertext)


def auction_config(request: ba.SelectAdRequest) -> ba.AuctionConfig:
    """The one auction configuration of a request, decompressed if need be.

    Raises RequestError if there is none, or two, or the compressed one cannot be read.
    """
    if request.HasField("auction_config") == request.HasField("compressed_auction_config"):
        raise RequestError("Provide one AuctionConfig value in SelectAdRequest")
    if request.HasField("auction_config"):
        return request.auction_config
    # The algorithm is not looked at: gzip is the only one, and the reference takes it for granted.
    try:
        plain = gzip_decompress(request.compressed_auction_config.auction_config)
    except MalformedMessageError as error:
        raise RequestError("Unable to decompress compressed_auction_config field") from error
    try:
        return ba.AuctionConfig.FromString(plain)
    except DecodeError as error:
        raise RequestError("Unable to parse AuctionConfig proto from decompressed compressed_auction_config") from error


def check_auction_config(config: ba.AuctionConfig, *, seller_domain: str, client_type: int) -> tuple[str, ...]:
    """What is wrong with the ad server's part, in the words it is told; empty if nothing is."""
    errors = []
    if not config.seller_signals:
        errors.append("Seller signals missing in auction config")
    if not config.auction_signals:
        errors.append("Auction signals missing in auction config")
    if not config.buyer_list:
        errors.append("No buyers specified")
    if not config.seller:
        errors.append("Seller origin missing in auction config")
    if config.seller != seller_domain:
        errors.append("Seller domain passed in request does not match this server's domain")
    for buyer, per_buyer in sorted(config.per_buyer_config.items()):
        if not buyer:
            errors.append("One or more buyer keys are empty in per buyer config map")
        if not per_buyer.buyer_signals:
            errors.append(f"Buyer signals missing in auction config for buyer: {buyer}")
        if per_buyer.buyer_currency and not is_currency_code(per_buyer.buyer_currency):
            errors.append("Invalid Buyer Currency")
    if config.seller_currency and not is_currency_code(config.seller_currency):
        errors.append("Invalid Seller Currency")
    is_device_orchestrated = (
        config.top_level_seller and config.top_level_cloud_platform == ba.ENCRYPTION_CLOUD_PLATFORM_UNSPECIFIED
    )
    if is_device_orchestrated and client_type == ba.CLIENT_TYPE_ANDROID:
        errors.append("Device orchestrated Component Auctions not supported for Android")
    return tuple(dict.fromkeys(errors))


def read_client_input(plaintext_payload: bytes) -> ClientInput:
    """The client's input: decoded, every buyer input decompressed, and checked.

    A buyer input that is readable but holds nothing spoils the request only if no other buyer's holds something: one
    buyer's gap must not cost the others their auction. An unreadable one is the client's defect and always told.
    All inputs together may have MAX_UNCOMPRESSED_BYTES: each alone would let a small request fill the memory.
    """
    try:
        message = ba.ProtectedAuctionInput.FromString(plaintext_payload)
    except DecodeError:
        return ClientInput(ba.ProtectedAuctionInput(), {}, ("Unable to decode binary proto",))
    errors = []
    if not message.generation_id:
        errors.append("Request is missing generation ID")
    if not message.publisher_name:
        errors.append("Request is missing publisher name")
    if not message.buyer_input:
        errors.append("Request is missing buyer inputs")
    usable: dict[str, ba.BuyerInput] = {}
    empty: list[str] = []
    left_bytes = MAX_UNCOMPRESSED_BYTES
    for buyer, compressed in sorted(message.buyer_input.items()):
        try:
            plain = gzip_decompress(compressed, max_bytes=left_bytes)
            left_bytes -= len(plain)
            decoded = ba.BuyerInput.FromString(plain)
        except MalformedMessageError:
            errors.append(f"Unable to decompress buyer input for buyer: {buyer}")
            continue
        except DecodeError:
            errors.append(f"Unable to decode BuyerInput binary proto for buyer: {buyer}")
            continue
        if not buyer:
            empty.append("Malformed buyer input.")
        elif not decoded.interest_groups and not decoded.protected_app_signals.app_install_signals:
            empty.append(f"Request is missing interest groups and protected signals for buyer: {buyer}")
        else:
            usable[buyer] = decoded
    if not usable:
        errors += empty
    return ClientInput(message, usable, tuple(errors))
