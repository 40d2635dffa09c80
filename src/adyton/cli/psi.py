"""`adyton psi`: how many users two parties share, before there is a contract; a noised number, paid from a ledger."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from adyton.cleanroom import psi as exchange
from adyton.cleanroom.whole_file import write_whole
from adyton.cli.ledger_payment import Payment, WatchedRandom, paid
from adyton.kernel.chance import OsRandom
from adyton.kernel.errors import BadInputError, UnavailableError
from adyton.kernel.ledger import Account, PrivacyLoss

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_NEW = click.Path(dir_okay=False, path_type=Path)
_PATH = click.Path(path_type=Path)
_epsilon = click.option("--epsilon", default="1/2", show_default=True, help="Per user; of this side.")
_delta = click.option("--delta", default="1e-6", show_default=True)
_column = click.option("--column", required=True, help="The column of user ids; compared as trimmed text.")
# A point in an answer: hex, quotes, comma and blank. Fillers come on top of both lists.
_POINT_TEXT_BYTES = 2 * exchange.POINT_BYTES + 4
_SPARE_POINTS = 10_000


@click.group()
def psi() -> None:
    """Count shared users before a contract: neither side learns which, and the number is noised."""


@psi.command("offer")
@click.argument("table", type=_FILE)
@_column
@click.option("-o", "out", type=_NEW, required=True, help="To send to the other party.")
@click.option("--secret", type=_NEW, required=True, help="To keep: opens the answer; delete it afterwards.")
@_epsilon
@_delta
def offer_command(table: Path, column: str, out: Path, secret: Path, epsilon: str, delta: str) -> None:
    """Blind the user ids of TABLE (Parquet or CSV) into an offer."""
    _check_new(out)
    random = OsRandom()
    raw = random.token(exchange.POINT_BYTES)
    made = exchange.offer(
        _ids(table, column), X25519PrivateKey.from_private_bytes(raw), random, PrivacyLoss.of(epsilon, delta)
    )
    _write_new(secret, raw.hex(), mode=0o600)
    _write_new(out, json.dumps({"points": [p.hex() for p in made.points], "base": made.base.hex()}))
    click.echo(f"{len(made.points)} points, fillers among them", err=True)


@psi.command("answer")
@click.argument("offered", type=_FILE)
@click.argument("table", type=_FILE)
@_column
@click.option("-o", "out", type=_NEW, required=True, help="To send back.")
@click.option("--owner", required=True, help="Whose users TABLE holds: the account that pays.")
@click.option("--population", default="users", show_default=True)
@click.option("--budget-epsilon", default="3", show_default=True, help="Of the account, for good.")
@click.option("--budget-delta", default="1e-5", show_default=True)
@click.option("--ledger", required=True, type=_PATH, help="SQLite file of the owner's privacy ledger.")
@click.option("--counter", required=True, type=_PATH, help="File that guards the ledger; keep it elsewhere.")
@click.option("--k", type=click.IntRange(2), default=50, show_default=True, help="Smaller numbers are not told.")
@_epsilon
@_delta
def answer_command(
    offered: Path,
    table: Path,
    column: str,
    out: Path,
    owner: str,
    population: str,
    budget_epsilon: str,
    budget_delta: str,
    ledger: Path,
    counter: Path,
    k: int,
    epsilon: str,
    delta: str,
) -> None:
    """Answer OFFERED over the user ids of TABLE; every answer is paid from the ledger before it is written."""
    _check_new(out)
    asked, loss = _offer(offered), PrivacyLoss.of(epsilon, delta)
    payment = Payment(Account(owner, population), PrivacyLoss.of(budget_epsilon, budget_delta), ledger, counter)
    noise = WatchedRandom()
    ids = _ids(table, column)
    # Before anything is paid: an answer that does not fit on the disk would be paid for and lost.
    if shutil.disk_usage(out.parent).free < _POINT_TEXT_BYTES * (len(asked.points) + 2 * len(ids) + _SPARE_POINTS):
        raise UnavailableError("the disk has no room for the answer", where=out.name, hint="nothing was paid")
    with paid(payment, loss, noise, "match rate"):
        made = exchange.answer(asked, ids, OsRandom(), loss=loss, k=k, noise=noise)
    record = {
        "first": sorted(p.hex() for p in made.first),
        "second": [p.hex() for p in made.second],
        "shift": made.shift,
        "k": made.k,
        "loss": loss.as_json(),
    }
    _write_new(out, json.dumps(record))


@psi.command("count")
@click.argument("answered", type=_FILE)
@click.option("--secret", type=_FILE, required=True)
@click.option("--json", "as_json", is_flag=True)
def count_command(answered: Path, secret: Path, as_json: bool) -> None:
    """Print how many users are shared: noised, with how far off it is at most."""
    record = _json(answered)
    try:
        key = X25519PrivateKey.from_private_bytes(bytes.fromhex(secret.read_text()))
        reply = exchange.Answer(
            frozenset(bytes.fromhex(p) for p in record["first"]),
            tuple(bytes.fromhex(p) for p in record["second"]),
            int(record["shift"]),
            int(record["k"]),
            PrivacyLoss.of(record["loss"]["epsilon"], record["loss"]["delta"]),
        )
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        raise BadInputError("this is no answer, or no secret", where=answered.name) from error
    if not 0 <= reply.shift <= exchange.MAX_POINTS or reply.k < 2:
        raise BadInputError("the answer's numbers cannot be", where=answered.name)
    found = exchange.count(reply, key)
    if as_json:
        click.echo(json.dumps({"users": found.users, "radius": found.radius, "k": found.k}))
    elif found.users is None:
        click.echo(f"fewer than {found.k} users (noised)")
    else:
        click.echo(f"{found.users} users, noised, off by at most {found.radius}")


def _ids(table: Path, column: str) -> list[str]:
    try:
        if table.suffix.lower() in (".parquet", ".pq"):
            values = pq.read_table(table, columns=[column])[column]
        else:
            options = pa_csv.ConvertOptions(include_columns=[column], column_types={column: pa.string()})
            values = pa_csv.read_csv(table, convert_options=options)[column]
        # Empty cells are users without an id, not one user whom both parties share.
        return [one for one in values.cast(pa.string()).unique().to_pylist() if one is not None and one.strip()]
    except (OSError, KeyError, pa.ArrowException):
        # Not chained: Arrow's text may quote a row.
        raise BadInputError("the column cannot be read", where=f"{table.name}, {column}") from None


def _offer(path: Path) -> exchange.Offer:
    record = _json(path)
    try:
        points = tuple(bytes.fromhex(p) for p in record["points"])
        base = bytes.fromhex(record["base"])
    except (KeyError, ValueError, TypeError) as error:
        raise BadInputError("this is no offer", where=path.name) from error
    if len(points) > exchange.MAX_POINTS or any(len(p) != exchange.POINT_BYTES for p in (*points, base)):
        raise BadInputError("the offer's points are malformed or too many", where=path.name)
    return exchange.Offer(points, base)


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise BadInputError("the file is no JSON", where=path.name) from error
    if not isinstance(value, dict):
        raise BadInputError("the file holds no JSON object", where=path.name)
    return value


def _write_new(path: Path, text: str, mode: int = 0o666) -> None:
    write_whole(path, (text + "\n").encode(), mode=mode)


def _check_new(path: Path) -> None:
    """Say what `_write_new` would say, before anything is paid for."""
    if path.exists():
        raise BadInputError("the file exists", where=path.name)
    if not path.parent.is_dir():
        raise BadInputError("the folder does not exist", where=path.parent.name)
