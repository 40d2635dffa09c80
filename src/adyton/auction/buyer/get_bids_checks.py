"""The buyer front end's rules (protected-auction §7.2)."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from adyton.auction.errors import RequestError
from adyton.protocol.errors import MalformedMessageError
from adyton.protocol.frames import decode_get_bids_frame
from adyton.protocol.messages import bidding_auction_servers_pb2 as ba

DEFAULT_MULTI_BID_LIMIT = 2
BiddingRawRequest = ba.GenerateProtectedAppSignalsBidsRequest.GenerateProtectedAppSignalsBidsRawRequest


def read_get_bids_frame(plaintext: bytes) -> ba.GetBidsRequest.GetBidsRawRequest:
    """The request of a decrypted frame.

    Raises RequestError "Malformed request." or "Unsupported version and compression combination".
    """
    try:
        return ba.GetBidsRequest.GetBidsRawRequest.FromString(decode_get_bids_frame(plaintext))
    except MalformedMessageError as error:
        raise RequestError(error.what) from error
    except DecodeError as error:
        raise RequestError("Malformed request.") from error


def has_signals(raw: ba.GetBidsRequest.GetBidsRawRequest) -> bool:
    """True if there is something for protected-app-signals bidding."""
    return bool(raw.protected_app_signals_buyer_input.protected_app_signals.app_install_signals)


def check_inputs(raw: ba.GetBidsRequest.GetBidsRawRequest) -> None:
    """Raises RequestError "Missing inputs" if there are neither interest groups nor signals."""
    if not has_signals(raw) and not raw.buyer_input.interest_groups:
        raise RequestError("Missing inputs")


def build_bidding_request(
    raw: ba.GetBidsRequest.GetBidsRawRequest,
) -> ba.GenerateProtectedAppSignalsBidsRequest.GenerateProtectedAppSignalsBidsRawRequest:
    """What the bidding service is told."""
    is_limit_given = raw.enforce_kanon and raw.multi_bid_limit > 0
    request = BiddingRawRequest(
        auction_signals=raw.auction_signals,
        buyer_signals=raw.buyer_signals,
        protected_app_signals=raw.protected_app_signals_buyer_input.protected_app_signals,
        seller=raw.seller,
        publisher_name=raw.publisher_name,
        log_context=raw.log_context,
        enable_debug_reporting=raw.enable_debug_reporting,
        enable_unlimited_egress=raw.enable_unlimited_egress,
        multi_bid_limit=raw.multi_bid_limit if is_limit_given else DEFAULT_MULTI_BID_LIMIT,
        enforce_kanon=raw.enforce_kanon,
        top_level_seller=raw.top_level_seller,
    )
    if raw.HasField("consented_debug_config"):
        request.consented_debug_config.CopyFrom(raw.consented_debug_config)
    if raw.HasField("blob_versions"):
        request.blob_versions.CopyFrom(raw.blob_versions)
    if raw.protected_app_signals_buyer_input.HasField("contextual_protected_app_signals_data"):
        request.contextual_protected_app_signals_data.CopyFrom(
            raw.protected_app_signals_buyer_input.contextual_protected_app_signals_data
        )
    return request
