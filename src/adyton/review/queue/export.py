"""Approved ads as kernel records: the only way an ad reaches the auction."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from adyton.kernel.records import ApprovedAd
from adyton.review.queue import ad_store
from adyton.review.queue.desk import Desk
from adyton.review.queue.errors import CannotServeError
from adyton.review.queue.permissions import Action, require
from adyton.review.queue.records import AdFile, Person
from adyton.review.queue.tables import ads

_PAGE = 1_000


@dataclass(frozen=True)
class Export:
    """ads: what may run.   n_kept_back: limited ads whose limits (placement, age, every country) cannot be told."""

    ads: tuple[ApprovedAd, ...]
    n_kept_back: int


def approved_ad(ad: AdFile) -> ApprovedAd:
    """The record of one ad. Country limits narrow `countries`.

    Raises CannotServeError when it may not serve, or when a limit has no place in the record: an ad that may not be
    shown to the young is kept back rather than shown to everybody.
    """
    if not ad.may_serve or ad.decided_at_ms is None or ad.decision_hash is None:
        raise CannotServeError("this ad is not approved")
    if any(finding.not_in_placements or finding.min_age for finding in ad.findings):
        raise CannotServeError("this ad is limited by placement or age, which the auction cannot be told")
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
    )


def export_approved(desk: Desk, actor: Person | None) -> Export:
    """All ads that may run now, by id. actor: None for access to the machine."""
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
                    found.append(approved_ad(ad))
                except CannotServeError:
                    n_kept_back += 1
    return Export(tuple(found), n_kept_back)
