"""A new day's sealed tables are joined to what is kept of the days before; old tables are not there any more."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pyarrow.parquet as pq
import pytest

from adyton.cleanroom.aggregate_request import AggregateRequest
from adyton.cleanroom.contract import Output, Template
from adyton.cleanroom.errors import LedgerRollbackError, SealBrokenError, StateRefusedError
from adyton.cleanroom.ledger_store import FileCounter, LedgerStore
from adyton.cleanroom.receipt import Receipt, verify_receipt
from adyton.cleanroom.run import RunResult, open_output
from adyton.kernel.errors import BadInputError
from adyton.kernel.ledger import Account, PrivacyLoss

DAY_MS = 86_400_000
QUERY = AggregateRequest(
    "by_segment",
    "SELECT publisher_segment AS segment, COUNT(*) AS n, COUNT(DISTINCT user_id) AS users FROM joined "
    "WHERE publisher_rows > 3 GROUP BY 1",
    PrivacyLoss.of(10**9, "1e-9"),
    max_rows_per_group=50,
)
RULES = {
    "appends": True,
    "query_columns": frozenset({"segment", "hour"}),
    "budget": PrivacyLoss.of(10**10, "1e-3"),
}


def rows_of(room: Any, result: RunResult) -> Any:
    box = result.box(Output.AGGREGATE, "advertiser")
    return json.loads(open_output(box, room.parties["advertiser"]))["queries"][0]["rows"]


def test_two_runs_over_two_days_know_what_one_run_over_both_knows(
    make_room: Callable[..., Any], later_impressions: Callable[[str, int], Any]
) -> None:
    room = make_room(**RULES)
    second = {name: later_impressions(name, 1) for name in ("publisher", "advertiser")}

    def job(name: str, **more: Any) -> Any:
        return room.job(name, Template.AGGREGATE, Template.JOIN_STATISTICS, queries=(QUERY,), **more)

    first = room.run(job("day-1", incremental=True))
    appended = {f"{name}-log@v2": room.append(name, table, version=2) for name, table in second.items()}
    everything = room.run(job("both"), inputs={**room.inputs(), **appended})
    for sealed, _ in room.inputs().values():
        sealed.unlink()

    result = room.run(job("day-2", incremental=True), inputs=appended)

    # Queries see the new rows of the base with all that is known of their users; the twin counts by hand.
    assert rows_of(room, result) == by_hand(room, second)
    assert rows_of(room, result) != rows_of(room, everything)
    statistics = [
        json.loads(open_output(one.box(Output.JOIN_STATISTICS, "publisher"), room.parties["publisher"]))
        for one in (first, result, everything)
    ]
    assert statistics[1] == statistics[2]
    assert statistics[0]["rows_base"] < statistics[1]["rows_base"]
    assert verify_receipt(result.receipt, room.signed.contract).holds
    assert result.receipt.body["state"]["sequence"] == 2
    assert {i["dataset_id"] for i in result.receipt.body["inputs"]} == set(appended)
    assert not any(b"person-0002" in path.read_bytes() for path in room.folder.rglob("*") if path.is_file())
    store = LedgerStore(room.folder / "ledger" / "ledger.sqlite", FileCounter(room.folder / "counter" / "counter.json"))
    assert store.ledger({}).spent(Account("publisher", "users")) == PrivacyLoss.of(3 * 10**9, "3e-9")
    forged = {**result.receipt.body, "inputs": [dict(i, rows=1) for i in result.receipt.body["inputs"]]}
    verdict = verify_receipt(Receipt(forged, result.receipt.signature), room.signed.contract)
    assert {"inputs", "signature"} <= {check.name for check in verdict.checks if not check.passed}


def by_hand(room: Any, second: dict[str, Any]) -> list[list[Any]]:
    """The query in plain Python over the raw rows."""
    known: dict[str, list[tuple[int, int]]] = {}
    for table in (room.tables["publisher"], second["publisher"]):
        for user, time, segment in zip(*(table[c].to_pylist() for c in ("user_id", "time_ms", "segment")), strict=True):
            known.setdefault(user, []).append((time, segment))
    rows: Counter[int] = Counter()
    users: dict[int, set[str]] = {}
    for user in second["advertiser"]["user_id"].to_pylist():
        if len(known.get(user, ())) > 3:
            segment = max(known[user])[1]
            rows[segment] += 1
            users.setdefault(segment, set()).add(user)
    return [[segment, rows[segment], len(users[segment])] for segment in sorted(rows)]


def test_an_older_changed_or_foreign_state_is_refused(
    make_room: Callable[..., Any], later_impressions: Callable[[str, int], Any]
) -> None:
    room = make_room(**RULES)

    def job(name: str) -> Any:
        return room.job(name, Template.JOIN_STATISTICS, incremental=True)

    room.run(job("one"))
    [old] = (room.folder / "ledger").glob("*.state")
    kept, books = old.read_bytes(), {p: p.read_bytes() for p in (room.folder / "ledger").iterdir()}
    day_2 = {"advertiser-log@v2": room.append("advertiser", later_impressions("advertiser", 1), version=2)}
    room.run(job("two"), inputs=day_2)
    [new] = (room.folder / "ledger").glob("*.state")
    day_3 = {"advertiser-log@v3": room.append("advertiser", later_impressions("advertiser", 2), version=3)}
    now = new.read_bytes()

    new.write_bytes(kept)
    with pytest.raises(StateRefusedError, match="not the state that the ledger names"):
        room.run(job("older"), inputs=day_3)
    new.write_bytes(now[:-1] + bytes([now[-1] ^ 1]))
    with pytest.raises(StateRefusedError):
        room.run(job("changed"), inputs=day_3)
    new.unlink()
    with pytest.raises(StateRefusedError, match="not there"):
        room.run(job("gone"), inputs=day_3)
    new.write_bytes(now)
    with pytest.raises(BadInputError, match="no version of the base"):
        room.run(job("again"), inputs=day_2)
    day_4 = {"advertiser-log@v4": room.append("advertiser", later_impressions("advertiser", 3), version=4)}
    with pytest.raises(BadInputError, match="version 3 is missing"):
        room.run(job("gap"), inputs=day_4)
    other = make_room(**RULES)
    foreign = {"advertiser-log@v3": other.append("advertiser", later_impressions("advertiser", 1), version=3)}
    with pytest.raises(SealBrokenError, match="not signed by its owner"):
        room.run(job("foreign"), inputs=foreign)
    room.run(job("right"), inputs=day_3)
    for path, content in books.items():
        path.write_bytes(content)
    with pytest.raises(LedgerRollbackError):
        room.run(job("rolled-back"), inputs=day_3)


def test_a_contract_that_does_not_say_so_gets_no_later_version(
    make_room: Callable[..., Any], later_impressions: Callable[[str, int], Any]
) -> None:
    room = make_room()
    day_2 = {"advertiser-log@v2": room.append("advertiser", later_impressions("advertiser", 1), version=2)}
    with pytest.raises(SealBrokenError, match="does not cover"):
        room.run(room.job("more", Template.JOIN_STATISTICS), inputs={**room.inputs(), **day_2})


@pytest.mark.slow
def test_models_of_the_second_run_are_trained_on_all_days(
    make_room: Callable[..., Any], later_impressions: Callable[[str, int], Any]
) -> None:
    room = make_room(**RULES)
    second = {name: later_impressions(name, 1) for name in ("publisher", "advertiser")}

    def job(name: str, **more: Any) -> Any:
        return room.job(name, Template.TRAIN, Template.SCORE, **more)

    room.run(job("day-1", incremental=True))
    appended = {f"{name}-log@v2": room.append(name, table, version=2) for name, table in second.items()}
    later = {"validation_from_ms": 10 * DAY_MS, "test_from_ms": 15 * DAY_MS}
    whole = room.run(job("whole", **later), inputs={**room.inputs(), **appended})
    result = room.run(job("day-2", incremental=True, **later), inputs=appended)

    tables = []
    for one in (whole, result):
        content = open_output(one.box(Output.PREDICTIONS, "advertiser"), room.parties["advertiser"])
        tables.append(pq.read_table(io.BytesIO(content)))
    assert tables[0]["row"].equals(tables[1]["row"])
    assert tables[0]["with_partner"].to_pylist() == pytest.approx(tables[1]["with_partner"].to_pylist(), abs=1e-4)
