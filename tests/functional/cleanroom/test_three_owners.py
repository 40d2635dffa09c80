"""Three owners on the command line, each with its own keys, table, rule and broker: the strictest rule wins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adyton.cli.main import run

pytestmark = pytest.mark.slow
OWNERS = {"publisher": range(400, 2800), "advertiser": range(2000), "measurer": range(200, 2400)}
IN_ALL_QUERIES = "SELECT segment, COUNT(DISTINCT user_id) AS users FROM joined GROUP BY segment"
SERVE = "import sys; from adyton.cli.main import run; sys.exit(run(sys.argv[1:]))"


@pytest.fixture(autouse=True)
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ADYTON_PASSPHRASE", "correct horse")
    columns = (("user_id", "user_id", "category"), ("segment", "user", "category"))
    schema = {"columns": [{"name": n, "role": r, "kind": k} for n, r, k in columns]}
    Path("schema.json").write_text(json.dumps(schema))
    for name, users in OWNERS.items():
        user = np.repeat(np.array(users), 3)
        table = pa.table({"user_id": [f"person-{u:06d}" for u in user], "segment": pa.array(user % 2)})
        pq.write_table(table, f"{name}.parquet")


def prepare() -> list[str]:
    """Keys and sealed tables of all three, made once; gives the options that name them in a draft."""
    parts: list[str] = []
    for name in OWNERS:
        key = f"{name}.key.json"
        if not Path(key).exists():
            assert run(["party", "init", name]) == 0
            sealing = ["seal", f"{name}.parquet", "--schema", "schema.json", "--id", f"{name}-log", "--key", key]
            assert run(sealing) == 0
        parts += ["--party", f"{name}.party.json", "--manifest", f"sealed/{name}-log.v1.manifest.json"]
    return parts


def agree(*draft: str) -> None:
    """A contract of all three, unsigned."""
    outputs = ["--output", "aggregate=measurer", "--output", f"join_statistics={','.join(OWNERS)}"]
    assert run(["contract", "draft", "c.json", "--id", "c", "--k", "5", *prepare(), *outputs, *draft]) == 0


def sign() -> None:
    for name in OWNERS:
        assert run(["contract", "sign", "c.json", "--key", f"{name}.key.json"]) == 0


@contextmanager
def brokers() -> Iterator[list[str]]:
    """Each owner's broker as a process of its own; gives the options for `cleanroom run`."""
    with ExitStack() as stack:
        sockets = stack.enter_context(tempfile.TemporaryDirectory(prefix="adyton-three-"))
        options: list[str] = []
        for name in OWNERS:
            address = f"unix:{sockets}/{name}"
            files = ["--key", f"{name}.key.json", "--contract", "c.json", "--store", f"{name}.sqlite"]
            files += ["--manifest", f"sealed/{name}-log.v1.manifest.json", "--listen", address]
            process = subprocess.Popen(
                [sys.executable, "-c", SERVE, "broker", "serve", *files], stdout=subprocess.PIPE, env=dict(os.environ)
            )
            stack.callback(process.wait, 20)
            stack.callback(process.terminate)
            assert process.stdout is not None
            stack.callback(process.stdout.close)
            assert process.stdout.readline().decode().strip() == address
            options += ["--broker", f"{name}={address}"]
        yield options


def job(name: str, **changes: object) -> str:
    loss = {"epsilon": "1/5", "delta": "1e-8"}
    fields = {
        "job_id": name,
        "base": "advertiser-log",
        "partners": ["publisher-log", "measurer-log"],
        "templates": ["aggregate", "join_statistics"],
        "statistics_loss": {"epsilon": "1/10", "delta": "0"},
        "queries": [{"name": "by_segment", "sql": IN_ALL_QUERIES, "loss": loss}],
    }
    Path(f"{name}.json").write_text(json.dumps({**fields, **changes}))
    return f"{name}.json"


def clean_room(options: list[str], name: str, **changes: object) -> int:
    files = ["--job", job(name, **changes), "--sealed", "sealed", "--out", f"out-{name}"]
    return run(["cleanroom", "run", "c.json", *files, *options, "--ledger", "l/l.sqlite", "--counter", "c/c.json"])


def test_three_owners_run_a_job_and_the_strictest_rule_wins(capfd: pytest.CaptureFixture[str]) -> None:
    agree("--allow-dev", "--query-column", "segment", "--epsilon", "2")
    assert run(["contract", "rule", "c.json", "--owner", "measurer", "--k", "60", "--epsilon", "1/2"]) == 0
    sign()
    assert run(["contract", "rule", "c.json", "--owner", "measurer", "--k", "2"]) == 11
    with brokers() as options:
        assert clean_room(options, "first") == 0
        capfd.readouterr()
        receipt = ["out-first/receipt.json", "--contract", "c.json"]
        assert run(["receipt", "verify", *receipt, "--outputs", "out-first"]) == 0
        assert "3 tables" in capfd.readouterr().out
        box = ["cleanroom", "open", "out-first/aggregate.measurer.box"]
        assert run([*box, "--key", "measurer.key.json", "-o", "a"]) == 0
        assert run([*box, "--key", "publisher.key.json", "-o", "b"]) == 11
        [answer] = json.loads(Path("a").read_text())["queries"]
        assert answer["k"] == 60
        assert [row[0] for row in answer["rows"]] == [0, 1]
        assert not Path("b").exists()

        # The measurer has 1/2 and spent 3/10; the others have 2.
        assert clean_room(options, "second") == 11
        assert "measurer/users" in capfd.readouterr().err
        for name in OWNERS:
            address = next(one for one in options if one.startswith(f"{name}=")).partition("=")[2]
            assert run(["broker", "log", address]) == 0
            assert capfd.readouterr().out.count("granted") == 2


def test_a_contract_stops_and_goes_on_by_its_parties_words(capfd: pytest.CaptureFixture[str]) -> None:
    agree("--allow-dev", "--query-column", "segment")
    assert run(["contract", "notice", "suspend", "c.json", "--key", "publisher.key.json"]) == 11
    sign()
    with brokers() as options:

        def says(command: list[str], code: int, words: str) -> None:
            capfd.readouterr()
            assert run(command) == code
            assert words in "".join(capfd.readouterr())

        def notice(event: str, owner: str) -> list[str]:
            return ["contract", "notice", event, "c.json", "--key", f"{owner}.key.json"]

        says(notice("resume", "publisher"), 11, "active cannot resume")
        says(notice("suspend", "publisher"), 0, "suspended")
        assert clean_room(options, "suspended") == 11
        assert "is suspended, not active" in capfd.readouterr().err
        says(notice("resume", "measurer"), 11, "only the party that suspended")
        says(notice("resume", "publisher"), 0, "active")
        assert clean_room(options, "active") == 0
        says(notice("revoke", "measurer"), 0, "revoked")
        assert clean_room(options, "revoked") == 11
        says(notice("resume", "publisher"), 11, "revoked cannot resume")
        says(["contract", "show", "c.json"], 0, "state    revoked")
        assert not Path("out-revoked").exists()


def test_an_expired_contract_runs_nothing_and_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    prepare()
    end_s = time.time() + 2
    until = datetime.fromtimestamp(end_s, UTC).isoformat()
    agree("--allow-dev", "--query-column", "segment", "--until", until)
    sign()
    with brokers() as options:
        time.sleep(max(0.0, end_s - time.time() + 0.1))
        assert clean_room(options, "late") == 11
    assert "is expired, not active" in capfd.readouterr().err
    assert run(["contract", "verify", "c.json"]) == 0
    assert capfd.readouterr().out.split()[1] == "expired"


def test_one_owner_who_refuses_development_refuses_it_for_all(capfd: pytest.CaptureFixture[str]) -> None:
    agree("--allow-dev")
    changes = ["--refuse-dev", "--template", "join_statistics", "--without-guarantee", "none"]
    assert run(["contract", "rule", "c.json", "--owner", "advertiser", *changes]) == 0
    capfd.readouterr()
    assert run(["contract", "show", "c.json"]) == 0
    shown = capfd.readouterr().out
    assert "trusted hardware will do" in shown
    assert "k 5; join_statistics\n" in shown
    for wrong in (["--owner", "nobody", "--k", "9"], ["--owner", "advertiser", "--epsilon", "much"]):
        assert run(["contract", "rule", "c.json", *wrong]) == 10
