"""What an operator sees when the database is missing, taken away, somebody else's, damaged or of a later release."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result

from adyton.cli.queue import queue
from adyton.console.review_queue import app as console
from adyton.console.review_queue.app import create_app
from adyton.console.review_queue.server import running
from adyton.kernel.audit import BrokenChainError
from adyton.review.queue.clocks import DeskRules
from adyton.review.queue.desk import Desk, open_engine
from adyton.review.queue.errors import NotSignedInError, QueueInputError, StoreUnavailableError
from adyton.review.queue.people import person_of_token, put_person
from adyton.review.queue.permissions import Role
from adyton.review.queue.records import Person, PersonId

LEAD = Person(PersonId("lea"), Role.LEAD)


def call(*arguments: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(queue, list(arguments), env=env)


@pytest.fixture
def path(tmp_path: Path, migrated_sqlite: Path) -> Path:
    return Path(shutil.copy(migrated_sqlite, tmp_path / "queue.db"))


def overwrite(path: Path) -> None:
    """Nothing but noise, in the same file."""
    with path.open("r+b") as file:
        file.write(b"x" * path.stat().st_size)


@pytest.mark.parametrize("command", [["verify"], ["export"], ["sweep"], ["person", "ann", "--role", "lead"]])
def test_a_mistyped_address_is_refused_and_makes_no_file(tmp_path: Path, command: list[str]) -> None:
    result = call(*command, "--database", f"sqlite:///{tmp_path}/quue.db")

    assert isinstance(result.exception, StoreUnavailableError)
    assert "there is no database" in str(result.exception)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given", [{"env": {"ADYTON_QUEUE_DATABASE": ""}}, {"env": {}, "option": ""}])
def test_an_empty_address_is_not_the_default_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, object]
) -> None:
    monkeypatch.chdir(tmp_path)
    option = ["--database", ""] if "option" in given else []
    result = CliRunner().invoke(queue, ["migrate", *option], env=given["env"])  # type: ignore[arg-type]

    assert result.exit_code == 2
    assert "is empty" in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("taken", ["deleted", "replaced"])
def test_nothing_is_decided_into_a_file_that_was_taken_away(path: Path, taken: str) -> None:
    desk = Desk(open_engine(f"sqlite:///{path}"))
    put_person(desk, None, LEAD)
    if taken == "replaced":
        shutil.copy(path, path.with_name("backup.db"))
        path.with_name("backup.db").rename(path)
    else:
        path.unlink()

    with pytest.raises(StoreUnavailableError, match="deleted or replaced"):
        put_person(desk, None, LEAD)
    desk.engine.dispose()
    with pytest.raises(StoreUnavailableError, match="deleted or replaced"):
        put_person(desk, None, LEAD)
    assert path.exists() == (taken == "replaced")


def test_health_tells_that_the_file_is_gone(path: Path) -> None:
    app = create_app(Desk(open_engine(f"sqlite:///{path}")))
    with running(app) as address:
        before = httpx.get(f"{address}/healthz", timeout=30).status_code
        path.unlink()
        after = httpx.get(f"{address}/healthz", timeout=30)

    assert before == 200
    assert after.status_code == 503
    assert "deleted or replaced" in after.json()["what"]


@pytest.mark.parametrize("command", ["verify", "migrate"])
def test_a_file_that_is_no_database_is_told_as_that(tmp_path: Path, command: str) -> None:
    (tmp_path / "letter.txt").write_text("dear all" * 1000)
    result = call(command, "--database", f"sqlite:///{tmp_path}/letter.txt")

    assert isinstance(result.exception, StoreUnavailableError)
    assert result.exception.what == "this file is not a database"
    assert (tmp_path / "letter.txt").read_text() == "dear all" * 1000


def test_a_database_that_breaks_under_a_server_is_unavailable_and_no_defect(path: Path) -> None:
    desk = Desk(open_engine(f"sqlite:///{path}", connections=1))
    put_person(desk, None, LEAD)
    desk.engine.dispose()  # its log goes into the file
    overwrite(path)

    with pytest.raises(StoreUnavailableError, match=r"not a database|damaged"):
        person_of_token(desk, "adq_" + "0" * 64)


def test_tables_are_not_put_into_another_programs_file(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "ledger.sqlite") as other:
        other.execute("CREATE TABLE spent (epsilon TEXT)")
    result = call("migrate", "--database", f"sqlite:///{tmp_path}/ledger.sqlite")

    assert isinstance(result.exception, StoreUnavailableError)
    assert "another program" in str(result.exception)
    with sqlite3.connect(tmp_path / "ledger.sqlite") as other:
        assert [row[0] for row in other.execute("SELECT name FROM sqlite_master")] == ["spent"]


@pytest.mark.parametrize("command", ["verify", "migrate"])
def test_a_database_of_a_later_release_is_not_sent_to_migrate(path: Path, command: str) -> None:
    with sqlite3.connect(path) as later:
        later.execute("UPDATE alembic_version SET version_num = '0999'")
    result = call(command, "--database", f"sqlite:///{path}")

    assert isinstance(result.exception, StoreUnavailableError)
    assert "0999" in str(result.exception)
    assert "newer" in str(result.exception.hint)


@pytest.mark.parametrize("url", ["postgresql://u@h:port/x", "sqlite:///queue.db?mode=ro"])
def test_an_address_that_cannot_be_meant_is_refused(url: str) -> None:
    with pytest.raises(QueueInputError):
        open_engine(url)


def test_the_sweep_outlives_a_defect(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: list[int] = []
    again = threading.Event()

    def break_once(desk: Desk) -> tuple[int, int]:
        rounds.append(1)
        if len(rounds) == 1:
            raise RuntimeError("a defect")
        again.set()
        return 0, 0

    monkeypatch.setattr(console, "sweep", break_once)
    with running(create_app(Desk(open_engine(f"sqlite:///{path}")), sweep_seconds=0.01)):
        assert again.wait(20)


@pytest.mark.parametrize("tail", ["\ud800", "0" * 63, "0" * 65, "G" * 64, "0" * 64 + "\n"])
def test_what_cannot_be_a_token_is_refused_as_any_other(path: Path, tail: str) -> None:
    with pytest.raises(NotSignedInError):
        person_of_token(Desk(open_engine(f"sqlite:///{path}")), f"adq_{tail}")


def test_the_front_page_tells_that_the_database_is_gone(path: Path) -> None:
    app = create_app(Desk(open_engine(f"sqlite:///{path}")))
    with running(app) as address:
        path.unlink()
        cookies = {"adyton_token": "adq_" + "0" * 64}
        found = httpx.get(address, cookies=cookies, headers={"Accept": "text/html"}, timeout=30)

    assert found.status_code == 503


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE events SET body = 'not JSON' WHERE sequence = 0",
        "UPDATE events SET body = '[]' WHERE sequence = 0",
        """UPDATE events SET body = '{"details": 0.5}', person_id = NULL WHERE sequence = 0""",
        "DELETE FROM chain_head",
    ],
)
def test_a_log_that_cannot_be_read_is_a_broken_chain_and_no_defect(path: Path, change: str) -> None:
    put_person(Desk(open_engine(f"sqlite:///{path}")), None, LEAD)
    with sqlite3.connect(path) as owner:
        for (name,) in owner.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            owner.execute(f"DROP TRIGGER {name}")
        owner.execute(change)

    assert isinstance(call("verify", "--database", f"sqlite:///{path}").exception, BrokenChainError)


@pytest.mark.parametrize(
    "option", [["--claim-minutes", "9" * 17], ["--price-hours", "9" * 19], ["--golden-one-in", "9" * 20]]
)
def test_numbers_that_no_clock_can_hold_are_refused_at_the_start(path: Path, option: list[str]) -> None:
    result = call("serve", "--port", "0", *option, "--database", f"sqlite:///{path}")

    assert result.exit_code == 2
    assert option[0] in result.output


def test_a_rule_of_more_than_a_year_is_refused() -> None:
    with pytest.raises(QueueInputError, match="a year"):
        DeskRules(claim_minutes=10**12)
