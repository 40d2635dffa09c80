"""Measure the live queue: what a claim costs while more and more ads wait, and how many moderators one server feeds.

    python bench/review_queue.py [--waiting 100,1000,10000,100000] [--moderators 100] [--markets 20]
    python bench/review_queue.py --database postgresql://USER@HOST/EMPTY_DATABASE --waiting 10000

Prints milliseconds of this process's CPU time and of wall time for one claim and one decision, and the first claim of a
fresh process apart. PostgreSQL's own CPU time is not in the CPU column. Makes and fills the database, so give an empty
one; without `--database` each line uses a new SQLite file.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import sqlalchemy as sa

from adyton.kernel.chance import stream
from adyton.kernel.ids import AdId, BuyerId
from adyton.review.queue.claiming import Claim, claim_next
from adyton.review.queue.deciding import decide
from adyton.review.queue.desk import Desk, open_engine
from adyton.review.queue.intake import new_file
from adyton.review.queue.people import put_person
from adyton.review.queue.permissions import Role
from adyton.review.queue.records import AdFile, Judgement, Person, PersonId, Submission
from adyton.review.queue.schema import migrate
from adyton.review.queue.tables import ads

T = TypeVar("T")
_COLUMNS = tuple(AdFile.__dataclass_fields__)


def fill(desk: Desk, n_ads: int, n_moderators: int, n_markets: int) -> list[Person]:
    """Puts waiting ads and moderators into an empty database; gives back the moderators."""
    rng = stream(1, "queue bench")
    markets = [f"M{k}" for k in range(n_markets)]
    people = [
        Person(
            PersonId(f"mod{k}"),
            Role.MODERATOR,
            markets=tuple(rng.choice(markets, size=rng.integers(1, min(n_markets, 4) + 1), replace=False)),
            accuracy_ppm=int(rng.integers(600_000, 990_000)),
            pace_milli=int(rng.integers(10_000, 60_000)),
            price_micros=int(rng.integers(0, 50_000)),
        )
        for k in range(n_moderators)
    ]
    for person in people:
        put_person(desk, None, person)
    revenue = rng.lognormal(1.0, 2.0, n_ads)
    with desk.writing() as tx:
        rows = []
        for k in range(n_ads):
            submission = Submission(
                buyer=BuyerId("shop.example"),
                creative_id=f"c{k}",
                title="Shoes",
                text="Good shoes",
                render_url="https://shop.example/",
                market=markets[k % n_markets],
                countries=(markets[k % n_markets],),
                product_line="auction",
                value_per_click_micros=1,
                currency="USD",
                revenue_micros=int(revenue[k] * 1e6),
                punish_num=0,
                work_milli=int(rng.integers(500, 3_000)),
            )
            ad = replace(new_file(tx, submission, PersonId("bench")), ad_id=AdId(f"ad-{k:08d}"))
            rows.append({name: getattr(ad, name) for name in _COLUMNS})
            if len(rows) == 2_000 or k + 1 == n_ads:
                tx.conn.execute(sa.insert(ads), rows)
                rows = []
    return people


def timed(work: Callable[[], T], into: list[tuple[float, float]]) -> T:
    """What `work` gives; its CPU and wall milliseconds are appended to `into`."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = work()
    into.append(((time.process_time() - cpu) * 1e3, (time.perf_counter() - wall) * 1e3))
    return result


def measure(url: str, n_ads: int, n_moderators: int, n_markets: int, n_claims: int) -> None:
    """One line: milliseconds of CPU and wall time for one step."""
    maker = Desk(open_engine(url))
    migrate(maker)
    people = fill(maker, n_ads, n_moderators, n_markets)
    maker.engine.dispose()
    desk = Desk(open_engine(url))  # a fresh desk remembers nothing
    first: list[tuple[float, float]] = []
    claims: list[tuple[float, float]] = []
    decisions: list[tuple[float, float]] = []
    held = timed(lambda: claim_next(desk, people[0]), first)
    for k in range(n_claims):
        person = people[(k + 1) % len(people)]
        held = timed(lambda: claim_next(desk, person), claims)  # noqa: B023 - called at once
        assert isinstance(held, Claim), "an ad waits for everybody"
        ad_id, token = held.ad.ad_id, held.token
        timed(lambda: decide(desk, person, ad_id, token, Judgement()), decisions)  # noqa: B023 - called at once
    desk.engine.dispose()
    parts = [f"{n_ads:>8,} waiting", f"first claim {first[0][0]:8.1f} CPU"]
    for name, found in (("claim", claims), ("decide", decisions)):
        cpu, wall = np.median(np.array(found), axis=0)
        parts.append(f"{name} {cpu:7.2f} CPU {wall:7.2f} wall")
    print("   ".join(parts) + "   (ms, median)", flush=True)


def main() -> None:
    """Reads the command line and prints a line for each number of waiting ads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waiting", default="100,1000,10000,100000")
    parser.add_argument("--moderators", type=int, default=100)
    parser.add_argument("--markets", type=int, default=20, help="1: every ad is for every moderator")
    parser.add_argument("--claims", type=int, default=60)
    parser.add_argument("--database", default="")
    arguments = parser.parse_args()
    for count in map(int, arguments.waiting.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            url = arguments.database or f"sqlite:///{Path(folder) / 'queue.db'}"
            measure(url, count, arguments.moderators, arguments.markets, min(arguments.claims, count // 2))


if __name__ == "__main__":
    main()
