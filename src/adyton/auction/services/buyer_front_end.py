"""The buyer front end (protected-auction §7.2): answers real requests with bids, and chaff late with nothing."""

from __future__ import annotations

import asyncio
import os

import numpy as np

from adyton.auction.buyer.chaff_answers import chaff_delay_ms, chaff_response_size
from adyton.auction.buyer.get_bids_checks import build_bidding_request, check_inputs, has_signals
from adyton.auction.errors import DownstreamError
from adyton.auction.services.admission import Admission
from adyton.auction.services.ports import BiddingPort, GetBidsRawResponse, Metadata
from adyton.auction.services.telemetry import DebugPolicy, Metrics
from adyton.kernel.chance import stream
from adyton.kernel.errors import AdytonError
from adyton.protocol.frames import encode_get_bids_frame
from adyton.protocol.messages import bidding_auction_servers_pb2 as ba


class BuyerFrontEndService:
    """One buyer's front end."""

    def __init__(
        self,
        *,
        bidding: BiddingPort,
        bidding_timeout_ms: int,
        debug: DebugPolicy,
        metrics: Metrics,
        admission: Admission | None = None,
        generator: np.random.Generator | None = None,
    ) -> None:
        self._bidding = bidding
        self._bidding_timeout_s = bidding_timeout_ms / 1000
        self._debug = debug
        self._metrics = metrics
        self._admission = admission or Admission(None, 0)
        self._generator = generator or stream(int.from_bytes(os.urandom(8), "big"), "chaff answers")

    async def answer(self, raw: ba.GetBidsRequest.GetBidsRawRequest, *, metadata: Metadata) -> bytes:
        """The framed answer to a decrypted request; for chaff, an empty one of random size after a random wait.

        Raises RequestError "Missing inputs", DownstreamError (INTERNAL) if bidding failed, OverloadedError.
        """
        if raw.is_chaff:
            self._metrics.event("chaff_answered")
            await asyncio.sleep(chaff_delay_ms(self._generator) / 1000)
            return encode_get_bids_frame(b"", gzip=True, size=chaff_response_size(self._generator))
        async with self._admission.turn():
            response = await self.get_bids(raw, metadata=metadata)
        return encode_get_bids_frame(response.SerializeToString(), gzip=True)

    async def get_bids(
        self, raw: ba.GetBidsRequest.GetBidsRawRequest, *, metadata: Metadata
    ) -> ba.GetBidsResponse.GetBidsRawResponse:
        """The bids of a real request. Interest groups get no bids: Protected Audience bidding is not part of this."""
        check_inputs(raw)
        log = self._debug.request_log("buyer front end", raw.consented_debug_config, raw.log_context)
        response = GetBidsRawResponse()
        if has_signals(raw):
            try:
                with self._metrics.timed("bidding"):
                    bidding = await self._bidding.generate_bids(
                        build_bidding_request(raw), metadata=metadata, timeout_s=self._bidding_timeout_s
                    )
            except AdytonError as error:
                self._metrics.event("bidding_failed")
                log.note(f"bidding failed: {error.what}")
                raise DownstreamError(error.what, code="INTERNAL") from error
            response.protected_app_signals_bids.extend(bidding.bids)
            if bidding.HasField("debug_info"):
                log.add_downstream(bidding.debug_info, "app_signal_bid")
        log.note(f"{len(response.protected_app_signals_bids)} bids")
        info = log.debug_info()
        if info is not None:
            response.debug_info.CopyFrom(info)
        return response
