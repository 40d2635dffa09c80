"""Desks on SQLite and on a real PostgreSQL server that the tests start for themselves."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from adyton.kernel.audit import GENESIS_HASH
from adyton.kernel.chance import InsecureFixedRandom
from adyton.kernel.clock import Clock, ManualClock
from adyton.kernel.ids import BuyerId
from adyton.review.queue.ad_store import find_ad
from adyton.review.queue.claiming import Claim, claim_next
from adyton.review.queue.clocks import DeskRules
from adyton.review.queue.deciding import decide
from adyton.review.queue.desk import Desk, open_engine
from adyton.review.queue.people import put_person
from adyton.review.queue.permissions import Role
from adyton.review.queue.policy_book import put_policy
from adyton.review.queue.records import AdFile, Finding, Judgement, Person, PersonId, Submission
from adyton.review.queue.schema import migrate
from adyton.review.queue.states import Verdict
from adyton.review.queue.submission import submit
from adyton.review.queue.tables import metadata

NOON_MS = 1_790_000_000_000 // 86_400_000 * 86_400_000 + 43_200_000
_TABLES_OF_SERVER = "/usr/lib/postgresql"


def _binaries() -> Path | None:
    on_path = shutil.which("initdb")
    folders = [Path(on_path).resolve().parent] if on_path else []
    folders += sorted(Path(_TABLES_OF_SERVER).glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()), None)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _missing(why: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must test on PostgreSQL: {why}")
    pytest.skip(f"PostgreSQL cannot be had here: {why}")


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The address of an empty server; each test makes its own database on it."""
    binaries = _binaries()
    if binaries is None:
        _missing("no initdb on the path or under /usr/lib/postgresql (apt install postgresql)")
        return
    try:
        import psycopg  # noqa: F401
    except ModuleNotFoundError:
        _missing("psycopg is not installed (pip install 'adyton[postgres]')")
    user: dict[str, object] = {}
    folder = Path(tempfile.mkdtemp(prefix="adyton-pg-"))
    if os.geteuid() == 0:
        # PostgreSQL refuses to run as root; Debian's package brings a user for it.
        try:
            account = pwd.getpwnam("postgres")
        except KeyError:
            _missing("running as root and there is no user postgres")
            return
        os.chown(folder, account.pw_uid, account.pw_gid)
        user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    port = _free_port()
    data = folder / "data"

    def call(*command: str | Path) -> None:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            **user,
        )
        if done.returncode:
            _missing(f"{Path(command[0]).name} failed: {done.stderr.strip()[-300:]}")

    # No fsync: these databases live as long as the test run. Everything else is as in production.
    options = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder} -c max_connections=180 -c fsync=off"
    try:
        call(binaries / "initdb", "-D", data, "-U", "adyton", "--auth=trust", "--encoding=UTF8", "--no-sync")
        call(binaries / "pg_ctl", "-D", data, "-w", "-o", options, "-l", folder / "log", "start")
        yield f"postgresql://adyton@127.0.0.1:{port}/postgres"
    finally:
        if data.exists():
            subprocess.run(
                [str(binaries / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop"],
                cwd=folder,
                capture_output=True,
                check=False,
                **user,
            )
        shutil.rmtree(folder, ignore_errors=True)


def _administer(url: str, statement: str) -> None:
    admin = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with admin.connect() as conn:
        conn.exec_driver_sql(statement)
    admin.dispose()


def _with_database(url: str, name: str) -> str:
    return sa.make_url(url).set(database=name).render_as_string(hide_password=False)


def _migrate(url: str) -> None:
    desk = Desk(open_engine(url, connections=1), clock=ManualClock(NOON_MS))
    migrate(desk)
    desk.engine.dispose()


@pytest.fixture(scope="session")
def migrated_postgres(postgres_url: str) -> str:
    """The address of a migrated database, which tests use one after another."""
    _administer(postgres_url, "CREATE DATABASE migrated")
    url = _with_database(postgres_url, "migrated")
    _migrate(url)
    return url


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("migrated") / "queue.db"
    _migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def clean_postgres(migrated_postgres: str) -> str:
    """The migrated database, as empty as on its first day (a database for each test takes a second to make)."""
    tables = ", ".join(name for name in metadata.tables if name != "chain_head")
    _administer(
        migrated_postgres,
        "ALTER TABLE events DISABLE TRIGGER USER; "
        f"TRUNCATE {tables}; "
        f"UPDATE chain_head SET sequence = -1, entry_hash = '{GENESIS_HASH}'; "
        "ALTER TABLE events ENABLE TRIGGER USER",
    )
    return migrated_postgres


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without tables, once of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/queue.db"
    server = str(request.getfixturevalue("postgres_url"))
    name = f"e_{os.urandom(6).hex()}"
    _administer(server, f"CREATE DATABASE {name}")
    return _with_database(server, name)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A migrated database, once of each kind."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("migrated_sqlite"), tmp_path / "queue.db")
        return f"sqlite:///{tmp_path}/queue.db"
    return str(request.getfixturevalue("clean_postgres"))


MakeDesk = Callable[..., Desk]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON_MS)


@pytest.fixture
def make_desk(database_url: str, clock: ManualClock) -> Iterator[MakeDesk]:
    """Desks on the same migrated database, with the rules given."""
    opened: list[Desk] = []

    def make(*, clock: Clock = clock, connections: int = 5, seed: int = 1, **rules: object) -> Desk:
        engine = open_engine(database_url, connections=connections)
        desk = Desk(engine, DeskRules(**rules), clock, InsecureFixedRandom(seed))  # type: ignore[arg-type]
        opened.append(desk)
        return desk

    yield make
    for desk in opened:
        desk.engine.dispose()


@pytest.fixture
def desk(make_desk: MakeDesk) -> Desk:
    return make_desk()


class Floor:
    """A small review floor: shorthand for the people and ads of a test."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.lead = self.person("lead", Role.LEAD, markets=("US",))
        self.auditor = self.person("auditor", Role.AUDITOR)
        self.advertiser = self.person("adv", Role.ADVERTISER, buyer=BuyerId("shop.example"))
        put_policy(desk, self.lead, "weapons", "Weapons", "No weapons.", Verdict.REJECTED)
        put_policy(desk, self.lead, "alcohol", "Alcohol", "Not everywhere.", Verdict.LIMITED)

    def person(self, name: str, role: Role = Role.MODERATOR, **given: Any) -> Person:
        if role is Role.MODERATOR:
            given.setdefault("markets", ("US",))
        return put_person(self.desk, None, Person(PersonId(name), role, **given))

    def ad(self, creative_id: str = "c1", **given: Any) -> AdFile:
        values: dict[str, Any] = {
            "buyer": BuyerId("shop.example"),
            "title": "Shoes",
            "text": "Good shoes",
            "render_url": "https://shop.example/shoes",
            "market": "US",
            "countries": ("US", "CA"),
            "product_line": "auction",
            "value_per_click_micros": 500_000,
            "currency": "USD",
            "revenue_micros": 20_000_000,
            "punish_num": 0,
        }
        return submit(self.desk, self.lead, Submission(creative_id=creative_id, **(values | given)))

    def claim(self, person: Person) -> Claim:
        claim = claim_next(self.desk, person)
        assert isinstance(claim, Claim), claim
        return claim

    def decided(self, person: Person, judgement: Judgement = Judgement()) -> AdFile:  # noqa: B008 - frozen
        claim = self.claim(person)
        return decide(self.desk, person, claim.ad.ad_id, claim.token, judgement)

    def file(self, ad: AdFile) -> AdFile:
        with self.desk.reading() as tx:
            return find_ad(tx, ad.ad_id)


REJECTED = Judgement((Finding("weapons", 1, Verdict.REJECTED, "a knife at 0:03"),), note="sure")
LIMITED = Judgement((Finding("alcohol", 1, Verdict.LIMITED, "beer", not_in_countries=("CA",)),))


@pytest.fixture
def rejected() -> Judgement:
    return REJECTED


@pytest.fixture
def limited() -> Judgement:
    return LIMITED


@pytest.fixture
def floor(desk: Desk) -> Floor:
    return Floor(desk)


@pytest.fixture
def make_floor(make_desk: MakeDesk) -> Callable[..., Floor]:
    return lambda **rules: Floor(make_desk(**rules))
