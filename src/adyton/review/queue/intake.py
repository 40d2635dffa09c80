"""Taking ads in: the first file of an ad, and what the desk estimates when the submission does not say it."""

from __future__ import annotations

from dataclasses import replace

import sqlalchemy as sa

from adyton.kernel.ids import AdId, BuyerId
from adyton.review.queue.desk import Tx
from adyton.review.queue.lifecycle import moved
from adyton.review.queue.records import AdFile, GoldenId, PersonId, Submission, check_number
from adyton.review.queue.states import ReviewEvent, Verdict
from adyton.review.queue.tables import ads

AVERAGE_WORK_MILLI = 1_210
"""Mean of the workbook's baseline time, spec/review §1.2."""
CLICKS_PER_NEW_AD = 1_000
"""What a first ad of a buyer is assumed to earn: the worth of this many clicks."""


def new_file(tx: Tx, submission: Submission, submitter: PersonId, golden_id: GoldenId | None = None) -> AdFile:
    """The file of a new ad, in the queue with its first clock; not yet in the database."""
    ad_id = AdId(f"ad-{tx.new_secret()[:24]}")
    revenue = submission.revenue_micros
    punish_num = submission.punish_num
    ad = AdFile(
        ad_id=ad_id,
        submission_key=submission_key(submission) if golden_id is None else f"{golden_id}/{ad_id}",
        buyer=submission.buyer,
        creative_id=submission.creative_id,
        title=submission.title,
        text=submission.text,
        render_url=submission.render_url,
        market=submission.market,
        countries=submission.countries,
        product_line=submission.product_line,
        value_per_click_micros=submission.value_per_click_micros,
        currency=submission.currency,
        revenue_micros=_estimated_revenue(tx, submission) if revenue is None else revenue,
        punish_num=_counted_punishments(tx, submission.buyer) if punish_num is None else punish_num,
        work_milli=AVERAGE_WORK_MILLI if submission.work_milli is None else submission.work_milli,
        severity=submission.severity,
        expires_at_ms=submission.expires_at_ms,
        submitted_by=submitter,
        submitted_at_ms=tx.now_ms,
        queued_at_ms=tx.now_ms,
        due_at_ms=tx.now_ms,
    )
    return replace(moved(ad, ReviewEvent.QUEUE, tx.now_ms, tx.rules), golden_id=golden_id)


def submission_key(submission: Submission) -> str:
    """One for each creative of a buyer."""
    return f"{submission.buyer}/{submission.creative_id}"


def _estimated_revenue(tx: Tx, submission: Submission) -> int:
    mean = tx.conn.execute(
        sa.select(sa.func.avg(ads.c.revenue_micros)).where(ads.c.buyer == submission.buyer, ads.c.golden_id.is_(None))
    ).scalar_one()
    guess = submission.value_per_click_micros * CLICKS_PER_NEW_AD if mean is None else int(mean)
    return check_number(min(guess, 10**15), "revenue_micros")


def _counted_punishments(tx: Tx, buyer: BuyerId) -> int:
    return int(
        tx.conn.execute(
            sa.select(sa.func.count())
            .select_from(ads)
            .where(ads.c.buyer == buyer, ads.c.verdict == Verdict.REJECTED, ads.c.golden_id.is_(None))
        ).scalar_one()
    )
