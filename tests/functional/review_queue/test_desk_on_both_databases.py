"""The functions of the desk, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from adyton.kernel.audit import BrokenChainError
from adyton.kernel.clock import ManualClock
from adyton.review.queue import event_log
from adyton.review.queue.claiming import NothingWaits, claim_next, escalations_for, sweep, take_escalation
from adyton.review.queue.clocks import DAY_MS, MINUTE_MS
from adyton.review.queue.deciding import decide, escalate, hold, release, resume, skip
from adyton.review.queue.desk import Desk, open_engine
from adyton.review.queue.desk_views import desk_overview, list_ads, see_ad, see_events, verify_events
from adyton.review.queue.errors import (
    AlreadySubmittedError,
    CannotServeError,
    ClaimError,
    NotPermittedError,
    NotSignedInError,
    QueueInputError,
    StoreUnavailableError,
    TransitionError,
    UnknownRecordError,
)
from adyton.review.queue.export import Limit, approved_ad, export_approved
from adyton.review.queue.golden import add_golden
from adyton.review.queue.next_ad import Bar
from adyton.review.queue.people import issue_token, person_of_token, put_person, revoke_tokens
from adyton.review.queue.permissions import Role
from adyton.review.queue.policy_book import list_policies, put_policy
from adyton.review.queue.quality import MarkSource, estimated_accuracy, quality_by_day
from adyton.review.queue.records import Finding, Judgement, Person, PersonId, Submission
from adyton.review.queue.schema import migrate, newest_version, require_newest
from adyton.review.queue.states import QueueReason, ReviewState, Verdict
from adyton.review.queue.submission import appeal, edit, report, submit, withdraw, withdraw_many
from adyton.review.queue.tables import metadata

APPROVE = Judgement()


def test_migrations_make_exactly_the_tables_and_can_run_again(empty_database_url: str) -> None:
    desk = Desk(open_engine(empty_database_url))
    with pytest.raises(StoreUnavailableError) as refused:
        require_newest(desk)
    with pytest.raises(StoreUnavailableError), desk.reading() as tx:
        tx.conn.execute(sa.select(metadata.tables["ads"]))
    steps = [migrate(desk), migrate(desk)]
    require_newest(desk)
    with desk.reading() as tx:
        differences = compare_metadata(MigrationContext.configure(tx.conn), metadata)
    desk.engine.dispose()

    assert refused.value.hint == "run: adyton queue migrate"
    assert steps == [(None, newest_version()), (newest_version(), newest_version())]
    assert differences == []


def test_an_ad_goes_from_submission_to_an_approved_record(floor: Any, clock: ManualClock) -> None:
    ad = floor.ad()
    mod = floor.person("mod")
    clock.advance_ms(3 * MINUTE_MS)
    decided = floor.decided(mod)
    (approved,) = export_approved(floor.desk, floor.auditor).ads

    assert (decided.ad_id, decided.state, decided.verdict) == (ad.ad_id, ReviewState.DECIDED, Verdict.APPROVED)
    assert approved.ad_id == ad.ad_id
    assert approved.countries == ("US", "CA")
    assert approved.decided_at_ms == clock.now_ms()
    with floor.desk.reading() as tx:
        link = next(entry for entry in event_log.entries(tx) if entry.kind == "decide")
    assert approved.decision_hash == link.entry_hash
    assert link.body["details"]["render_url"] == approved.render_url


def test_the_same_submission_is_the_same_ad_and_other_content_is_refused(floor: Any) -> None:
    first = floor.ad()

    assert floor.ad().ad_id == first.ad_id
    with pytest.raises(AlreadySubmittedError):
        floor.ad(title="Other shoes")


def test_a_rejected_ad_does_not_leave_and_the_worst_finding_wins(floor: Any, rejected: Judgement) -> None:
    ad = floor.ad()
    both = Judgement((*rejected.findings, Finding("alcohol", 1, Verdict.LIMITED, "beer", min_age=18)))
    decided = floor.decided(floor.person("mod"), both)

    assert decided.verdict is Verdict.REJECTED
    assert export_approved(floor.desk, None).ads == ()
    with pytest.raises(CannotServeError):
        approved_ad(floor.file(ad))


def test_limits_go_into_the_record_for_those_who_keep_them_and_keep_the_ad_back_otherwise(
    floor: Any, limited: Judgement
) -> None:
    mod = floor.person("mod")
    floor.ad("one")
    floor.decided(mod, limited)
    floor.ad("two")
    floor.decided(
        mod,
        Judgement(
            (
                Finding("alcohol", 1, Verdict.LIMITED, "beer", min_age=18, not_in_placements=("stories", "feed")),
                Finding("weapons", 1, Verdict.LIMITED, "a sword", min_age=21, not_in_placements=("feed",)),
            )
        ),
    )
    nobody = export_approved(floor.desk, None)
    half = export_approved(floor.desk, None, {Limit.AGE})
    both = export_approved(floor.desk, None, {Limit.AGE, Limit.PLACEMENT})
    (strict,) = [ad for ad in both.ads if ad.has_limits]

    assert [ad.countries for ad in nobody.ads] == [("US",)]
    assert (nobody.n_kept_back, half.n_kept_back, both.n_kept_back) == (1, 1, 0)
    assert (strict.min_age, strict.not_in_placements) == (21, ("feed", "stories"))


def test_claiming_twice_gives_the_same_ad_and_token(floor: Any) -> None:
    floor.ad("one")
    floor.ad("two")
    mod = floor.person("mod")

    assert floor.claim(mod) == floor.claim(mod)


def test_two_moderators_get_two_ads_and_the_third_hears_that_nothing_waits(floor: Any) -> None:
    floor.ad("one")
    floor.ad("two")
    people = [floor.person(f"mod{k}") for k in range(3)]
    held = {floor.claim(person).ad.ad_id for person in people[:2]}

    assert len(held) == 2
    assert claim_next(floor.desk, people[2]) == NothingWaits({}, 60)


def test_an_ad_of_another_market_is_not_given(floor: Any) -> None:
    floor.ad(market="FR")

    assert isinstance(claim_next(floor.desk, floor.person("mod")), NothingWaits)


def test_an_expired_claim_goes_to_the_next_one_and_the_first_token_is_refused(floor: Any, clock: ManualClock) -> None:
    floor.ad()
    slow, quick = floor.person("slow"), floor.person("quick")
    lost = floor.claim(slow)
    clock.advance_ms(10 * MINUTE_MS)
    taken = floor.claim(quick)

    assert taken.ad.ad_id == lost.ad.ad_id
    with pytest.raises(ClaimError):
        decide(floor.desk, slow, lost.ad.ad_id, lost.token, APPROVE)
    decided = decide(floor.desk, quick, taken.ad.ad_id, taken.token, APPROVE)
    assert decided.verdict is Verdict.APPROVED
    kinds = [entry.kind for entry in see_events(floor.desk, floor.auditor, limit=500)]
    assert kinds.count("lose_claim") == 1


def test_an_expired_claim_that_nobody_took_cannot_decide_either(floor: Any, clock: ManualClock) -> None:
    floor.ad()
    mod = floor.person("mod")
    lost = floor.claim(mod)
    clock.advance_ms(10 * MINUTE_MS)
    with pytest.raises(ClaimError, match="ended 0 min 0 s ago"):
        decide(floor.desk, mod, lost.ad.ad_id, lost.token, APPROVE)

    again = floor.claim(mod)

    assert again.ad.ad_id == lost.ad.ad_id
    assert again.token != lost.token


def test_a_double_click_on_decide_changes_nothing(floor: Any, rejected: Judgement) -> None:
    floor.ad()
    mod = floor.person("mod")
    claim = floor.claim(mod)
    first = decide(floor.desk, mod, claim.ad.ad_id, claim.token, rejected)
    before = verify_events(floor.desk, None)
    second = decide(floor.desk, mod, claim.ad.ad_id, claim.token, rejected)

    assert second == first
    assert verify_events(floor.desk, None) == before
    with pytest.raises((ClaimError, TransitionError)):
        decide(floor.desk, mod, claim.ad.ad_id, claim.token, APPROVE)


@pytest.mark.parametrize("token", ["", "0" * 64])
def test_a_wrong_token_decides_nothing(floor: Any, token: str) -> None:
    floor.ad()
    mod = floor.person("mod")
    claim = floor.claim(mod)
    with pytest.raises(ClaimError):
        decide(floor.desk, mod, claim.ad.ad_id, token, APPROVE)

    assert floor.file(claim.ad).state is ReviewState.CLAIMED


def test_the_token_of_a_colleague_decides_nothing_and_tells_nothing(floor: Any) -> None:
    floor.ad()
    claim = floor.claim(floor.person("mod"))
    with pytest.raises(UnknownRecordError):
        decide(floor.desk, floor.person("thief"), claim.ad.ad_id, claim.token, APPROVE)


@pytest.mark.parametrize(
    "finding",
    [
        Finding("nothing", 1, Verdict.REJECTED, "x"),
        Finding("weapons", 2, Verdict.REJECTED, "x"),
        Finding("alcohol", 1, Verdict.REJECTED, "x"),
    ],
    ids=["unknown label", "old version", "beyond the policy"],
)
def test_a_finding_must_name_a_current_policy_and_keep_to_it(floor: Any, finding: Finding) -> None:
    floor.ad()
    mod = floor.person("mod")
    claim = floor.claim(mod)
    with pytest.raises(QueueInputError):
        decide(floor.desk, mod, claim.ad.ad_id, claim.token, Judgement((finding,)))

    assert floor.file(claim.ad).state is ReviewState.CLAIMED


def test_a_moderator_may_be_limited_to_some_labels(floor: Any, rejected: Judgement) -> None:
    floor.ad()
    mod = floor.person("mod", labels=("alcohol",))
    claim = floor.claim(mod)
    with pytest.raises(NotPermittedError):
        decide(floor.desk, mod, claim.ad.ad_id, claim.token, rejected)


def test_a_policy_gets_a_new_version_only_when_it_says_something_else(floor: Any) -> None:
    same = put_policy(floor.desk, floor.lead, "weapons", "Weapons", "No weapons.", Verdict.REJECTED)
    other = put_policy(floor.desk, floor.lead, "weapons", "Weapons", "No weapons, no toys.", Verdict.REJECTED)

    assert (same.version, other.version) == (1, 2)
    assert {policy.label: policy.version for policy in list_policies(floor.desk, floor.advertiser)} == {
        "alcohol": 1,
        "weapons": 2,
    }


def test_a_held_ad_outlives_the_lock_and_comes_back_after_the_hold(floor: Any, clock: ManualClock) -> None:
    floor.ad("one")
    mod, other = floor.person("mod"), floor.person("other")
    claim = floor.claim(mod)
    hold(floor.desk, mod, claim.ad.ad_id, claim.token, 60, "asking the legal team")
    clock.advance_ms(30 * MINUTE_MS)

    assert isinstance(claim_next(floor.desk, other), NothingWaits)
    assert resume(floor.desk, mod, claim.ad.ad_id, claim.token).state is ReviewState.CLAIMED
    hold(floor.desk, mod, claim.ad.ad_id, claim.token, 60, "asking again")
    clock.advance_ms(60 * MINUTE_MS)
    assert floor.claim(other).ad.ad_id == claim.ad.ad_id


def test_a_hold_lets_the_moderator_work_on_another_ad_but_not_on_two(floor: Any) -> None:
    floor.ad("one")
    floor.ad("two")
    mod = floor.person("mod")
    first = floor.claim(mod)
    hold(floor.desk, mod, first.ad.ad_id, first.token, 60, "asking")
    second = floor.claim(mod)

    assert second.ad.ad_id != first.ad.ad_id
    with pytest.raises(ClaimError, match="another ad"):
        resume(floor.desk, mod, first.ad.ad_id, first.token)
    assert decide(floor.desk, mod, first.ad.ad_id, first.token, APPROVE).verdict is Verdict.APPROVED


def test_a_skip_hides_the_ad_from_that_moderator_only(floor: Any) -> None:
    floor.ad()
    mod, other = floor.person("mod"), floor.person("other")
    claim = floor.claim(mod)
    skip(floor.desk, mod, claim.ad.ad_id, claim.token, "I know the seller")

    assert claim_next(floor.desk, mod) == NothingWaits({Bar.SKIPPED: 1}, 60)
    assert floor.claim(other).ad.ad_id == claim.ad.ad_id


def test_a_released_ad_may_come_back_to_the_same_moderator(floor: Any) -> None:
    floor.ad()
    mod = floor.person("mod")
    claim = floor.claim(mod)
    release(floor.desk, mod, claim.ad.ad_id, claim.token)
    release(floor.desk, mod, claim.ad.ad_id, claim.token)

    assert floor.claim(mod).ad.ad_id == claim.ad.ad_id


def test_a_hard_ad_released_and_claimed_again_in_the_same_moment_is_one_look(floor: Any) -> None:
    """Found by the simulation: two looks in one millisecond had the same key."""
    floor.ad(severity=3)
    mod = floor.person("mod")
    claim = floor.claim(mod)
    release(floor.desk, mod, claim.ad.ad_id, claim.token)

    assert floor.claim(mod).exposure_left == 57


def test_an_escalation_to_a_person_never_times_out_and_is_nobody_elses(floor: Any, clock: ManualClock) -> None:
    floor.ad(expires_at_ms=clock.now_ms() + DAY_MS)
    mod, expert, other = floor.person("mod"), floor.person("expert"), floor.person("other")
    claim = floor.claim(mod)
    ad_id = claim.ad.ad_id
    escalate(floor.desk, mod, ad_id, "needs an expert", person=PersonId("expert"), token=claim.token)
    clock.advance_ms(400 * DAY_MS)
    sweep(floor.desk)

    assert floor.file(claim.ad).state is ReviewState.ESCALATED
    assert isinstance(claim_next(floor.desk, other), NothingWaits)
    with pytest.raises(UnknownRecordError):
        take_escalation(floor.desk, other, ad_id)
    assert [ad.ad_id for ad in escalations_for(floor.desk, expert)] == [ad_id]
    taken = take_escalation(floor.desk, expert, ad_id)
    clock.advance_ms(400 * DAY_MS)
    assert taken.expires_at_ms is None
    assert take_escalation(floor.desk, expert, ad_id).token == taken.token
    assert decide(floor.desk, expert, ad_id, taken.token, APPROVE).state is ReviewState.DECIDED


def test_an_escalation_to_a_queue_is_for_those_who_serve_it_and_leads_may_route_it(floor: Any) -> None:
    floor.ad()
    mod, lawyer = floor.person("mod"), floor.person("lawyer", queues=("legal",))
    claim = floor.claim(mod)
    escalate(floor.desk, mod, claim.ad.ad_id, "a claim about health", queue="legal", token=claim.token)
    taken = take_escalation(floor.desk, lawyer, claim.ad.ad_id)
    with pytest.raises(ClaimError):
        take_escalation(floor.desk, floor.lead, claim.ad.ad_id)
    escalate(floor.desk, floor.lead, claim.ad.ad_id, "the lawyer is ill", person=PersonId("mod"))

    with pytest.raises(ClaimError):
        decide(floor.desk, lawyer, claim.ad.ad_id, taken.token, APPROVE)
    assert take_escalation(floor.desk, mod, claim.ad.ad_id).ad.ad_id == claim.ad.ad_id


@pytest.mark.parametrize("addressee", [{"person": PersonId("auditor")}, {}, {"person": PersonId("mod"), "queue": "q"}])
def test_an_escalation_needs_one_addressee_who_can_judge(floor: Any, addressee: dict[str, Any]) -> None:
    floor.ad()
    mod = floor.person("mod")
    claim = floor.claim(mod)
    with pytest.raises(QueueInputError):
        escalate(floor.desk, mod, claim.ad.ad_id, "why", token=claim.token, **addressee)


def test_two_equal_opinions_decide_and_the_second_is_given_blind(make_floor: Callable[..., Any]) -> None:
    floor = make_floor(second_one_in=1)
    floor.ad()
    one, two = floor.person("one"), floor.person("two")
    waiting = floor.decided(one)

    assert waiting.state is ReviewState.SECOND_REVIEW
    assert claim_next(floor.desk, one) == NothingWaits({Bar.JUDGED: 1}, 60)
    claim = floor.claim(two)
    assert see_ad(floor.desk, two, waiting.ad_id)["opinions"] == []
    assert see_ad(floor.desk, floor.lead, waiting.ad_id)["opinions"] == []
    assert len(see_ad(floor.desk, one, waiting.ad_id)["opinions"]) == 1
    assert len(see_ad(floor.desk, floor.auditor, waiting.ad_id)["opinions"]) == 1
    decided = decide(floor.desk, two, waiting.ad_id, claim.token, APPROVE)
    assert decided.verdict is Verdict.APPROVED
    assert len(see_ad(floor.desk, two, waiting.ad_id)["opinions"]) == 2


def test_two_different_opinions_go_to_a_lead_who_marks_the_right_one(
    make_floor: Callable[..., Any], rejected: Judgement
) -> None:
    floor = make_floor(second_one_in=1)
    floor.ad()
    one, two = floor.person("one"), floor.person("two")
    floor.decided(one)
    disputed = floor.decided(two, rejected)
    taken = take_escalation(floor.desk, floor.lead, disputed.ad_id)
    decided = decide(floor.desk, floor.lead, disputed.ad_id, taken.token, rejected)
    marks = {(one.person_id, one.source): one.n_right for one in quality_by_day(floor.desk, floor.lead)}

    assert disputed.state is ReviewState.ESCALATED
    assert decided.verdict is Verdict.REJECTED
    assert marks == {("one", MarkSource.ESCALATION): 0, ("two", MarkSource.ESCALATION): 1}


def test_golden_items_look_like_ads_and_give_accuracy_over_time(
    make_floor: Callable[..., Any], rejected: Judgement, clock: ManualClock
) -> None:
    floor = make_floor(golden_one_in=1)
    mod = floor.person("mod")
    template = Submission(**{**_content(floor.ad()), "creative_id": "known bad"})
    add_golden(floor.desk, floor.lead, template, Verdict.REJECTED)
    add_golden(floor.desk, floor.lead, replace(template, creative_id="also bad"), Verdict.REJECTED)
    seen = see_ad(floor.desk, mod, floor.claim(mod).ad.ad_id)
    floor.decided(mod, rejected)
    clock.advance_ms(DAY_MS)
    wrong = floor.decided(mod)
    third = floor.claim(mod)
    quality = [(one.n_marks, one.n_right) for one in quality_by_day(floor.desk, mod, only_own=True)]

    assert "is_golden" not in seen
    assert "golden" not in str(seen).lower()
    assert quality == [(1, 1), (1, 0)]
    assert wrong.may_serve is False
    assert export_approved(floor.desk, None).ads == ()
    assert third.ad.golden_id is None
    with floor.desk.reading() as tx:
        assert estimated_accuracy(tx, [mod]) == [pytest.approx((0.85 * 20 + 1) / 22)]


def _content(ad: Any) -> dict[str, Any]:
    names = Submission.__dataclass_fields__
    return {name: value for name, value in asdict(ad).items() if name in names}


def test_an_appeal_goes_to_somebody_else_with_a_new_clock_and_marks_the_first(
    floor: Any, rejected: Judgement, clock: ManualClock
) -> None:
    floor.ad()
    one, two = floor.person("one"), floor.person("two")
    first = floor.decided(one, rejected)
    clock.advance_ms(DAY_MS)
    appealed = appeal(floor.desk, floor.advertiser, first.ad_id, "it is a butter knife")
    again = appeal(floor.desk, floor.advertiser, first.ad_id, "it is a butter knife")

    assert again == appealed
    assert (appealed.state, appealed.reason, appealed.round) == (ReviewState.QUEUED, QueueReason.APPEAL, 2)
    assert appealed.verdict is Verdict.REJECTED
    assert appealed.due_at_ms == clock.now_ms() + DAY_MS
    assert claim_next(floor.desk, one) == NothingWaits({Bar.JUDGED: 1}, 60)
    assert floor.decided(two).verdict is Verdict.APPROVED
    (mark,) = quality_by_day(floor.desk, floor.auditor)
    assert (mark.person_id, mark.source, mark.n_right) == ("one", MarkSource.APPEAL, 0)


def test_appeals_end_after_as_many_as_the_rules_say(make_floor: Callable[..., Any], rejected: Judgement) -> None:
    floor = make_floor(max_appeals=1)
    floor.ad()
    first = floor.decided(floor.person("one"), rejected)
    appeal(floor.desk, floor.advertiser, first.ad_id, "please")
    floor.decided(floor.person("two"), rejected)
    with pytest.raises(TransitionError, match="1 times"):
        appeal(floor.desk, floor.advertiser, first.ad_id, "please, please")


def test_an_approved_ad_cannot_be_appealed(floor: Any) -> None:
    floor.ad()
    decided = floor.decided(floor.person("mod"))
    with pytest.raises(TransitionError):
        appeal(floor.desk, floor.advertiser, decided.ad_id, "why not more?")


def test_an_edited_ad_stops_serving_and_voids_the_claim(floor: Any) -> None:
    ad = floor.ad()
    mod = floor.person("mod")
    floor.decided(mod)
    changed = Submission(**{**_content(ad), "title": "New shoes", "revenue_micros": None, "punish_num": None})
    edited = edit(floor.desk, floor.advertiser, ad.ad_id, changed)
    claim = floor.claim(mod)
    edit(floor.desk, floor.advertiser, ad.ad_id, replace(changed, title="Newest shoes"))

    assert (edited.verdict, edited.may_serve, edited.content_version) == (Verdict.NONE, False, 2)
    assert export_approved(floor.desk, None).ads == ()
    with pytest.raises((ClaimError, TransitionError)):
        decide(floor.desk, mod, ad.ad_id, claim.token, APPROVE)
    unchanged = edit(floor.desk, floor.advertiser, ad.ad_id, replace(changed, title="Newest shoes"))
    assert unchanged.round == 3


def test_a_reported_ad_keeps_serving_unless_the_lead_stops_it(floor: Any) -> None:
    mod = floor.person("mod")
    one = floor.ad("one")
    floor.decided(mod)
    two = floor.ad("two")
    floor.decided(mod)
    report(floor.desk, floor.lead, one.ad_id, "a user complained")
    report(floor.desk, floor.lead, two.ad_id, "police called", severity=3, stops_serving=True)

    assert [ad.ad_id for ad in export_approved(floor.desk, None).ads] == [one.ad_id]
    assert floor.file(two).severity == 3
    assert floor.file(one).reason is QueueReason.REPORT


def test_a_withdrawn_ad_is_gone_for_good(floor: Any) -> None:
    ad = floor.ad()
    mod = floor.person("mod")
    claim = floor.claim(mod)
    first = withdraw(floor.desk, floor.advertiser, ad.ad_id, "campaign over")
    second = withdraw(floor.desk, floor.advertiser, ad.ad_id, "campaign over")

    assert first == second
    assert first.verdict is Verdict.WITHDRAWN
    with pytest.raises((ClaimError, TransitionError)):
        decide(floor.desk, mod, ad.ad_id, claim.token, APPROVE)
    with pytest.raises(TransitionError):
        appeal(floor.desk, floor.advertiser, ad.ad_id, "come back")


def test_a_bulk_withdrawal_names_what_it_did_and_what_it_did_not(floor: Any) -> None:
    ours = [floor.ad(f"c{k}") for k in range(3)]
    other = floor.ad("x", buyer="other.example")
    stays = floor.ad("y", buyer="third.example")
    withdraw(floor.desk, floor.lead, ours[0].ad_id, "")
    done = withdraw_many(floor.desk, floor.lead, "fraud", ad_ids=(other.ad_id, "ad-none"), buyer=ours[0].buyer)

    assert set(done.withdrawn) == {ours[1].ad_id, ours[2].ad_id, other.ad_id}
    assert done.unchanged == (ours[0].ad_id,)
    assert done.unknown == ("ad-none",)
    assert floor.file(stays).state is ReviewState.QUEUED


def test_hard_content_stops_at_the_days_budget_and_comes_back_the_next_day(floor: Any, clock: ManualClock) -> None:
    mod = floor.person("mod", exposure_budget=5)
    for k in range(3):
        floor.ad(f"hard{k}", severity=3)
    floor.ad("soft", revenue_micros=0)
    severities = [floor.decided(mod).severity for _ in range(2)]

    assert severities == [3, 0]
    assert claim_next(floor.desk, mod) == NothingWaits({Bar.EXPOSURE: 2}, 2)
    clock.advance_ms(DAY_MS)
    assert floor.claim(mod).ad.severity == 3


def test_an_ad_past_its_own_end_is_not_given_and_does_not_serve(floor: Any, clock: ManualClock) -> None:
    mod = floor.person("mod")
    ends = clock.now_ms() + 60 * MINUTE_MS
    served, waiting = floor.ad("one", expires_at_ms=ends), floor.ad("two", expires_at_ms=ends)
    first = floor.decided(mod)
    clock.advance_ms(60 * MINUTE_MS)

    assert export_approved(floor.desk, None).ads == ()
    assert isinstance(claim_next(floor.desk, mod), NothingWaits)
    assert sweep(floor.desk) == (0, 2)
    assert {floor.file(ad).verdict for ad in (served, waiting)} == {Verdict.EXPIRED}
    assert sweep(floor.desk) == (0, 0)
    assert first.ad_id in (served.ad_id, waiting.ad_id)


def test_the_sweep_takes_back_claims_that_are_over(floor: Any, clock: ManualClock) -> None:
    ad = floor.ad()
    floor.claim(floor.person("mod"))
    clock.advance_ms(10 * MINUTE_MS)

    assert sweep(floor.desk) == (1, 0)
    assert floor.file(ad).state is ReviewState.QUEUED


def test_an_advertiser_sees_only_its_own_ads_and_nothing_of_the_desk(floor: Any, rejected: Judgement) -> None:
    ours, other = floor.ad("one"), floor.ad("two", buyer="other.example")
    mod = floor.person("mod")
    floor.decided(mod, rejected)
    floor.decided(mod, rejected)
    view = see_ad(floor.desk, floor.advertiser, ours.ad_id)

    assert [one["ad_id"] for one in list_ads(floor.desk, floor.advertiser)] == [ours.ad_id]
    with pytest.raises(UnknownRecordError):
        see_ad(floor.desk, floor.advertiser, other.ad_id)
    with pytest.raises(UnknownRecordError):
        withdraw(floor.desk, floor.advertiser, other.ad_id, "")
    assert view["findings"][0]["evidence"] == "a knife at 0:03"
    assert "'mod'" not in str(view)
    assert "sure" not in str(view)
    assert {"revenue_micros", "opinions", "claim_holder", "severity"}.isdisjoint(view)


def test_an_advertiser_cannot_state_its_own_risk_or_submit_for_another_buyer(floor: Any) -> None:
    content = _content(floor.ad())
    with pytest.raises(NotPermittedError):
        submit(floor.desk, floor.advertiser, Submission(**{**content, "creative_id": "n"}))
    with pytest.raises(NotPermittedError):
        submit(
            floor.desk,
            floor.advertiser,
            Submission(**{**content, "buyer": "other.example", "revenue_micros": None, "punish_num": None}),
        )


def test_risk_of_a_new_ad_is_counted_from_the_buyers_rejections(floor: Any, rejected: Judgement) -> None:
    content = _content(floor.ad()) | {"revenue_micros": None, "punish_num": None}
    floor.decided(floor.person("mod"), rejected)
    ad = submit(floor.desk, floor.advertiser, Submission(**{**content, "creative_id": "n"}))

    assert (ad.punish_num, ad.revenue_micros) == (1, 20_000_000)


def test_tokens_open_the_door_until_they_are_revoked_or_end(floor: Any, clock: ManualClock) -> None:
    token = issue_token(floor.desk, floor.lead, PersonId("auditor"), days=1)
    person = person_of_token(floor.desk, token)
    with floor.desk.reading() as tx:
        stored = str(tx.conn.execute(sa.select(metadata.tables["tokens"])).all())
    clock.advance_ms(DAY_MS)

    assert person == floor.auditor
    assert token not in stored
    with pytest.raises(NotSignedInError):
        person_of_token(floor.desk, token)
    newer = issue_token(floor.desk, None, PersonId("auditor"))
    assert revoke_tokens(floor.desk, floor.lead, PersonId("auditor")) == 2
    with pytest.raises(NotSignedInError):
        person_of_token(floor.desk, newer)


def test_a_person_who_left_is_not_let_in(floor: Any) -> None:
    token = issue_token(floor.desk, None, PersonId("auditor"))
    put_person(floor.desk, floor.lead, replace(floor.auditor, is_active=False))
    with pytest.raises(NotSignedInError):
        person_of_token(floor.desk, token)


def test_every_change_is_an_event_and_a_change_of_the_log_is_found(floor: Any) -> None:
    floor.ad()
    floor.decided(floor.person("mod"))
    count, newest = verify_events(floor.desk, floor.auditor)
    entries = see_events(floor.desk, floor.auditor, limit=500)

    assert len(entries) == count
    assert entries[-1].entry_hash == newest
    decision = entries[-1]
    assert decision.body["person_id"] == "mod"
    assert decision.body["claim"]
    with pytest.raises(sa.exc.DBAPIError, match="append-only"), floor.desk.engine.begin() as conn:
        conn.execute(sa.text("UPDATE events SET kind = 'nothing' WHERE sequence = 1"))
    with pytest.raises(sa.exc.DBAPIError, match="append-only"), floor.desk.engine.begin() as conn:
        conn.execute(sa.text("DELETE FROM events"))
    # Somebody with the rights of the owner gets past the triggers.
    with floor.desk.engine.begin() as conn:
        if conn.dialect.name == "sqlite":
            conn.execute(sa.text("DROP TRIGGER events_no_DELETE"))
        else:
            conn.execute(sa.text("ALTER TABLE events DISABLE TRIGGER USER"))
        conn.execute(sa.text(f"DELETE FROM events WHERE sequence = {count - 1}"))
    with pytest.raises(BrokenChainError):
        verify_events(floor.desk, None)


def test_the_overview_counts_states_lateness_and_the_oldest_wait(floor: Any, clock: ManualClock) -> None:
    floor.ad("old")
    clock.advance_ms(25 * 60 * MINUTE_MS)
    floor.ad("new")
    floor.claim(floor.person("mod"))
    overview = desk_overview(floor.desk, floor.lead)

    assert overview["by_state"]["claimed"] == 1
    assert overview["by_state"]["queued"] == 1
    assert overview["n_late"] == 1
    assert overview["n_working"] == 1
    # Of all open ads the longest wait, not the newest.
    assert overview["oldest_wait_ms"] == 25 * 60 * MINUTE_MS


def test_the_overview_tells_of_markets_that_nobody_judges(floor: Any) -> None:
    floor.ad("here", market="US")
    floor.ad("there", market="FR")
    floor.person("mod", markets=("US", "DE"))
    overview = desk_overview(floor.desk, floor.lead)

    assert {one["market"]: one["n_judges"] for one in overview["by_market"]} == {"FR": 0, "US": 2}


def test_a_late_ad_comes_before_a_valuable_one(floor: Any, clock: ManualClock) -> None:
    late = floor.ad("late", revenue_micros=1)
    clock.advance_ms(25 * 60 * MINUTE_MS)
    floor.ad("valuable", revenue_micros=10**12)

    assert floor.claim(floor.person("mod")).ad.ad_id == late.ad_id


def test_steps_are_refused_in_the_words_of_the_rules(floor: Any) -> None:
    ad = floor.ad()
    mod = floor.person("mod")
    floor.claim(mod)
    steps = {one["name"]: one["refusal"] for one in see_ad(floor.desk, mod, ad.ad_id)["steps"]}
    theirs = {one["name"]: one["refusal"] for one in see_ad(floor.desk, floor.advertiser, ad.ad_id)["steps"]}

    assert steps["decide"] is None
    assert steps["resume"].startswith("an ad that is claimed cannot be resumed")
    assert set(theirs) == {"edit", "appeal", "withdraw"}
    assert theirs["appeal"].startswith("an ad that is claimed cannot be appealed")


def test_nothing_of_a_failed_step_stays(floor: Any) -> None:
    before = verify_events(floor.desk, None)
    with pytest.raises(ZeroDivisionError), floor.desk.writing() as tx:
        event_log.append(tx, "nothing", None)
        raise ZeroDivisionError

    assert verify_events(floor.desk, None) == before


def test_only_a_lead_changes_people(floor: Any) -> None:
    with pytest.raises(NotPermittedError):
        put_person(floor.desk, floor.auditor, Person(PersonId("friend"), Role.LEAD))
