"""Prices of moderators' time, found from what the desk saw."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from adyton.cli.queue import _price_until, queue
from adyton.kernel.clock import ManualClock
from adyton.kernel.ids import BuyerId
from adyton.review.bound import dual_prices
from adyton.review.queue import event_log
from adyton.review.queue.claiming import Claim, claim_next
from adyton.review.queue.clocks import DAY_MS, MINUTE_MS, DeskRules
from adyton.review.queue.deciding import decide
from adyton.review.queue.desk import Desk, open_engine
from adyton.review.queue.errors import NothingToPriceError, NotPermittedError
from adyton.review.queue.people import PRICE, find_person, put_person
from adyton.review.queue.permissions import Role
from adyton.review.queue.pricing import IncomingAd, day_arrays, price_moderators, prices_of_day
from adyton.review.queue.records import Judgement, Person, PersonId, Submission
from adyton.review.queue.submission import submit
from adyton.review.queue.tables import ads
from adyton.review.queue.waiting_book import Judge

CAME = [IncomingAd(10 * k, ("US", "FR")[k % 2], revenue=5.0 + k, punish_num=0, work=1.0) for k in range(40)]


def _judge(name: str, markets: tuple[str, ...], accuracy: float = 0.9, **given: Any) -> Judge:
    return Judge(Person(PersonId(name), Role.MODERATOR, markets=markets, **given), accuracy)


def test_a_persons_price_is_the_mean_of_the_dual_over_the_own_shift() -> None:
    judges = [_judge("early", ("US",), utc_offset_minutes=540), _judge("late", ("US", "FR"), minutes_per_day=60)]
    arrays = day_arrays(CAME, judges, DeskRules())
    _, dual = dual_prices(arrays, 1.0, n_steps=30)
    found = prices_of_day(CAME, judges, DeskRules(), 30)

    assert list(arrays.shift_start) == [0, 540, 1440, 1980]
    assert list(arrays.shift_end) == [480, 600, 1920, 2040]
    assert len(arrays.arrival) == 2 * len(CAME)
    assert found == pytest.approx([dual[2, 24:32].mean(), dual[3, 33]])


def test_time_that_many_ads_compete_for_costs_more() -> None:
    """Both are alike; one has a market of its own in which three ads come, the other one in which forty come."""
    busy, quiet = _judge("busy", ("US",)), _judge("quiet", ("FR",))
    came = [IncomingAd(540 + k, "US", 20.0, 0, 1.0) for k in range(40)] + [
        IncomingAd(700 + k, "FR", 20.0, 0, 1.0) for k in range(3)
    ]
    price = prices_of_day(came, [busy, quiet], DeskRules(), 100)

    assert price[0] > 5 * price[1]


def test_what_comes_in_the_evening_is_work_for_the_next_day_and_what_waits_comes_once() -> None:
    judge = _judge("day", ("US",))
    evening = [IncomingAd(1200 + k, "US", 20.0, 0, 1.0) for k in range(40)]
    waiting = [IncomingAd(-1, "US", 20.0, 0, 1.0)]

    assert prices_of_day(evening, [judge], DeskRules(), 100)[0] > 0
    assert list(day_arrays([*waiting, *evening], [judge], DeskRules()).arrival[[0, 1, 41]]) == [0, 1200, 2640]


def test_new_prices_are_kept_with_the_people_and_change_what_is_given_next(
    floor: Any, clock: ManualClock, make_desk: Callable[..., Any]
) -> None:
    mod = floor.person("mod")
    floor.person("other")
    floor.ad("long", revenue_micros=40_000_000, work_milli=3_000)
    floor.ad("short", revenue_micros=12_000_000, work_milli=500)
    for k in range(30):
        floor.ad(f"c{k}", revenue_micros=10_000_000 + k)
    clock.advance_ms(60 * MINUTE_MS)
    with pytest.raises(NotPermittedError):
        price_moderators(floor.desk, floor.auditor)
    found = price_moderators(floor.desk, floor.lead, days=2, n_steps=40)
    with floor.desk.reading() as tx:
        kept = find_person(tx, "mod")
    put_person(floor.desk, floor.lead, replace(mod, markets=("US", "FR")))
    with floor.desk.reading() as tx:
        changed = find_person(tx, "mod")

    assert (found.n_ads, found.n_days) == (32, 1)
    assert set(found.price_micros) == {"lead", "mod", "other"}
    assert kept.price_micros == found.price_micros["mod"] > 0
    assert (changed.price_micros, changed.markets) == (kept.price_micros, ("US", "FR"))
    assert isinstance(claim_next(floor.desk, mod), Claim)


def test_decided_ads_of_the_last_days_count_and_older_ones_only_while_they_wait(floor: Any, clock: ManualClock) -> None:
    mod = floor.person("mod")
    for k in range(3):
        floor.ad(f"old{k}")
    claim = floor.claim(mod)
    decide(floor.desk, mod, claim.ad.ad_id, claim.token, Judgement())
    clock.advance_ms(3 * DAY_MS)
    floor.ad("new")

    assert price_moderators(floor.desk, None, days=1, n_steps=5).n_ads == 3
    assert price_moderators(floor.desk, None, days=4, n_steps=5).n_ads == 4


def test_ads_that_came_while_the_clock_was_days_ahead_are_priced_today(floor: Any) -> None:
    floor.person("mod")
    floor.ad("ahead")
    with floor.desk.writing() as tx:
        tx.conn.execute(sa.update(ads).values(queued_at_ms=ads.c.queued_at_ms + 3 * DAY_MS))

    assert price_moderators(floor.desk, None, days=1, n_steps=5).n_ads == 1


def test_there_are_no_prices_without_ads(floor: Any) -> None:
    with pytest.raises(NothingToPriceError):
        price_moderators(floor.desk, None)


@pytest.mark.slow
def test_the_command_prints_prices_and_the_server_renews_them_in_a_process_of_its_own(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/queue.db"

    def call(*arguments: str) -> str:
        done = CliRunner().invoke(queue, [*arguments, "--database", url])
        assert done.exception is None, done.exception
        return done.stdout

    call("migrate")
    call("person", "ann", "--role", "lead", "--market", "US", "--minutes-per-day", "240")
    desk = Desk(open_engine(url))
    with desk.reading() as tx:
        ann = find_person(tx, "ann")
    for k in range(30):
        submit(
            desk,
            ann,
            Submission(
                buyer=BuyerId("shop.example"),
                creative_id=f"c{k}",
                title="Shoes",
                text="",
                render_url="https://shop.example/",
                market="US",
                countries=("US",),
                product_line="auction",
                value_per_click_micros=1,
                currency="USD",
                revenue_micros=20_000_000,
            ),
        )
    found = json.loads(call("price", "--json", "--steps", "20"))
    stop = threading.Event()
    renewing = threading.Thread(target=_price_until, args=(url, stop, 0))
    renewing.start()
    for _ in range(1_200):
        with desk.reading() as tx:
            n_priced = sum(entry.kind == PRICE for entry in event_log.entries(tx))
        if n_priced > 1 or stop.wait(0.05):
            break
    stop.set()
    renewing.join(60)
    desk.engine.dispose()

    assert (found["n_ads"], set(found["price_micros"])) == (30, {"ann"})
    assert found["price_micros"]["ann"] > 0
    assert n_priced > 1
