"""The client's answer: winner, chaff or error, framed and padded (protected-auction §7.1 step 12, §5.3)."""

from __future__ import annotations

from adyton.protocol.compression import gzip_compress
from adyton.protocol.frames import Compression, encode_client_frame, padded_response_size
from adyton.protocol.messages import bidding_auction_servers_pb2 as ba


def winner_result(score: ba.ScoreAdsResponse.AdScore) -> ba.AuctionResult:
    """The result of a won auction. `bid` is set only where the seller's script changed it."""
    result = ba.AuctionResult(
        is_chaff=False,
        score=score.desirability,
        interest_group_owner=score.interest_group_owner,
        ad_render_url=score.render,
        ad_type=ba.AD_TYPE_PROTECTED_APP_SIGNALS_AD,
    )
    if score.bid > 0:
        result.bid = score.bid
    if score.HasField("win_reporting_urls"):
        result.win_reporting_urls.CopyFrom(score.win_reporting_urls)
    return result


def chaff_result() -> ba.AuctionResult:
    """The result where nobody won. Padding makes it as long as a short winner."""
    return ba.AuctionResult(is_chaff=True)


def error_result(code: int, message: str) -> ba.AuctionResult:
    """An error that only the client may read."""
    return ba.AuctionResult(error={"code": code, "message": message})


def frame_result(result: ba.AuctionResult) -> bytes:
    """The plaintext of the encrypted reply: gzip, framed, at least 512 bytes and a power of two."""
    payload = gzip_compress(result.SerializeToString())
    return encode_client_frame(payload, compression=Compression.GZIP, size=padded_response_size(len(payload)))
