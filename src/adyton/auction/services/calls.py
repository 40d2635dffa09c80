"""The auction's rpcs from request message to reply message: envelope opened, service called, answer sealed.

Whatever carries them (gRPC in `servicers`, JSON in `http_app`) adds only its own form of errors. The HTTP paths are the
bindings of protected-auction §6.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import DecodeError, Message

from adyton.auction.buyer.get_bids_checks import read_get_bids_frame
from adyton.auction.errors import RequestError
from adyton.auction.services.auction import AuctionService
from adyton.auction.services.bidding import BiddingService
from adyton.auction.services.buyer_front_end import BuyerFrontEndService
from adyton.auction.services.key_material import KeyMaterial
from adyton.auction.services.ports import BiddingRawRequest, Metadata, ScoreAdsRawRequest
from adyton.auction.services.seller_front_end import SellerFrontEndService
from adyton.protocol.errors import EncapsulationError, UnknownKeyError
from adyton.protocol.messages import bidding_auction_servers_pb2 as ba
from adyton.protocol.tee import TeeServerContext, open_request

_Request = TypeVar("_Request", bound=Message)
_Reply = TypeVar("_Reply", bound=Message)


@dataclass(frozen=True)
class Call(Generic[_Request, _Reply]):
    """One rpc of this process.

    name: as in metrics and logs.   http_path: where it is offered as JSON.
    run: request, device headers and seconds left -> reply; raises AdytonError, whose status `status_name` gives.
    """

    name: str
    http_path: str
    new_request: Callable[[], _Request]
    run: Callable[[_Request, Metadata, float], Awaitable[_Reply]]


SelectAdCall = Call[ba.SelectAdRequest, ba.SelectAdResponse]
GetBidsCall = Call[ba.GetBidsRequest, ba.GetBidsResponse]
GenerateBidsCall = Call[ba.GenerateProtectedAppSignalsBidsRequest, ba.GenerateProtectedAppSignalsBidsResponse]
ScoreAdsCall = Call[ba.ScoreAdsRequest, ba.ScoreAdsResponse]


def select_ad_call(service: SellerFrontEndService) -> SelectAdCall:
    """SelectAd; its ciphertext is opened by the service, which answers inside it too."""

    async def run(request: ba.SelectAdRequest, metadata: Metadata, timeout_s: float) -> ba.SelectAdResponse:  # noqa: ARG001
        return await service.select_ad(request, metadata=metadata)

    return Call("SelectAd", "/v1/selectAd", ba.SelectAdRequest, run)


def get_bids_call(service: BuyerFrontEndService, keys: KeyMaterial) -> GetBidsCall:
    """GetBids."""

    async def run(request: ba.GetBidsRequest, metadata: Metadata, timeout_s: float) -> ba.GetBidsResponse:  # noqa: ARG001
        plaintext, sealed = _open(keys, request.request_ciphertext, request.key_id)
        answer = await service.answer(read_get_bids_frame(plaintext), metadata=metadata)
        return ba.GetBidsResponse(response_ciphertext=sealed.seal_response(answer))

    return Call("GetBids", "/v1/getbids", ba.GetBidsRequest, run)


def generate_bids_call(service: BiddingService, keys: KeyMaterial) -> GenerateBidsCall:
    """GenerateProtectedAppSignalsBids, for a front end in another process."""

    async def run(
        request: ba.GenerateProtectedAppSignalsBidsRequest, metadata: Metadata, timeout_s: float
    ) -> ba.GenerateProtectedAppSignalsBidsResponse:
        plaintext, sealed = _open(keys, request.request_ciphertext, request.key_id)
        raw = parsed(BiddingRawRequest.FromString, plaintext)
        reply = await service.generate_bids(raw, metadata=metadata, timeout_s=timeout_s)
        return ba.GenerateProtectedAppSignalsBidsResponse(
            response_ciphertext=sealed.seal_response(reply.SerializeToString())
        )

    return Call(
        "GenerateProtectedAppSignalsBids",
        "/v1/generateprotectedappsignalsbids",
        ba.GenerateProtectedAppSignalsBidsRequest,
        run,
    )


def score_ads_call(service: AuctionService, keys: KeyMaterial) -> ScoreAdsCall:
    """ScoreAds, for a front end in another process."""

    async def run(request: ba.ScoreAdsRequest, metadata: Metadata, timeout_s: float) -> ba.ScoreAdsResponse:  # noqa: ARG001
        plaintext, sealed = _open(keys, request.request_ciphertext, request.key_id)
        raw = parsed(ScoreAdsRawRequest.FromString, plaintext)
        reply = await service.score_ads(raw, timeout_s=timeout_s)
        return ba.ScoreAdsResponse(response_ciphertext=sealed.seal_response(reply.SerializeToString()))

    return Call("ScoreAds", "/v1/scoreads", ba.ScoreAdsRequest, run)


def parsed(parse: Callable[[bytes], _Reply], data: bytes) -> _Reply:
    """The message in `data`. Raises RequestError "Malformed request."."""
    try:
        return parse(data)
    except DecodeError as error:
        raise RequestError("Malformed request.") from error


def _open(keys: KeyMaterial, ciphertext: bytes, key_id: str | bytes) -> tuple[bytes, TeeServerContext]:
    """Raises RequestError for a part that is missing, "Invalid key_id." or "Malformed request ciphertext." (§7.2)."""
    if not key_id:
        raise RequestError("key_id must be non-null.")
    if not ciphertext:
        raise RequestError("request_ciphertext must be non-null.")
    try:
        return open_request(keys.ring, ciphertext, key_id)
    except UnknownKeyError as error:
        raise RequestError("Invalid key_id.") from error
    except EncapsulationError as error:
        raise RequestError(error.what) from error
