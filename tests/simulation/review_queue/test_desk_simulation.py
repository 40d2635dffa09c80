"""A random day at the desk: any steps in any order, against the real database and one clock.

Failure is: an error that is not a documented refusal; two ads in work by one moderator; two opinions of one person in a
round; an ad that serves without an approval; a broken chain; an ad that is lost, or cannot be brought to an end.
No failure: any refusal.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from adyton.kernel.chance import InsecureFixedRandom, stream
from adyton.kernel.clock import ManualClock
from adyton.kernel.errors import BadInputError, RefusedError
from adyton.kernel.ids import BuyerId
from adyton.review.queue import claiming, deciding, submission
from adyton.review.queue.ad_store import list_ads, opinions_of, skipped_round
from adyton.review.queue.claiming import Claim
from adyton.review.queue.clocks import MINUTE_MS, DeskRules
from adyton.review.queue.desk import Desk, open_engine
from adyton.review.queue.desk_views import verify_events
from adyton.review.queue.export import export_approved
from adyton.review.queue.golden import add_golden
from adyton.review.queue.next_ad import Bar, bar
from adyton.review.queue.people import put_person
from adyton.review.queue.permissions import Role
from adyton.review.queue.policy_book import put_policy
from adyton.review.queue.records import AdFile, Finding, Judgement, Person, PersonId, Submission
from adyton.review.queue.schema import migrate
from adyton.review.queue.states import QueueReason, ReviewState, Verdict
from adyton.review.queue.waiting_reader import refresh

JUDGEMENTS = [
    Judgement(),
    Judgement((Finding("weapons", 1, Verdict.REJECTED, "a knife"),)),
    Judgement((Finding("alcohol", 1, Verdict.LIMITED, "beer", not_in_countries=("CA",)),)),
]


class Day:
    def __init__(self, folder: Path, seed: int) -> None:
        self.rng = stream(seed, "desk simulation")
        self.clock = ManualClock(1_790_000_000_000)
        rules = DeskRules(second_one_in=3, golden_one_in=4, max_appeals=2)
        engine = open_engine(f"sqlite:///{folder}/queue.db", connections=2)
        self.desk = Desk(engine, rules, self.clock, InsecureFixedRandom(seed))
        migrate(self.desk)
        self.lead = self._person("lead", Role.LEAD, markets=("US", "FR"))
        self.adv = self._person("adv", Role.ADVERTISER, buyer=BuyerId("shop.example"))
        self.mods = [
            self._person(f"mod{k}", Role.MODERATOR, markets=("US", "FR")[: 1 + k % 2], exposure_budget=20)
            for k in range(4)
        ]
        put_policy(self.desk, self.lead, "weapons", "Weapons", "", Verdict.REJECTED)
        put_policy(self.desk, self.lead, "alcohol", "Alcohol", "", Verdict.LIMITED)
        for k in range(3):
            add_golden(self.desk, self.lead, self._ad(f"golden{k}"), Verdict.REJECTED)
        self.held: dict[str, Claim] = {}
        self.n_submitted = 0
        self.refused: Counter[str] = Counter()

    def _person(self, name: str, role: Role, **given: object) -> Person:
        return put_person(self.desk, None, Person(PersonId(name), role, **given))  # type: ignore[arg-type]

    def _ad(self, creative_id: str, title: str = "Shoes") -> Submission:
        ends = self.clock.now_ms() + int(self.rng.integers(1, 3000)) * MINUTE_MS
        return Submission(
            buyer=BuyerId("shop.example"),
            creative_id=creative_id,
            title=title,
            text="",
            render_url="https://shop.example/",
            market=str(self.rng.choice(["US", "FR"])),
            countries=("US", "CA"),
            product_line="auction",
            value_per_click_micros=int(self.rng.integers(1, 10**6)),
            currency="USD",
            severity=int(self.rng.integers(0, 4)),
            expires_at_ms=ends if self.rng.random() < 0.2 else None,
        )

    def files(self) -> list[AdFile]:
        with self.desk.reading() as tx:
            return list_ads(tx, sa.true(), limit=10_000)

    def step(self) -> None:
        """One step of a random kind by a random person on a random ad; refusals are counted."""
        files = self.files()
        ad = files[self.rng.integers(len(files))] if files else None
        person = self.mods[self.rng.integers(len(self.mods))]
        judge = self.lead if self.rng.random() < 0.2 else person
        claim = self.held.get(judge.person_id)
        judgement = JUDGEMENTS[self.rng.integers(3)]
        kind = str(self.rng.choice(KINDS))
        try:
            if kind == "submit":
                submission.submit(self.desk, self.adv, self._ad(f"c{self.n_submitted}"))
                self.n_submitted += 1
            elif kind == "claim":
                found = claiming.claim_next(self.desk, judge)
                if isinstance(found, Claim):
                    self.held[judge.person_id] = found
            elif kind == "time":
                self.clock.advance_ms(int(self.rng.integers(1, 15)) * MINUTE_MS)
            elif kind == "sweep":
                claiming.sweep(self.desk)
            elif claim is not None and kind in ("decide", "hold", "resume", "release", "skip", "escalate"):
                self._with_claim(kind, judge, claim, judgement)
            elif ad is not None:
                self._with_ad(kind, judge, ad)
        except (RefusedError, BadInputError) as error:
            self.refused[type(error).__name__] += 1

    def _with_claim(self, kind: str, judge: Person, claim: Claim, judgement: Judgement) -> None:
        ad_id, token, desk = claim.ad.ad_id, claim.token, self.desk
        if kind == "decide":
            deciding.decide(desk, judge, ad_id, token, judgement)
        elif kind == "hold":
            deciding.hold(desk, judge, ad_id, token, int(self.rng.integers(1, 100)), "asking")
        elif kind == "resume":
            deciding.resume(desk, judge, ad_id, token)
        elif kind == "release":
            deciding.release(desk, judge, ad_id, token)
        elif kind == "skip":
            deciding.skip(desk, judge, ad_id, token, "no")
        else:
            to = self.mods[self.rng.integers(len(self.mods))].person_id
            deciding.escalate(desk, judge, ad_id, "help", person=to, token=token)

    def _with_ad(self, kind: str, judge: Person, ad: AdFile) -> None:
        if kind == "take":
            self.held[judge.person_id] = claiming.take_escalation(self.desk, judge, ad.ad_id)
        elif kind == "appeal":
            submission.appeal(self.desk, self.adv, ad.ad_id, "please")
        elif kind == "report":
            stops = bool(self.rng.random() < 0.5)
            submission.report(self.desk, self.lead, ad.ad_id, "complaint", severity=2, stops_serving=stops)
        elif kind == "edit":
            submission.edit(self.desk, self.adv, ad.ad_id, self._ad(ad.creative_id, title=f"T{self.rng.integers(9)}"))
        elif kind == "withdraw" and self.rng.random() < 0.2:
            submission.withdraw(self.desk, self.adv, ad.ad_id, "over")

    def check(self) -> None:
        """What must hold at every moment."""
        files = self.files()
        now_ms = self.clock.now_ms()
        working = Counter(
            ad.claim_holder
            for ad in files
            if ad.state in (ReviewState.CLAIMED, ReviewState.SECOND_REVIEW)
            and ad.claim_expires_at_ms is not None
            and ad.claim_expires_at_ms > now_ms
        )
        assert all(count == 1 for count in working.values())
        for ad in files:
            has_claim = ad.claim_holder is not None
            assert has_claim == (ad.claim_token is not None)
            assert not has_claim or ad.state not in (ReviewState.QUEUED, ReviewState.DECIDED)
            assert (ad.state is ReviewState.CLAIMED) <= has_claim
            assert ad.may_serve <= (ad.verdict in (Verdict.APPROVED, Verdict.LIMITED) and ad.golden_id is None)
            assert (ad.assigned_person is None and ad.assigned_queue is None) or ad.state is ReviewState.ESCALATED
            with self.desk.reading() as tx:
                said = [one.person_id for one in opinions_of(tx, ad) if one.round == ad.round]
            assert len(said) == len(set(said))
        running = {ad.ad_id for ad in files if ad.may_serve}
        assert {ad.ad_id for ad in export_approved(self.desk, None).ads} <= running
        self.check_book(files)

    def check_book(self, files: list[AdFile]) -> None:
        """The book in memory says of each moderator what a slow look at every file says."""
        for person in self.mods:
            with self.desk.reading() as tx, tx.book.lock:
                refresh(tx)
                look = tx.book.look(person, tx.rules, tx.now_ms, exposure_left=3, most=10_000)
                open_to, barred = set(), Counter[Bar]()
                for ad in files:
                    if ad.market not in person.markets or ad.golden_id is not None or not _waits(ad, tx.now_ms):
                        continue
                    judged = [one.round for one in opinions_of(tx, ad) if one.person_id == person.person_id]
                    reason = bar(
                        is_skipped=skipped_round(tx, ad.ad_id, person.person_id) == ad.round,
                        has_judged=bool(judged) and (ad.reason is QueueReason.APPEAL or max(judged) == ad.round),
                        severity=ad.severity,
                        exposure_left=3,
                    )
                    if reason is None:
                        open_to.add(ad.ad_id)
                    else:
                        barred[reason] += 1
            assert set(look.ad_ids) == open_to
            assert look.barred == barred

    def check_nothing_is_lost(self) -> None:
        """After the day the leads finish everything: each ad that came in has an end."""
        self.clock.advance_ms(3_000 * MINUTE_MS)
        claiming.sweep(self.desk)
        finishers = [
            self._person(f"finisher{k}", Role.LEAD, markets=("US", "FR"), exposure_budget=10**6) for k in range(3)
        ]
        for _ in range(2):
            for person in finishers:
                while isinstance(claim := claiming.claim_next(self.desk, person), Claim):
                    deciding.decide(self.desk, person, claim.ad.ad_id, claim.token, Judgement())
            for ad in claiming.escalations_for(self.desk, finishers[0]):
                for person in finishers:
                    try:
                        deciding.escalate(
                            self.desk, finishers[0], ad.ad_id, "finish", person=person.person_id, token=ad.claim_token
                        )
                    except BadInputError:
                        continue  # has judged it already
                    claim = claiming.take_escalation(self.desk, person, ad.ad_id)
                    deciding.decide(self.desk, person, ad.ad_id, claim.token, Judgement())
                    break
        left = [ad.state for ad in self.files() if ad.golden_id is None and ad.state is not ReviewState.DECIDED]
        assert left == []
        assert sum(ad.golden_id is None for ad in self.files()) == self.n_submitted


def _waits(ad: AdFile, now_ms: int) -> bool:
    """Whether somebody might be given the ad now, by the words of the states."""
    if ad.expires_at_ms is not None and ad.expires_at_ms <= now_ms:
        return False
    is_lost = ad.claim_expires_at_ms is not None and ad.claim_expires_at_ms <= now_ms
    match ad.state:
        case ReviewState.QUEUED:
            return True
        case ReviewState.SECOND_REVIEW:
            return ad.claim_holder is None or is_lost
        case ReviewState.CLAIMED | ReviewState.HELD:
            return is_lost
        case _:
            return False


KINDS = [
    *["submit"] * 4,
    *["claim"] * 8,
    *["decide"] * 6,
    *["time"] * 2,
    *["take"] * 3,
    *["escalate"] * 2,
    "sweep",
    "hold",
    "resume",
    "release",
    "skip",
    "appeal",
    "appeal",
    "report",
    "edit",
    "withdraw",
]


def _run(folder: Path, seed: int, n_steps: int) -> Day:
    day = Day(folder, seed)
    for k in range(n_steps):
        day.step()
        if k % 10 == 0:
            day.check()
    day.check()
    verify_events(day.desk, None)
    day.check_nothing_is_lost()
    day.check()
    verify_events(day.desk, None)
    day.desk.engine.dispose()
    return day


def test_a_short_random_day_keeps_every_promise(tmp_path: Path) -> None:
    day = _run(tmp_path, seed=1, n_steps=150)

    assert np.sum(list(day.refused.values())) > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 10))
def test_long_random_days_keep_every_promise(tmp_path: Path, seed: int) -> None:
    _run(tmp_path, seed, n_steps=600)
