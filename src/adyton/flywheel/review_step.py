"""A day of review for the advertiser's creatives: two allocators and the bound, then what the better one approved.

Every ad of the day shows one of the creatives that the clean room's model knows; an ad belongs to one of two buyers, by
a hash of its id. What a click is worth follows the ad's average revenue in the workbook.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adyton.flywheel.progress import StepProgress
from adyton.flywheel.summary import ReviewSummary
from adyton.kernel.audit import AuditEntry
from adyton.kernel.chance import stream
from adyton.kernel.ids import BuyerId
from adyton.kernel.records import ApprovedAd
from adyton.review.bound import lower_bound
from adyton.review.day import Day, DayConfig, draw_day
from adyton.review.simulation import DayResult, SimulationOptions, gap_percent, simulate
from adyton.review.verdicts import Creative, Verdict, approve
from adyton.review.workbook import load_default_workbook

REFERENCE = "greedy_farseeing"
BETTER = "priced_queues"
BOUND_STEPS = 100
"""Any number of steps gives a valid bound; more make it a few per cent tighter."""
CURRENCY = "USD"
CLICK_SHARE = 100
"""A click is worth a hundredth of the ad's average revenue."""
_MICROS = 1_000_000


@dataclass(frozen=True)
class AllocatorRow:
    """One allocator's day, as the report shows it."""

    allocator: str
    a1: float
    a2: float
    finished: float
    utilisation: float
    wait_p50: float


@dataclass(frozen=True)
class ReviewStep:
    """What review leaves: the approved ads with the audit chain of all decisions, and the figures."""

    summary: ReviewSummary
    approved: tuple[ApprovedAd, ...]
    audit: tuple[AuditEntry, ...]
    rows: tuple[AllocatorRow, ...]
    gap_percent: float
    ads: int
    moderators: int
    countries: Mapping[str, float]


def review_day(
    creative_ids: Sequence[str],
    buyers: Sequence[BuyerId],
    volume: float,
    seed: int,
    day_start_ms: int,
    *,
    progress: StepProgress,
) -> ReviewStep:
    """One day under both allocators, its bound, and the ads that the better one's moderators accepted."""
    progress.update(0.0, "reading the workbook")
    day = draw_day(load_default_workbook(), DayConfig(volume=volume), seed=seed)
    results = []
    for position, allocator in enumerate((REFERENCE, BETTER)):
        progress.update(0.2 + 0.25 * position, f"a day under {allocator}")
        results.append(simulate(day, allocator=allocator, options=SimulationOptions(draw_verdicts=True), seed=seed))
    progress.update(0.7, "the bound")
    bound = lower_bound(day, n_steps=BOUND_STEPS)
    best = min(results, key=lambda result: result.loss.a2)
    progress.update(0.95, "approvals")
    creatives = _creatives(day, creative_ids, buyers, seed)
    approvals = approve(day, best.decisions, creatives, day_start_ms=day_start_ms)
    rejected = sum(decision.verdict is Verdict.REJECTED for decision in best.decisions)
    return ReviewStep(
        summary=ReviewSummary(best.allocator, best.loss.a2, bound.a2, len(approvals.ads), rejected),
        approved=approvals.ads,
        audit=approvals.audit,
        rows=tuple(_row(result) for result in results),
        gap_percent=gap_percent(best.loss.a2, bound.a2),
        ads=day.n_ads,
        moderators=day.n_moderators,
        countries={name: float(n) for name, n in Counter(ad.countries[0] for ad in approvals.ads).items()},
    )


def _creatives(day: Day, creative_ids: Sequence[str], buyers: Sequence[BuyerId], seed: int) -> Mapping[int, Creative]:
    order = stream(seed, "creatives").permutation(len(creative_ids))
    revenue = day.workbook.ads.revenue[day.ad_row]
    creatives = {}
    for ad in range(day.n_ads):
        ad_id = day.ad_id(ad)
        buyer = buyers[hashlib.sha256(ad_id.encode()).digest()[0] % len(buyers)]
        creatives[ad] = Creative(
            creative_id=creative_ids[order[ad % len(order)]],
            buyer=buyer,
            render_url=f"https://ads.{buyer}/{ad_id.replace('#', '-')}",
            value_per_click_micros=round(float(revenue[ad]) * _MICROS / CLICK_SHARE),
            currency=CURRENCY,
        )
    return creatives


def _row(result: DayResult) -> AllocatorRow:
    return AllocatorRow(
        result.allocator,
        result.loss.a1,
        result.loss.a2,
        result.finished_fraction,
        result.utilisation,
        result.wait_p50,
    )
