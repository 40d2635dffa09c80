"""Many moderators at once: no ad is held twice, "empty" is never said too early, nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from adyton.kernel.chance import OsRandom
from adyton.kernel.clock import ManualClock, SystemClock
from adyton.review.queue import ad_store
from adyton.review.queue.claiming import Claim, NothingWaits, _claim_best, claim_next
from adyton.review.queue.clocks import DeskRules
from adyton.review.queue.deciding import decide
from adyton.review.queue.desk import Desk, open_engine
from adyton.review.queue.desk_views import verify_events
from adyton.review.queue.records import Judgement, Person
from adyton.review.queue.states import ReviewState
from adyton.review.queue.tables import ads, chain_head, events


@pytest.fixture
def crowd(make_floor: Callable[..., Any], database_url: str, clock: ManualClock) -> Any:
    """A floor and a desk on the same database with a connection for each of many moderators."""

    class Crowd:
        def __init__(self, size: int, n_ads: int) -> None:
            self.floor = make_floor()
            engine = open_engine(database_url, connections=size, busy_seconds=120)
            self.desk = Desk(engine, DeskRules(busy_seconds=120), clock, OsRandom())
            self.people = [self.floor.person(f"m{k}") for k in range(size)]
            self.ads = [self.floor.ad(f"c{k}") for k in range(n_ads)]

        def at_once(self, work: Callable[[Person], Any]) -> list[Any]:
            barrier = threading.Barrier(len(self.people))

            def run(person: Person) -> Any:
                barrier.wait()
                return work(person)

            with ThreadPoolExecutor(len(self.people)) as pool:
                return list(pool.map(run, self.people))

    made: list[Crowd] = []

    def make(size: int, n_ads: int) -> Crowd:
        made.append(Crowd(size, n_ads))
        return made[-1]

    yield make
    for one in made:
        one.desk.engine.dispose()


@pytest.mark.parametrize(
    "size", [12, pytest.param(100, marks=pytest.mark.slow)], ids=["12 moderators", "100 moderators"]
)
def test_as_many_moderators_as_ads_get_one_each(crowd: Any, size: int) -> None:
    here = crowd(size, size)
    found = here.at_once(lambda person: claim_next(here.desk, person))
    held = [one.ad.ad_id for one in found if isinstance(one, Claim)]

    assert sorted(held) == sorted(ad.ad_id for ad in here.ads)
    verify_events(here.desk, None)


@pytest.mark.parametrize("size", [8, pytest.param(100, marks=pytest.mark.slow)], ids=["8 moderators", "100 moderators"])
def test_moderators_who_work_until_it_is_empty_decide_every_ad_once(crowd: Any, size: int) -> None:
    here = crowd(size, 3 * size)

    def work(person: Person) -> int:
        n_done = 0
        while isinstance(claim := claim_next(here.desk, person), Claim):
            decide(here.desk, person, claim.ad.ad_id, claim.token, Judgement())
            n_done += 1
        return n_done

    done = here.at_once(work)
    with here.desk.reading() as tx:
        states = Counter(tx.conn.execute(sa.select(ads.c.state)).scalars())

    assert sum(done) == 3 * size
    assert states == {ReviewState.DECIDED: 3 * size}
    # submit, claim, decide: nothing was claimed twice, nothing was lost.
    n_events, _ = verify_events(here.desk, None)
    setup = 5 + size
    assert n_events == setup + 3 * 3 * size


def test_clicks_of_one_person_at_once_get_one_ad(crowd: Any) -> None:
    here = crowd(6, 6)
    tokens = here.at_once(lambda person: claim_next(here.desk, here.people[0]).token)

    assert len(set(tokens)) == 1


def test_a_claimer_waits_for_a_locked_ad_instead_of_saying_empty(
    make_desk: Callable[..., Desk], make_floor: Callable[..., Any], database_url: str
) -> None:
    """The only ad is locked by a transaction that then gives it back: the answer is the ad, not "empty"."""
    floor = make_floor()
    ad = floor.ad()
    mod = floor.person("mod")
    other = make_desk(seed=2)
    found: list[Any] = []
    waiter = threading.Thread(target=lambda: found.append(claim_next(other, mod)))
    with pytest.raises(ZeroDivisionError), floor.desk.writing() as tx:
        ad_store.find_ad(tx, ad.ad_id, is_locked=True)
        waiter.start()
        time.sleep(0.5)
        assert found == []
        raise ZeroDivisionError
    waiter.join(30)

    assert found[0].ad.ad_id == ad.ad_id


def test_a_claimer_says_empty_when_the_locked_ad_was_taken(
    make_desk: Callable[..., Desk], make_floor: Callable[..., Any]
) -> None:
    floor = make_floor()
    floor.ad()
    one, two = floor.person("one"), floor.person("two")
    other = make_desk(seed=2)
    found: list[Any] = []
    waiter = threading.Thread(target=lambda: found.append(claim_next(other, two)))
    with floor.desk.writing() as tx:
        _claim_best(tx, one, 60)
        waiter.start()
        time.sleep(0.5)
    waiter.join(30)

    assert isinstance(found[0], NothingWaits)


def test_a_restored_copy_of_the_database_is_noticed(make_floor: Callable[..., Any]) -> None:
    """What is kept in memory belongs to another history than the one that now goes on."""
    floor = make_floor()
    one, two = floor.person("one"), floor.person("two")
    kept = floor.ad("kept")
    taken = floor.claim(one)
    with floor.desk.engine.begin() as conn:
        # As if the copy had been made before the claim and somebody had gone on from it.
        conn.execute(sa.update(ads).values(state=ReviewState.QUEUED, claim_holder=None, claim_token=None))
        conn.execute(sa.update(chain_head).values(entry_hash="f" * 64))
    floor.desk.book.entry_hash = "e" * 64

    assert floor.claim(two).ad.ad_id == kept.ad_id == taken.ad.ad_id


_CLIENT = """
import sys
from adyton.review.queue.clocks import DeskRules
from adyton.review.queue.desk import Desk, open_engine
from adyton.review.queue import claiming
from adyton.review.queue.people import find_person
desk = Desk(open_engine(sys.argv[1], connections=1), DeskRules(claim_minutes=1))
with desk.writing() as tx:
    person = find_person(tx, sys.argv[2], is_locked=True)
    if sys.argv[3] == "inside":
        claiming._claim_best(tx, person, 60)
        print("ready", flush=True)
        sys.stdin.read()
if sys.argv[3] == "after":
    claiming.claim_next(desk, person)
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["inside", "after"])
def test_a_killed_client_loses_nothing(
    make_floor: Callable[..., Any], make_desk: Callable[..., Desk], database_url: str, moment: str
) -> None:
    """Killed inside the claim's transaction: the ad is free at once. Killed after it: when the lock ends."""
    started_ms = SystemClock().now_ms()
    clock = ManualClock(started_ms)
    floor = make_floor(clock=clock)
    for k in range(5):
        floor.ad(f"c{k}")
    victims = [floor.person(f"victim{k}") for k in range(3)]
    heir = floor.person("heir")
    # One after another: inside a claim a client holds the head of the event chain.
    for victim in victims:
        client = subprocess.Popen(
            [sys.executable, "-c", _CLIENT, database_url, victim.person_id, moment],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert client.stdout is not None
        assert client.stdin is not None
        assert client.stdout.readline() == "ready\n"
        os.kill(client.pid, signal.SIGKILL)
        client.wait(30)
        client.stdout.close()
        client.stdin.close()
    if moment == "after":
        clock.advance_ms(SystemClock().now_ms() - started_ms + 61_000)
    n_done = 0
    while isinstance(claim := claim_next(floor.desk, heir), Claim):
        decide(floor.desk, heir, claim.ad.ad_id, claim.token, Judgement())
        n_done += 1

    assert n_done == 5
    verify_events(floor.desk, None)


_OFFICE = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from adyton.review.queue.claiming import Claim, claim_next
from adyton.review.queue.clocks import DeskRules
from adyton.review.queue.deciding import decide
from adyton.review.queue.desk import Desk, open_engine
from adyton.review.queue.people import find_person
from adyton.review.queue.records import Judgement
names = sys.argv[2].split(",")
engine = open_engine(sys.argv[1], connections=len(names), busy_seconds=120)
desk = Desk(engine, DeskRules(busy_seconds=120, claim_minutes=1))
with desk.reading() as tx:
    people = [find_person(tx, name) for name in names]
print("ready", flush=True)
sys.stdin.readline()
def work(person):
    n_done = 0
    while isinstance(claim := claim_next(desk, person), Claim):
        decide(desk, person, claim.ad.ad_id, claim.token, Judgement())
        n_done += 1
        if n_done == 2:
            print("two", flush=True)
    return n_done
with ThreadPoolExecutor(len(people)) as pool:
    print(sum(pool.map(work, people)), flush=True)
"""


@pytest.mark.slow
def test_four_processes_of_25_moderators_one_of_them_killed_decide_every_ad_once(
    make_floor: Callable[..., Any], database_url: str
) -> None:
    """Each process keeps what waits in a memory of its own; none may say "empty" while an ad waits for it."""
    started_ms = SystemClock().now_ms()
    clock = ManualClock(started_ms)
    floor = make_floor(clock=clock)
    made = [floor.ad(f"c{k}") for k in range(240)]
    offices = []
    for office in range(4):
        names = [floor.person(f"m{office}-{k}").person_id for k in range(25)]
        offices.append(
            subprocess.Popen(
                [sys.executable, "-c", _OFFICE, database_url, ",".join(names)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
    for process in offices:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "ready\n"
    for process in offices:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    victim, *others = offices
    assert victim.stdout is not None
    assert victim.stdout.readline() == "two\n"
    os.kill(victim.pid, signal.SIGKILL)
    said = [process.communicate(timeout=250)[0] for process in others]
    victim.communicate(timeout=30)
    with floor.desk.reading() as tx:
        left = Counter(tx.conn.execute(sa.select(ads.c.state).where(ads.c.state != ReviewState.DECIDED)).scalars())
    clock.advance_ms(SystemClock().now_ms() - started_ms + 61_000)
    heir, n_inherited = floor.person("heir"), 0
    while isinstance(claim := claim_next(floor.desk, heir), Claim):
        decide(floor.desk, heir, claim.ad.ad_id, claim.token, Judgement())
        n_inherited += 1
    with floor.desk.reading() as tx:
        decisions = Counter(tx.conn.execute(sa.select(events.c.ad_id).where(events.c.kind == "decide")).scalars())

    assert [process.returncode for process in offices] == [-signal.SIGKILL, 0, 0, 0]
    # Whoever stopped had heard "empty"; nothing but what the killed office held was left then.
    assert set(left) <= {ReviewState.CLAIMED}
    assert n_inherited == sum(left.values()) <= 25
    assert decisions == {ad.ad_id: 1 for ad in made}
    assert sum(int(text.split()[-1]) for text in said) <= 240
    verify_events(floor.desk, None)
