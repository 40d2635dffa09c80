"""`adyton egress curve --wins`: from what a collector wrote to a curve."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from adyton.auction.collector import ReportStore, parse_report
from adyton.cli.egress_curve import curve
from adyton.kernel.clock import SystemClock
from adyton.kernel.errors import BadInputError
from adyton.protocol.egress_schema import EgressPayload, EgressSchema
from adyton.protocol.egress_wire import encode_payload, to_base64

SCHEMA = {
    "cddl_version": "1.0.0",
    "version": 1,
    "features": [
        {"name": "unsigned-integer-feature", "size": 3},
        {"name": "signed-integer-feature", "size": 2},
        {"name": "bucket-feature", "size": 2},
    ],
}
N = 1500


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,500 wins whose clicks depend on the first feature alone, kept by the collector's own store."""
    folder = tmp_path_factory.mktemp("live")
    (folder / "schema.json").write_text(json.dumps(SCHEMA))
    schema = EgressSchema.parse(SCHEMA)
    rng = np.random.default_rng(0)
    store = ReportStore(folder / "reports", SystemClock())
    for request in range(N):
        strong, weak = int(rng.integers(0, 8)), int(rng.integers(-2, 2))
        payload = EgressPayload((strong, weak, (bool(rng.integers(2)), False)))
        egress = to_base64(encode_payload(schema, payload)) if request else "not a payload"
        parts = {"request": request, "render": f"https://ads.example/{request % 3}", "bid": 0.5, "egress": egress}
        queries = {"win": urlencode(parts)}
        if rng.random() < 1 / (1 + np.exp(-(strong - 3.5))):
            queries["click"] = f"request={request}"
        for kind, query in queries.items():
            report = parse_report(kind, query, received_at_ms=1000 + request)
            assert report is not None
            assert store.add(report)
    assert store.flush() > N
    return folder


def test_a_collectors_reports_become_a_curve(collected: Path) -> None:
    arguments = ["--wins", str(collected / "reports"), "--payload-schema", str(collected / "schema.json")]
    result = CliRunner().invoke(curve, [*arguments, "--sizes", "3,7", "--json"])

    assert result.exit_code == 0, result.output
    assert "1 reports without a payload of this schema" in result.stderr
    measured = json.loads(result.stdout)
    assert measured["baseline"]["bits"] == 7
    assert measured["utilities"][0]["name"] == "feature0"
    assert measured["points"][0]["features"] == ["feature0"]
    assert measured["points"][0]["lift_share"] > 0.8


def test_reports_without_a_request_are_not_taken_for_one(collected: Path) -> None:
    (wins,) = (collected / "reports").glob("win-*.parquet")
    table = pq.read_table(wins)
    requests = [None if number < 40 else request for number, request in enumerate(table["request"].to_pylist())]
    place = table.column_names.index("request")
    folder = collected / "nameless"
    folder.mkdir()
    pq.write_table(table.set_column(place, "request", pa.array(requests, pa.string())), folder / wins.name)
    for clicks in (collected / "reports").glob("click-*.parquet"):
        (folder / clicks.name).write_bytes(clicks.read_bytes())

    arguments = ["--wins", str(folder), "--payload-schema", str(collected / "schema.json"), "--sizes", "3"]

    assert "adyton egress: 40 reports without" in CliRunner().invoke(curve, arguments).stderr


@pytest.mark.parametrize("wrong", ["no folder", "no schema", "missing parameter"])
def test_what_is_no_collectors_folder_is_refused(collected: Path, tmp_path: Path, wrong: str) -> None:
    folder = tmp_path if wrong == "no folder" else collected / "reports"
    arguments = ["--wins", str(folder), "--payload-schema", str(collected / "schema.json"), "--sizes", "3"]
    if wrong == "no schema":
        assert CliRunner().invoke(curve, arguments[:2]).exit_code == 2
        return
    free = ["--free", "campaign"] if wrong == "missing parameter" else []

    assert isinstance(CliRunner().invoke(curve, [*arguments, *free]).exception, BadInputError)
