"""The auction service: scores, decides, and lets the scripts of both sides write the report URLs (§7.4, §8.4-§8.6)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from adyton.auction.errors import DownstreamError, NoScorableAdError, ScriptError
from adyton.auction.seller.reporting import (
    NULL,
    ReportingFacts,
    report_result_arguments,
    report_win_arguments,
    reporting_facts,
    win_reporting_urls,
)
from adyton.auction.seller.scoring import (
    ScoredBid,
    auction_config_argument,
    bids_to_score,
    build_ad_score,
    decide,
    judge,
    parse_score,
    read_scoring_signals,
    score_ad_arguments,
)
from adyton.auction.services.code_store import ScriptStore
from adyton.auction.services.ports import ScoreAdsRawResponse
from adyton.auction.services.telemetry import DebugPolicy, Metrics, RequestLog
from adyton.kernel.chance import OsRandom, RandomSource
from adyton.kernel.errors import AdytonError
from adyton.protocol.messages import bidding_auction_servers_pb2 as ba
from adyton.protocol.rounding import stochastic_round
from adyton.sandbox.errors import UdfThrewError
from adyton.sandbox.pool import SandboxPool
from adyton.sandbox.values import UdfArgument, UdfEffects, UdfHandle, UdfResult


class AuctionService:
    """Scoring for one seller.

    score_ad: the seller's script for scoring.   report_result: the same text, loaded with the reporting functions.
    report_win: each buyer's script, in processes of its own. A script that is missing reports nothing.
    """

    def __init__(
        self,
        *,
        pool: SandboxPool,
        score_ad: ScriptStore,
        report_result: ScriptStore | None,
        report_win: Mapping[str, ScriptStore],
        is_signal_required: bool,
        rounds_reported_numbers: bool,
        udf_timeout_ms: int,
        debug: DebugPolicy,
        metrics: Metrics,
        source: RandomSource | None = None,
    ) -> None:
        self._pool = pool
        self._score_ad = score_ad
        self._report_result = report_result
        self._report_win = report_win
        self._is_signal_required = is_signal_required
        self._rounds_reported_numbers = rounds_reported_numbers
        self._udf_timeout_ms = udf_timeout_ms
        self._debug = debug
        self._metrics = metrics
        self._source: RandomSource = source or OsRandom()

    async def score_ads(
        self, raw: ba.ScoreAdsRequest.ScoreAdsRawRequest, *, timeout_s: float
    ) -> ba.ScoreAdsResponse.ScoreAdsRawResponse:
        """The winner with its report URLs; an empty response if every ad was scored and none can win.

        Raises NoScorableAdError if there was nothing to score, RequestError for malformed scoring signals.
        """
        log = self._debug.request_log("auction", raw.consented_debug_config, raw.log_context)
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._decide(raw, log)
        except TimeoutError as error:
            raise DownstreamError("Scoring did not end before the deadline", code="DEADLINE_EXCEEDED") from error
        info = log.debug_info()
        if info is not None:
            response.debug_info.CopyFrom(info)
        return response

    async def _decide(
        self, raw: ba.ScoreAdsRequest.ScoreAdsRawRequest, log: RequestLog
    ) -> ba.ScoreAdsResponse.ScoreAdsRawResponse:
        signals = read_scoring_signals(raw.scoring_signals)
        bids = bids_to_score(raw.protected_app_signals_ad_bids, signals, is_signal_required=self._is_signal_required)
        if not bids:
            raise NoScorableAdError("No ads with valid scoring signals.")
        auction_config = auction_config_argument(raw.seller_signals, raw.auction_signals)
        calls = [score_ad_arguments(raw, bid, signals, auction_config) for bid in bids]
        with self._metrics.timed("score_ad"):
            outcomes = await self._pool.call_each(
                self._score_ad.handle(raw.score_ad_version),
                "scoreAd",
                calls,
                deadline_ms=self._udf_timeout_ms,
                capture_console=log.is_consented,
            )
        scored: list[ScoredBid] = []
        for bid, outcome in zip(bids, outcomes, strict=True):
            if not isinstance(outcome, UdfResult):
                self._metrics.event("score_ad_failed")
                if isinstance(outcome, UdfThrewError):
                    log.note(f"scoreAd threw: {outcome.script_message}")
                continue
            for line in outcome.console:
                log.note(f"scoreAd: {line}")
            try:
                reply = parse_score(outcome.json)
            except ScriptError:
                self._metrics.event("score_ad_malformed")
                continue
            scored.append(judge(bid, reply, seller_currency=raw.seller_currency))
        outcome_of_auction = decide(scored, seller_currency=raw.seller_currency, source=self._source)
        if outcome_of_auction is None:
            self._metrics.event("no_winner")
            return ScoreAdsRawResponse()
        score = build_ad_score(outcome_of_auction, raw.seller)
        facts = reporting_facts(raw, outcome_of_auction, rounded=self._rounded)
        score.win_reporting_urls.CopyFrom(await self._report(raw, facts, auction_config, log))
        return ScoreAdsRawResponse(ad_score=score)

    async def _report(
        self,
        raw: ba.ScoreAdsRequest.ScoreAdsRawRequest,
        facts: ReportingFacts,
        auction_config: bytes,
        log: RequestLog,
    ) -> ba.WinReportingUrls:
        seller, signals_for_winner = None, NULL
        if self._report_result is not None:
            handle = self._report_result.handle(raw.score_ad_version)
            arguments = report_result_arguments(auction_config, facts)
            seller, signals_for_winner = await self._run(handle, "reportResult", arguments, log)
        buyer = None
        script = self._report_win.get(facts.owner)
        if script is not None:
            buyer_arguments = report_win_arguments(
                auction_signals=raw.auction_signals,
                per_buyer_signals=raw.per_buyer_signals.get(facts.owner, ""),
                signals_for_winner=signals_for_winner,
                facts=facts,
            )
            buyer, _ = await self._run(script.handle(), "reportWin", buyer_arguments, log)
        return win_reporting_urls(seller=seller, buyer=buyer)

    async def _run(
        self, handle: UdfHandle, function: str, arguments: Sequence[UdfArgument], log: RequestLog
    ) -> tuple[UdfEffects | None, bytes]:
        """The registered URLs and the returned JSON. A script that fails keeps what it registered and returns null."""
        try:
            with self._metrics.timed("report"):
                result = await self._pool.call(
                    handle,
                    function,
                    arguments,
                    deadline_ms=self._udf_timeout_ms,
                    capture_console=log.is_consented,
                )
        except UdfThrewError as error:
            self._metrics.event("report_threw")
            log.note(f"{function} threw: {error.script_message}")
            return error.effects, NULL
        except AdytonError:
            # The auction is decided: a report script that hangs or crashes costs its own URLs and nothing else.
            self._metrics.event("report_failed")
            return None, NULL
        for line in result.console:
            log.note(f"{function}: {line}")
        return result.effects, result.json

    def _rounded(self, value: float) -> float:
        return stochastic_round(value, self._source) if self._rounds_reported_numbers else value
