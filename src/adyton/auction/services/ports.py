"""What each service offers to its neighbours. A neighbour in the same process is the service object itself, called
directly; one in another process is a client that speaks encrypted gRPC. The caller does not see which.
"""

from __future__ import annotations

from typing import Protocol

from adyton.protocol.messages import bidding_auction_servers_pb2 as ba
from adyton.protocol.messages import kv_server_v2_pb2

Metadata = tuple[tuple[str, str], ...]
"""Device headers that travel along (§6.8)."""
GetBidsRawRequest = ba.GetBidsRequest.GetBidsRawRequest
GetBidsRawResponse = ba.GetBidsResponse.GetBidsRawResponse
BiddingRawRequest = ba.GenerateProtectedAppSignalsBidsRequest.GenerateProtectedAppSignalsBidsRawRequest
BiddingRawResponse = ba.GenerateProtectedAppSignalsBidsResponse.GenerateProtectedAppSignalsBidsRawResponse
ScoreAdsRawRequest = ba.ScoreAdsRequest.ScoreAdsRawRequest
ScoreAdsRawResponse = ba.ScoreAdsResponse.ScoreAdsRawResponse


class BuyerFrontEndPort(Protocol):
    """A buyer, as the seller front end sees it. Always in another party's process."""

    async def get_bids(
        self, frame: bytes, *, metadata: Metadata, timeout_s: float
    ) -> ba.GetBidsResponse.GetBidsRawResponse:
        """The buyer's answer to a framed GetBidsRawRequest.

        Raises DownstreamError.
        """
        ...


class BiddingPort(Protocol):
    """The bidding service."""

    async def generate_bids(
        self,
        raw: ba.GenerateProtectedAppSignalsBidsRequest.GenerateProtectedAppSignalsBidsRawRequest,
        *,
        metadata: Metadata,
        timeout_s: float,
    ) -> ba.GenerateProtectedAppSignalsBidsResponse.GenerateProtectedAppSignalsBidsRawResponse:
        """Bids on the buyer's ads."""
        ...


class AuctionPort(Protocol):
    """The auction (scoring) service."""

    async def score_ads(
        self, raw: ba.ScoreAdsRequest.ScoreAdsRawRequest, *, timeout_s: float
    ) -> ba.ScoreAdsResponse.ScoreAdsRawResponse:
        """The winner among the bids."""
        ...


class KeyValuePort(Protocol):
    """The key/value and ad-retrieval service."""

    async def get_values(
        self, request: kv_server_v2_pb2.GetValuesRequest, *, timeout_s: float
    ) -> kv_server_v2_pb2.GetValuesResponse:
        """What the lookup or the retrieval script says."""
        ...
