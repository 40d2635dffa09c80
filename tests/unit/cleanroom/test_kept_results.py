"""What a run hands out is kept whole or not at all, whatever an earlier, killed run left lying about."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from adyton.cleanroom.errors import EnclaveProtocolError, SealWriteError
from adyton.cleanroom.receipt import RECEIPT_FORMAT, Receipt
from adyton.cleanroom.run import check_out_dir, keep_result
from adyton.kernel.errors import BadInputError

RECEIPT = Receipt({"format": RECEIPT_FORMAT}, bytes(64)).as_json()


def event(**changed: Any) -> dict[str, Any]:
    box = {
        "output": "aggregate",
        "recipient": "ada",
        "file": "aggregate.ada.box",
        "box": base64.b64encode(b"x").decode(),
    }
    return {"event": "result", "receipt": RECEIPT, "outputs": [box, {**box, **changed}]}


def test_leftovers_of_a_killed_run_are_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.0123456789ab.partial").mkdir()

    keep_result(event(file="second.box"), tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"aggregate.ada.box", "second.box", "receipt.json"}
    assert json.loads((tmp_path / "out" / "receipt.json").read_text()) == RECEIPT


@pytest.mark.parametrize(
    "changed", [{"file": "../escaped.box"}, {"file": "/escaped.box"}, {"box": "?"}, {"output": "rows"}, {"box": None}]
)
def test_a_malformed_result_leaves_nothing_behind(tmp_path: Path, changed: dict[str, Any]) -> None:
    with pytest.raises(EnclaveProtocolError):
        keep_result(event(**changed), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_said_before_anything_is_spent(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SealWriteError):
        check_out_dir(tmp_path / "file" / "out")
    with pytest.raises(BadInputError, match="exists"):
        check_out_dir(tmp_path / "file")
    check_out_dir(tmp_path / "new" / "out")
    assert not list((tmp_path / "new").iterdir())


def test_outputs_whose_place_is_taken_meanwhile_are_kept_beside_it(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "of-another-run").write_text("")
    with pytest.raises(SealWriteError) as refusal:
        keep_result(event(file="second.box"), tmp_path / "out")
    (kept,) = tmp_path.glob("out-*")
    assert {path.name for path in kept.iterdir()} == {"aggregate.ada.box", "second.box", "receipt.json"}
    assert str(kept) in str(refusal.value.hint)


def test_outputs_for_a_place_that_is_gone_are_kept_in_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "file").write_text("")
    with pytest.raises(SealWriteError, match="cannot be written") as refusal:
        keep_result(event(file="second.box"), tmp_path / "file" / "out")
    (kept,) = (tmp_path / "temporary").iterdir()
    assert len(list(kept.iterdir())) == 3
    assert str(kept) in str(refusal.value.hint)
