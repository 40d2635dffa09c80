"""The whole loop as a stranger runs it, small; then its summary is computed again from what it wrote."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from adyton.cleanroom.receipt import Receipt, verify_receipt
from adyton.cleanroom.signed_contract import load_contract
from adyton.flywheel.auction_step import marker
from adyton.flywheel.demo import JOINT_BUYER, SOLO_BUYER
from adyton.flywheel.held_out import EVENT_BITS, HeldOutUser, Population, hold_out
from adyton.flywheel.publish_step import CANDIDATES
from adyton.kernel.records import ModelArtifact
from adyton.learning.ctr.artifact import ArtifactScorer
from adyton.learning.ctr.features import Statistic
from adyton.learning.ctr.fields import FieldEncoder, Side
from adyton.learning.datasets.kuairand import tables as kuairand

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SEED, DEVICES = 3, 24
SMALL = ["--seed", str(SEED), "--devices", str(DEVICES), "--volume", "0.3"]
KEYS = {
    "review": {"allocator", "loss_a2", "bound_a2", "approved", "rejected"},
    "cleanroom": {
        "platform",
        "checks_passed",
        "rows_publisher",
        "rows_advertiser",
        "users_joined",
        "epsilon_spent",
        "auc_without_partner",
        "auc_with_partner",
        "gauc_with_partner",
        "synthetic_quality",
    },
    "auction": {"requests", "winners", "chaff", "errors", "p50_ms", "p99_ms"},
    "egress": {"payloads", "bits", "noised_expected_rate", "auc"},
}


def adyton(*arguments: str, timeout_s: float = 600) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "adyton", *arguments], capture_output=True, text=True, timeout=timeout_s, check=False
    )


@dataclass(frozen=True)
class Demo:
    """One finished run: its folder, what it would have deleted, and its summary."""

    out: Path
    kept: Path
    summary: dict[str, Any]
    stderr: str
    population: Population

    def table(self, name: str) -> pa.Table:
        return pq.read_table(self.out / name)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("demo")
    done = adyton("demo", *SMALL, "--out", str(folder / "out"), "--keep", str(folder / "kept"), "--json")
    assert done.returncode == 0, done.stderr
    population = hold_out(kuairand.publisher_table(), kuairand.advertiser_table(), users=DEVICES, seed=SEED)
    return Demo(folder / "out", folder / "kept", json.loads(done.stdout), done.stderr, population)


def test_the_summary_has_the_documented_keys_and_is_also_a_file(demo: Demo) -> None:
    assert {part: set(demo.summary[part]) for part in KEYS} == KEYS
    assert set(demo.summary) == {*KEYS, "seconds", "peak_rss_mb"}
    assert json.loads((demo.out / "summary.json").read_text()) == demo.summary


def test_progress_names_every_step_on_stderr(demo: Demo) -> None:
    for number, title in enumerate(["review", "clean room", "publish", "auction", "egress", "report"], start=1):
        assert f"{number}/6 {title}" in demo.stderr


def test_users_joined_is_the_number_of_users_in_both_tables(demo: Demo) -> None:
    room, parties = demo.summary["cleanroom"], demo.population
    both = set(parties.publisher["user_id"].to_pylist()) & set(parties.advertiser["user_id"].to_pylist())

    assert room["users_joined"] == len(both)
    assert (room["rows_publisher"], room["rows_advertiser"]) == (
        parties.publisher.num_rows,
        parties.advertiser.num_rows,
    )


def test_every_auc_can_be_computed_again_from_saved_predictions_and_the_partys_own_labels(demo: Demo) -> None:
    predictions = demo.table("predictions.parquet")
    everything = demo.population.advertiser
    own = everything.take(predictions["row"])
    # The enclave splits by time; nine rows around midnight carry the earlier day's date.
    first_test = pc.min(everything.filter(pc.greater(everything["date"], kuairand.VALIDATION_DATE))["time_ms"]).as_py()

    assert own["is_click"].to_pylist() == predictions["label"].to_pylist()
    assert own.num_rows == pc.sum(pc.greater_equal(everything["time_ms"], first_test)).as_py()
    assert pc.min(own["time_ms"]).as_py() == first_test
    for key, column in (("auc_without_partner", "without_partner"), ("auc_with_partner", "with_partner")):
        again = roc_auc_score(predictions["label"].to_numpy(), predictions[column].to_numpy())
        assert demo.summary["cleanroom"][key] == pytest.approx(again, abs=1e-9)


def test_review_counts_agree_with_the_audit_chain(demo: Demo) -> None:
    lines = [json.loads(line) for line in (demo.out / "approvals.jsonl").read_text().splitlines()]
    verdicts = [line["audit"]["body"]["verdict"] for line in lines if "audit" in line]
    hashes = {line["audit"]["entry_hash"] for line in lines if "audit" in line}
    approved = [line["approved"] for line in lines if "approved" in line]

    assert len(approved) == verdicts.count("accepted") == demo.summary["review"]["approved"]
    assert verdicts.count("rejected") == demo.summary["review"]["rejected"]
    assert {ad["decision_hash"] for ad in approved} <= hashes
    assert 0 < demo.summary["review"]["bound_a2"] <= demo.summary["review"]["loss_a2"]


def test_the_receipt_verifies_offline_and_a_changed_one_does_not(demo: Demo) -> None:
    contract = load_contract(demo.out / "contract.json").contract
    record = json.loads((demo.out / "receipt.json").read_text())
    boxes = {path.name: path.read_bytes() for path in (demo.out / "boxes").iterdir() if path.suffix != ".json"}

    assert verify_receipt(Receipt.from_json(record), contract, boxes).holds
    assert not verify_receipt(Receipt.from_json({**record, "ledger": []}), contract, boxes).holds
    swapped = dict(zip(boxes, reversed(list(boxes.values())), strict=True))
    assert not verify_receipt(Receipt.from_json(record), contract, swapped).holds


def model(demo: Demo, name: str) -> ModelArtifact:
    folder = demo.out / "models" / name
    return ModelArtifact(
        name,
        (folder / "user_tower.onnx").read_bytes(),
        (folder / "ad_vectors.parquet").read_bytes(),
        (folder / "context_vectors.parquet").read_bytes(),
        json.loads((folder / "manifest.json").read_text()),
    )


def user_record(user: HeldOutUser, manifest: Any) -> dict[str, Any]:
    """The raw user fields, computed in Python from the user's events instead of by the encoder on the device."""
    from adyton.flywheel import counters

    record: dict[str, Any] = dict(user.advertiser_profile)
    for some, events in ((counters.OWN, user.advertiser_events), (counters.PARTNER, user.publisher_events)):
        for counter in some:
            happened = [bool(e >> EVENT_BITS.index(counter.column) & 1) for e in events] if counter.column else events
            if counter.statistic is Statistic.RATE:
                value: float = (sum(happened) + counter.prior * counter.strength) / (len(events) + counter.strength)
            else:
                value = sum(happened) if counter.column else len(events)
            record[counter.name] = value
    return record


def published_ads(demo: Demo, buyer: str) -> list[dict[str, Any]]:
    path = next((demo.kept / "parties" / buyer / "ads").glob("SNAPSHOT_*"))
    return [json.loads(value) for value in pq.read_table(path)["value"].to_pylist()]


def expected_bids(demo: Demo, country_of: dict[int, str]) -> dict[str, dict[str, float]]:
    """request -> render URL -> bid, for every ad that a buyer could have bid with: the slow twin of the auction."""
    bids: dict[str, dict[str, float]] = defaultdict(dict)
    creative = {
        ad["ad_id"]: ad["creative_id"]
        for line in (demo.out / "approvals.jsonl").read_text().splitlines()
        if (ad := json.loads(line).get("approved"))
    }
    for buyer, name in ((JOINT_BUYER, "with_partner"), (SOLO_BUYER, "without_partner")):
        artifact, ads = model(demo, name), published_ads(demo, buyer)
        scorer, encoder = ArtifactScorer(artifact), FieldEncoder.from_json(artifact.manifest["fields"])  # type: ignore[arg-type]
        for user in demo.population.held_out:
            fields = encoder.encode_record(user_record(user, artifact.manifest), Side.USER)
            known = {"hour": user.moment.hour, "tab": user.moment.tab}
            names = artifact.manifest["context_id"]["fields"]  # type: ignore[index]
            context = "|".join(f"{n}={known[n]}" for n in names)
            ids = [creative[ad["ad_id"]] for ad in ads]
            logits = scorer.logits(np.tile(np.array(fields, np.int64), (len(ads), 1)), ids, [context] * len(ads))
            value = np.array([ad["value_micros"] for ad in ads]) / 1e6
            bid = value / (1 + np.exp(-logits))
            here = np.array([country_of[user.number] in ad["country"] for ad in ads])
            candidates = np.flatnonzero(here)[np.argsort(-logits[here], kind="stable")[:CANDIDATES]]
            for row in candidates:
                bids[f"{user.number}-open"][ads[row]["render_url"]] = float(bid[row])
            for row in np.flatnonzero(np.array(ids) == user.moment.creative_id):
                bids[f"{user.number}-replay"][ads[row]["render_url"]] = float(bid[row])
    return bids


def test_the_winner_has_the_highest_bid_that_a_slow_twin_finds(demo: Demo) -> None:
    """Model, encoder on the device, retrieval, bidding and scoring agree with plain Python over the exported parts."""
    runs = demo.table("auctions.parquet").to_pylist()
    countries = {
        ad["render_url"]: ad["country"][0] for buyer in (JOINT_BUYER, SOLO_BUYER) for ad in published_ads(demo, buyer)
    }
    country_of = {run["device"]: countries[run["render_url"]] for run in runs if not run["is_replay"]}
    bids = expected_bids(demo, country_of)
    assert len(runs) == demo.summary["auction"]["requests"] > DEVICES

    for run in runs:
        assert run["failure"] is None
        best = max(bids[run["request"]].values())
        assert bids[run["request"]][run["render_url"]] == pytest.approx(best, rel=1e-3)


def test_winners_chaff_and_errors_add_up_and_only_approved_ads_won(demo: Demo) -> None:
    auction = demo.summary["auction"]
    approved = {
        json.loads(line)["approved"]["render_url"]
        for line in (demo.out / "approvals.jsonl").read_text().splitlines()
        if "approved" in json.loads(line)
    }
    won = {run["render_url"] for run in demo.table("auctions.parquet").to_pylist() if run["render_url"]}

    assert auction["winners"] + auction["chaff"] + auction["errors"] == auction["requests"]
    assert won <= approved


def test_every_request_and_reply_has_a_padded_size(demo: Demo) -> None:
    """Frames of 1024 and 512 bytes plus what encapsulation adds (protected-auction §4.2, §5.2, §5.3)."""
    runs = demo.table("auctions.parquet").to_pylist()

    assert {run["request_bytes"] for run in runs} == {1024 + 1 + 7 + 32 + 16}
    assert {run["reply_bytes"] for run in runs} == {512 + 32 + 16}


def test_a_report_was_collected_for_every_winner_and_clicks_only_where_they_happened(demo: Demo) -> None:
    runs = demo.table("auctions.parquet").to_pylist()
    wins, clicks = [], []
    for folder in (demo.out / "reports").iterdir():
        for path in folder.glob("*.parquet"):
            rows = pq.read_table(path).to_pylist()
            wins += [row["request"] for row in rows if path.name.startswith("win-")]
            clicks += [row["request"] for row in rows if path.name.startswith("click-")]

    assert sorted(wins) == sorted(run["request"] for run in runs if run["render_url"])
    assert len(wins) == demo.summary["egress"]["payloads"]
    really = {f"{u.number}-replay" for u in demo.population.held_out if u.moment.clicked}
    assert set(clicks) == really & set(wins)


def texts_of(path: Path) -> Iterator[bytes]:
    """The file's bytes, and the texts inside a Parquet file, whose pages are compressed."""
    data = path.read_bytes()
    yield data
    if data[:4] == b"PAR1":
        table = pq.read_table(io.BytesIO(data))
        for column in table.columns:
            if pa.types.is_string(column.type) or pa.types.is_binary(column.type):
                yield "\n".join(str(value) for value in column.to_pylist()).encode()


def files_with(secret: bytes, folders: list[Path]) -> list[Path]:
    forms = {secret, secret.hex().encode(), secret.hex().upper().encode(), base64.b64encode(secret)}
    forms |= {base64.b64encode(b"\0" * shift + secret)[4:-4] for shift in (1, 2)}
    found = []
    for folder in folders:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            if any(form in text for text in texts_of(path) for form in forms):
                found.append(path)
    return found


def test_no_signal_is_in_anything_that_the_run_wrote(demo: Demo, tmp_path: Path) -> None:
    """Device stores, logs, configurations, reports, models: none holds the marker that every device stored."""
    markers = [marker(SEED, user.number) for user in demo.population.held_out]
    (tmp_path / "leak.log").write_bytes(b"x" + base64.b64encode(b"ab" + markers[0]))
    assert files_with(markers[0], [tmp_path]) == [tmp_path / "leak.log"], "the search itself works"

    assert len(list((demo.kept / "devices").glob("*.sqlite"))) == DEVICES
    for secret in markers:
        assert files_with(secret, [demo.out, demo.kept]) == []


def test_no_user_id_of_a_table_is_in_the_folder_a_person_gets(demo: Demo) -> None:
    users = pc.unique(demo.population.advertiser["user_id"]).to_pylist()[:200]

    for user in users:
        assert files_with(user.encode(), [demo.out]) == []


def test_the_report_is_one_file_that_says_what_was_a_stand_in(demo: Demo) -> None:
    html = (demo.out / "report.html").read_text()

    assert "Development enclave" in html
    assert "TEST_MODE" in html
    for reference in ("src=", "@import", "<link", 'href="http', "url(http"):
        assert reference not in html


def test_the_same_seed_gives_the_same_figures_where_noise_is_fixed(tmp_path: Path) -> None:
    summaries = []
    for name in ("a", "b"):
        done = adyton(
            "demo", "--seed", "5", "--devices", "6", "--volume", "0.1", "--insecure-fixed-noise", "--json",
            "--out", str(tmp_path / name),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        summary = json.loads(done.stdout)
        for timing in ("p50_ms", "p99_ms"):
            del summary["auction"][timing]
        summaries.append({part: summary[part] for part in KEYS})
        assert "carries a privacy guarantee" in (tmp_path / name / "report.html").read_text()

    assert summaries[0] == summaries[1]


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (signal.SIGINT, 130, "error: interrupted"),
        (signal.SIGTERM, 143, "error: ended by SIGTERM"),
        (signal.SIGHUP, 129, "ended by SIGHUP"),
    ],
)
def test_an_interrupted_run_leaves_nothing_and_no_keys(
    tmp_path: Path, number: signal.Signals, code: int, words: str
) -> None:
    (tmp_path / "tmp").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "adyton", "demo", *SMALL, "--out", str(tmp_path / "out")],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"TMPDIR": str(tmp_path / "tmp")},
    )
    assert process.stderr is not None
    time.sleep(15)  # somewhere inside review and the clean room
    process.send_signal(number)
    rest = process.stderr.read()

    assert process.wait(60) == code, rest
    assert words in rest
    assert "Traceback" not in rest
    assert [path.name for path in tmp_path.iterdir()] == ["tmp"]
    assert list((tmp_path / "tmp").glob("adyton-demo-*")) == []
    assert processes_left(process.pid) == b""


def processes_left(session: int) -> bytes:
    """Processes of a session that are still there after ten seconds; Python's own helpers end a moment later."""
    for _ in range(100):
        left = subprocess.run(["pgrep", "-s", str(session)], capture_output=True, check=False).stdout
        if not left:
            break
        time.sleep(0.1)
    return left


def test_a_folder_that_cannot_be_written_is_one_error_before_any_work() -> None:
    started = time.monotonic()
    done = adyton("demo", "--out", "/proc/adyton-demo")

    assert done.returncode == 13
    assert done.stderr.startswith("error: /proc: cannot write here")
    assert done.stdout == ""
    assert time.monotonic() - started < 60, "it was found out before the work"
