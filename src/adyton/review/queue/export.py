"""Approved ads as kernel records: the only way an ad reaches the auction.

A limit is only as good as whoever keeps it. Country limits narrow the record's `countries`, which every auction reads;
limits by placement or age go into fields of their own, and an ad with one leaves only for somebody who says that this
kind of limit is kept there. An ad that may not be shown to the young is rather kept back than shown to everybody.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from enum import Enum

import sqlalchemy as sa

from adyton.kernel.records import ApprovedAd
from adyton.review.queue import ad_store
from adyton.review.queue.desk import Desk
from adyton.review.queue.errors import CannotServeError
from adyton.review.queue.permissions import Action, require
from adyton.review.queue.records import AdFile, Person
from adyton.review.queue.tables import ads

_PAGE = 1_000


class Limit(Enum):
    """A kind of limit that a consumer of approved ads may be able to keep."""

    PLACEMENT = "placement"
    AGE = "age"


NO_LIMITS: frozenset[Limit] = frozenset()


@dataclass(frozen=True)
class Export:
    """ads: what may run.   n_kept_back: limited ads that the consumer could not limit, or that are out everywhere."""

    ads: tuple[ApprovedAd, ...]
    n_kept_back: int


def approved_ad(ad: AdFile, keeps: Set[Limit] = NO_LIMITS) -> ApprovedAd:
    """The record of one ad. keeps: the limits besides countries that the consumer keeps.

    Where several findings limit an ad, all limits hold: fewest countries, every barred placement, the highest age.
    Raises CannotServeError when it may not serve, or when a limit of it would not be kept.
    """
    if not ad.may_serve or ad.decided_at_ms is None or ad.decision_hash is None:
        raise CannotServeError("this ad is not approved")
    placements = tuple(sorted({place for finding in ad.findings for place in finding.not_in_placements}))
    min_age = max((finding.min_age for finding in ad.findings if finding.min_age is not None), default=None)
    if (placements and Limit.PLACEMENT not in keeps) or (min_age is not None and Limit.AGE not in keeps):
        raise CannotServeError("this ad is limited by placement or age, which is not kept there")
    barred = {country for finding in ad.findings for country in finding.not_in_countries}
    countries = tuple(country for country in ad.countries if country not in barred)
    if not countries:
        raise CannotServeError("this ad is limited in every country where it would run")
    return ApprovedAd(
        ad_id=ad.ad_id,
        creative_id=ad.creative_id,
        buyer=ad.buyer,
        render_url=ad.render_url,
        countries=countries,
        product_line=ad.product_line,
        value_per_click_micros=ad.value_per_click_micros,
        currency=ad.currency,
        decided_at_ms=ad.decided_at_ms,
        decision_hash=ad.decision_hash,
        not_in_placements=placements,
        min_age=min_age,
    )


def export_approved(desk: Desk, actor: Person | None, keeps: Set[Limit] = NO_LIMITS) -> Export:
    """All ads that may run now, by id. actor: None for access to the machine.   keeps: as in `approved_ad`."""
    if actor is not None:
        require(actor.role, Action.EXPORT)
    found: list[ApprovedAd] = []
    n_kept_back = 0
    with desk.reading() as tx:
        is_running = sa.and_(
            ads.c.may_serve,
            ads.c.golden_id.is_(None),
            sa.or_(ads.c.expires_at_ms.is_(None), ads.c.expires_at_ms > tx.now_ms),
        )
        after = ""
        while page := ad_store.list_ads(tx, is_running, limit=_PAGE, after=after):
            after = page[-1].ad_id
            for ad in page:
                try:
                    found.append(approved_ad(ad, keeps))
                except CannotServeError:
                    n_kept_back += 1
    return Export(tuple(found), n_kept_back)
