"""The synthesize template with real enclaves: what the receipt promises for users, and what is refused at no cost."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pyarrow.parquet as pq
import pytest

from adyton.cleanroom.contract import Output, Template
from adyton.cleanroom.job import PrivateTraining, SynthesizeRequest
from adyton.cleanroom.ledger_store import FileCounter, LedgerStore
from adyton.cleanroom.outputs import read_synthetic
from adyton.cleanroom.receipt import verify_receipt
from adyton.cleanroom.run import open_output
from adyton.kernel.errors import BadInputError
from adyton.kernel.ledger import Account, Ledger, PrivacyLoss
from adyton.learning.errors import FeatureError

STRICT: dict[str, Any] = {"budget": PrivacyLoss.of(8, "1e-5"), "k": 5, "without_guarantee": frozenset()}
"""Owners who let nothing leave without a guarantee."""


def synthetic(room: Any, job_id: str, *columns: str, **changes: Any) -> Any:
    request = SynthesizeRequest(PrivacyLoss.of(6, "1e-6"), 2_000, columns)
    return room.job(job_id, Template.SYNTHESIZE, synthesize=request, **changes)


def ledger_of(room: Any) -> Ledger:
    store = LedgerStore(room.folder / "ledger" / "ledger.sqlite", FileCounter(room.folder / "counter" / "counter.json"))
    return store.ledger({})


def test_a_synthetic_table_leaves_where_nothing_else_may_and_the_receipt_says_for_whom(
    make_room: Callable[..., Any],
) -> None:
    """No row is in the test period: nothing but the columns asked for decides whether the job runs."""
    room = make_room(**STRICT)
    columns = ("segment", "publisher_segment", "own_user_impressions", "publisher_user_label_mean")
    result = room.run(synthetic(room, "table", *columns, test_from_ms=10**12))
    record = read_synthetic(open_output(result.box(Output.SYNTHETIC_TABLE, "advertiser"), room.parties["advertiser"]))
    table = pq.read_table(io.BytesIO(record.table_parquet))
    entries = [
        (e["owner"], e["purpose"], e["epsilon"], e["delta"], e["unit"], e["noise_is_secure"])
        for e in result.receipt.body["ledger"]
    ]

    assert entries == [(who, "synthetic_table", "6", "1/1000000", "user", True) for who in ("advertiser", "publisher")]
    assert all("zCDP" in e["accountant"] for e in result.receipt.body["ledger"])
    assert (record.guarantee, record.unit, record.noise_is_secure) == (PrivacyLoss.of(6, "1e-6"), "user", True)
    assert "unit user (at most 4 rows per user), add or remove one" in record.accountant
    assert set(table.column_names) == {"user_id", "label", *columns}
    assert set(table["publisher_segment"].to_pylist()) <= {0, 1, 2, 3, None}
    assert all(c["passed"] for c in result.receipt.body["gate"])
    boxes = {one.path.name: one.path.read_bytes() for one in result.outputs}
    assert verify_receipt(result.receipt, room.signed.contract, boxes).holds
    assert ledger_of(room).spent(Account("publisher", "users")) == PrivacyLoss.of(6, "1e-6")


def test_what_other_users_move_is_refused_by_name_before_anything_is_reserved(make_room: Callable[..., Any]) -> None:
    room = make_room(**STRICT)
    with pytest.raises(FeatureError, match="synthesize: publisher_item_label_mean: counted over items"):
        room.run(synthetic(room, "crowd", "segment", "publisher_item_label_mean"))
    with pytest.raises(BadInputError, match="unknown columns: town"):
        room.run(synthetic(room, "unknown", "segment", "town"))
    training = PrivateTraining(PrivacyLoss.of(2, "1e-6"))
    with pytest.raises(FeatureError, match="private_training: own_item_impressions: counted over items"):
        room.run(room.job("model", Template.TRAIN, private_training=training, features=("own_item_impressions",)))

    assert not ledger_of(room).reservations
    assert not list(room.folder.glob("out-*"))
