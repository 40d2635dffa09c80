"""Truth and verdict of reviewed ads, drawn from risk and accuracy, and the ads that review lets through.

Only an ad that a drawn verdict accepted becomes an `ApprovedAd`; its decision hash is a link of the audit chain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from adyton.kernel.audit import AuditEntry, link
from adyton.kernel.chance import stream
from adyton.kernel.ids import AdId, BuyerId, ModeratorId
from adyton.kernel.records import ApprovedAd
from adyton.review.day import Day
from adyton.review.engine.moves import Schedule


class Verdict(Enum):
    """What the moderator said."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"


@dataclass(frozen=True)
class Decision:
    """One finished review. ad: index into the day.   minute: when it was done.   is_harmful: the truth."""

    ad: int
    ad_id: AdId
    moderator_id: ModeratorId
    minute: int
    verdict: Verdict
    is_harmful: bool

    @property
    def is_right(self) -> bool:
        return self.is_harmful == (self.verdict is Verdict.REJECTED)


@dataclass(frozen=True)
class Creative:
    """What a reviewed ad shows and who pays for it; comes from outside the workbook."""

    creative_id: str
    buyer: BuyerId
    render_url: str
    value_per_click_micros: int
    currency: str


def draw_verdicts(day: Day, schedule: Schedule, seed: int) -> tuple[Decision, ...]:
    """A decision for each ad done within the day, in order of time.

    Truth and error have their own streams, one number for each ad of the day, so that two allocators with the same seed
    judge the same truths, and a moderator's slip depends on the ad alone (common random numbers).
    """
    is_harmful = stream(seed, "review", "truth").random(day.n_ads) < day.risk
    slip = stream(seed, "review", "verdicts").random(day.n_ads)
    finished = np.flatnonzero((schedule.moderator >= 0) & (schedule.done <= day.arrays.horizon))
    decisions = []
    for ad in finished[np.argsort(schedule.done[finished], kind="stable")]:
        moderator = int(schedule.moderator[ad])
        is_wrong = bool(slip[ad] < 1 - day.accuracy(int(ad), moderator))
        rejects = bool(is_harmful[ad]) != is_wrong
        decisions.append(
            Decision(
                ad=int(ad),
                ad_id=day.ad_id(int(ad)),
                moderator_id=day.moderator_id(moderator),
                minute=int(schedule.done[ad]),
                verdict=Verdict.REJECTED if rejects else Verdict.ACCEPTED,
                is_harmful=bool(is_harmful[ad]),
            )
        )
    return tuple(decisions)


@dataclass(frozen=True)
class Approvals:
    """Ads that may run, and the audit chain of all decisions that were looked at (accepted and rejected)."""

    ads: tuple[ApprovedAd, ...]
    audit: tuple[AuditEntry, ...]


def approve(
    day: Day, decisions: Iterable[Decision], creatives: Mapping[int, Creative], *, day_start_ms: int
) -> Approvals:
    """The accepted ads among those that have a creative.

    creatives: by index of the ad in the day.   day_start_ms: epoch milliseconds of minute 0.
    Every decision about an ad with a creative becomes one audit entry; an accepted one also an `ApprovedAd` that
    carries the entry's hash.
    """
    entries: list[AuditEntry] = []
    approved: list[ApprovedAd] = []
    for decision in decisions:
        creative = creatives.get(decision.ad)
        if creative is None:
            continue
        decided_at_ms = day_start_ms + decision.minute * 60_000
        entry = link(
            entries[-1] if entries else None,
            at_ms=decided_at_ms,
            kind="ad decided",
            body={
                "ad_id": decision.ad_id,
                "creative_id": creative.creative_id,
                "render_url": creative.render_url,
                "moderator_id": decision.moderator_id,
                "verdict": decision.verdict.value,
            },
        )
        entries.append(entry)
        if decision.verdict is Verdict.ACCEPTED:
            approved.append(_approved_ad(day, decision, creative, decided_at_ms, entry.entry_hash))
    return Approvals(tuple(approved), tuple(entries))


def attach_creatives(
    day: Day, creatives: Sequence[Creative], seed: int, *, within_minutes: int | None = None
) -> dict[int, Creative]:
    """Each creative on its own random ad of the day; ads stay as they are.

    within_minutes: only ads that arrive before this minute.   Fewer ads than creatives: the last creatives stay out.
    """
    latest = day.arrays.horizon if within_minutes is None else within_minutes
    candidates = np.flatnonzero(day.arrays.arrival < latest)
    chosen = stream(seed, "review", "creatives").permutation(candidates)[: len(creatives)]
    return {int(ad): creative for ad, creative in zip(chosen, creatives, strict=False)}


def _approved_ad(
    day: Day, decision: Decision, creative: Creative, decided_at_ms: int, decision_hash: str
) -> ApprovedAd:
    return ApprovedAd(
        ad_id=decision.ad_id,
        creative_id=creative.creative_id,
        buyer=creative.buyer,
        render_url=creative.render_url,
        countries=(day.country(decision.ad),),
        product_line=str(day.workbook.ads.product_line[day.ad_row[decision.ad]]),
        value_per_click_micros=creative.value_per_click_micros,
        currency=creative.currency,
        decided_at_ms=decided_at_ms,
        decision_hash=decision_hash,
    )
