"""Two parties on the command line: keys, sealing, a contract, and what each command says when it cannot go on."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from adyton.cli.main import run

SCHEMA = {
    "columns": [
        {"name": "user_id", "role": "user_id", "kind": "category"},
        {"name": "age", "role": "user", "kind": "number"},
    ]
}


@pytest.fixture(autouse=True)
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ADYTON_PASSPHRASE", "correct horse")
    Path("schema.json").write_text(json.dumps(SCHEMA))
    Path("table.csv").write_text("user_id,age\n" + "".join(f"user-{i},{i}\n" for i in range(20)))


def seal(owner: str, *more: str) -> int:
    return run(
        ["seal", "table.csv", "--schema", "schema.json", "--id", f"{owner}-log", "--key", f"{owner}.key.json", *more]
    )


def test_from_keys_to_a_signed_contract(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("publisher", "advertiser"):
        assert run(["party", "init", name]) == 0
        assert seal(name) == 0
    draft = ["contract", "draft", "c.json", "--id", "spring", "--output", "model=advertiser", "--allow-dev"]
    for name in ("publisher", "advertiser"):
        draft += ["--party", f"{name}.party.json", "--manifest", f"sealed/{name}-log.v1.manifest.json"]
    assert run(draft) == 0
    assert run(["contract", "verify", "c.json"]) == 11
    for name in ("publisher", "advertiser"):
        assert run(["contract", "sign", "c.json", "--key", f"{name}.key.json"]) == 0
    capsys.readouterr()

    assert run(["contract", "verify", "c.json", "--json"]) == 0
    verified = json.loads(capsys.readouterr().out)
    assert (verified["state"], verified["missing"]) == ("active", [])
    assert run(["contract", "show", "c.json"]) == 0
    shown = capsys.readouterr().out
    assert "DEVELOPMENT enclave" in shown
    assert "output   model to advertiser" in shown
    assert run(["contract", "notice", "revoke", "c.json", "--key", "publisher.key.json"]) == 0
    assert capsys.readouterr().out.strip() == "revoked"


def test_each_fault_has_its_exit_code_and_a_way_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["party", "init", "publisher"]) == 0
    assert seal("publisher") == 0
    assert seal("publisher") == 11
    assert "hint: raise the version" in capsys.readouterr().err

    Path("table.csv").write_text("user_id,age\nuser-1,30\nuser-2,private-text\n")
    assert seal("publisher", "--version", "2") == 10
    told = capsys.readouterr().err
    assert "column age" in told
    assert "private-text" not in told

    monkeypatch.setenv("ADYTON_PASSPHRASE", "wrong")
    assert seal("publisher", "--version", "3") == 11
    monkeypatch.delenv("ADYTON_PASSPHRASE")
    assert seal("publisher", "--version", "3") == 10
    assert "ADYTON_PASSPHRASE" in capsys.readouterr().err
    assert run(["party", "init", "../x"]) == 10


def test_each_mistake_of_a_stranger_is_named_with_its_place_and_a_way_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[str] = []
    for name in ("publisher", "advertiser"):
        assert run(["party", "init", name]) == 0
        assert seal(name) == 0
        parts += ["--party", f"{name}.party.json", "--manifest", f"sealed/{name}-log.v1.manifest.json"]
    draft = ["contract", "draft", "d.json", "--id", "d"]
    assert run(["contract", "draft", "c.json", "--id", "c", "--allow-dev", *parts]) == 0
    Path("edited.json").write_text(Path("c.json").read_text().replace('"k": 50', '"k": 2'))
    sealing = ["seal", "table.csv", "--id", "z", "--key", "publisher.key.json", "--schema"]
    Path("other.json").write_text(json.dumps({"columns": [{"name": "mail", "role": "user_id", "kind": "category"}]}))
    key = ["--key", "publisher.key.json"]
    fields = {"job_id": "j", "base": "advertiser-log", "partners": ["publisher-log"]}
    Path("bad.json").write_text(json.dumps(fields))
    Path("job.json").write_text(json.dumps({**fields, "templates": ["join_statistics"]}))
    Path("empty").mkdir()
    ledger = ["--ledger", "l/l.sqlite", "--counter", "c/c.json", "--out", "out"]
    job = ["cleanroom", "run", "c.json", *ledger, "--broker"]
    serve = ["broker", "serve", "--contract", "c.json", "--store", "s.sqlite"]
    foreign = ["--manifest", "sealed/advertiser-log.v1.manifest.json"]

    mistakes: list[tuple[list[str], int, list[str]]] = [
        (["party", "init", "publisher"], 10, ["publisher.key.json", "hint: choose another name"]),
        (["contract", "sign", "edited.json", *key], 10, ["edited.json", "contract rule"]),
        (["contract", "show", "schema.json"], 10, ["schema.json", "no contract file", "contract draft"]),
        (["contract", "sign", "c.json", "--key", "schema.json"], 10, ["schema.json", "no key file", "NAME.key.json"]),
        ([*draft, *parts[:4]], 10, ["two parties", "--party"]),
        ([*draft, *parts, *foreign], 10, ["twice"]),
        ([*draft, *parts, "--epsilon", "-1"], 10, ["--epsilon", "1/2"]),
        ([*draft, *parts, "--until", "soon"], 10, ["--until", "2027-01-31"]),
        ([*draft, *parts, "--output", "model=nobody"], 10, ["model", "nobody is not a party"]),
        ([*sealing, "c.json"], 10, ["c.json", '"columns"']),
        ([*sealing, "other.json"], 10, ["table.csv, column mail", "--mapping"]),
        ([*job, "publisher=x", "--job", "job.json", "--sealed", "empty"], 10, ["--broker", "publisher=unix:/path"]),
        ([*job, "a=unix:/p", "--job", "bad.json", "--sealed", "empty"], 10, ["missing fields: templates"]),
        (
            [*job, "a=unix:/p", "--job", "job.json", "--sealed", "empty"],
            11,
            ["draft, not active", "signatures are missing"],
        ),
        ([*serve, *key, *foreign], 11, ["advertiser-log", "not signed by its owner"]),
        ([*serve, *key, *parts[2:4], "--listen", "ftp://x"], 13, ["ftp://x", "unix:/path"]),
        ([*serve, *key, *parts[2:4], "--snp-floor", "3.1"], 10, ["3.1", "3.0.8.115"]),
    ]
    for command, code, words in mistakes:
        capsys.readouterr()
        assert run(command) == code, command
        told = capsys.readouterr().err
        assert all(word in told for word in words), (command, told)
    monkeypatch.setenv("ADYTON_PASSPHRASE", "another")
    assert run(["contract", "sign", "c.json", *key]) == 11
    assert "--passphrase-file" in capsys.readouterr().err
    assert not Path("out").exists()


def test_the_owner_opens_its_own_table_and_nobody_else_does(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("publisher", "operator"):
        assert run(["party", "init", name]) == 0
    assert seal("publisher") == 0
    unseal = ["unseal", "sealed/publisher-log.v1.manifest.json", "-o", "rows.parquet", "--key"]
    capsys.readouterr()

    assert run([*unseal, "operator.key.json"]) == 11
    assert "publisher's, and opens with its key only" in capsys.readouterr().err
    assert not Path("rows.parquet").exists()
    assert run([*unseal, "publisher.key.json"]) == 0
    assert pq.read_table("rows.parquet")["age"].to_pylist() == list(range(20))
    assert Path("rows.parquet").stat().st_mode & 0o077 == 0
    assert run([*unseal, "publisher.key.json"]) == 10

    sealed = Path("sealed/publisher-log.v1.sealed")
    sealed.write_bytes(sealed.read_bytes()[:-1] + b"x")
    Path("rows.parquet").unlink()
    assert run([*unseal, "publisher.key.json"]) == 11
    assert not Path("rows.parquet").exists()


def test_the_measurement_is_the_same_twice(capsys: pytest.CaptureFixture[str]) -> None:
    outputs = []
    for _ in range(2):
        assert run(["cleanroom", "measurement"]) == 0
        outputs.append(capsys.readouterr().out)

    assert outputs[0] == outputs[1]
    assert len(outputs[0].strip()) == 64


def test_a_foreign_file_is_sealed_by_its_mapping_and_the_counts_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["party", "init", "publisher"]) == 0
    Path("table.csv").write_text("Mail,Alter\n A@x.org,30\na@x.org,30\n,9\n")
    columns = {"user_id": {"from": "Mail", "as": "email", "hash": True}, "age": {"from": "Alter", "as": "number"}}
    mapping = {"columns": columns, "drop_rows_without": ["user_id"], "drop_duplicates": True}
    Path("mapping.json").write_text(json.dumps(mapping))
    capsys.readouterr()

    assert seal("publisher", "--mapping", "mapping.json") == 0
    told = capsys.readouterr().err
    assert '"rows_read": 3, "rows_sealed": 1, "duplicates_dropped": 1' in told
    assert "1 rows" in told
    Path("mapping.json").write_text('{"columns": {"user_id": {"from": "Nowhere"}}}')
    assert seal("publisher", "--mapping", "mapping.json", "--version", "2") == 10
