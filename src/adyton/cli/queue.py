"""`adyton queue`: serve the live review queue and look after its database."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

F = TypeVar("F", bound=Callable[..., Any])
_ROLES = ("moderator", "lead", "auditor", "advertiser")


_DATABASE = "ADYTON_QUEUE_DATABASE"


def _not_empty(ctx: click.Context, parameter: click.Parameter, url: str) -> str:
    """An empty variable is an unset one of a script; taking the default would serve some other database."""
    is_default = ctx.get_parameter_source(str(parameter.name)) is ParameterSource.DEFAULT
    if not url.strip() or (is_default and _DATABASE in os.environ):
        raise click.UsageError(f"the address of the database is empty; give --database, or unset {_DATABASE}")
    return url


def _database(command: F) -> F:
    return click.option(
        "--database",
        "url",
        envvar=_DATABASE,
        callback=_not_empty,
        show_envvar=True,
        default="sqlite:///queue.db",
        show_default=True,
        help="sqlite:///FILE or postgresql://USER@HOST/DATABASE.",
    )(command)


def _open(url: str, *, connections: int = 2, is_new: bool = False, **rules: Any) -> Any:
    from adyton.review.queue.clocks import DeskRules
    from adyton.review.queue.desk import Desk, open_engine
    from adyton.review.queue.schema import require_newest

    desk = Desk(open_engine(url, connections=connections, makes_file=is_new), DeskRules(**rules))
    if not is_new:
        require_newest(desk)
    return desk


def _tell(text: str) -> None:
    click.echo(text, err=True)


@click.group()
def queue() -> None:
    """Run the live review queue: claims, decisions, escalations, appeals."""


@queue.command()
@_database
def migrate(url: str) -> None:
    """Bring the database to this release's tables. Safe to run again."""
    from adyton.review.queue.schema import migrate as run_migrations

    before, after = run_migrations(_open(url, is_new=True))
    _tell(f"already at version {after}" if before == after else f"from version {before or 'none'} to {after}")


@queue.command()
@_database
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; put TLS before it.")
@click.option("--port", default=8400, show_default=True, type=click.IntRange(0, 65535), help="0: any free port.")
@click.option("--threads", default=40, show_default=True, type=click.IntRange(1, 500), help="Requests at once.")
@click.option(
    "--claim-minutes", default=10, show_default=True, type=click.IntRange(1, 527_040), help="Length of a lock."
)
@click.option(
    "--golden-one-in", default=0, show_default=True, type=click.IntRange(0, 10**9), help="0: no golden items."
)
@click.option(
    "--second-one-in", default=0, show_default=True, type=click.IntRange(0, 10**9), help="0: no second opinions."
)
@click.option("--tls-cert", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="PEM file, for HTTPS.")
@click.option("--tls-key", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="PEM file of its key.")
@click.option("--price-hours", default=6, show_default=True, type=click.IntRange(0, 8784), help="0: no new prices.")
def serve(
    url: str,
    host: str,
    port: int,
    threads: int,
    claim_minutes: int,
    golden_one_in: int,
    second_one_in: int,
    tls_cert: Path | None,
    tls_key: Path | None,
    price_hours: int,
) -> None:
    """Serve pages and API until interrupted."""
    from adyton.console.review_queue.app import create_app
    from adyton.console.review_queue.server import Tls, address_of, listen
    from adyton.console.review_queue.server import serve as serve_app

    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key go together")
    desk = _open(
        url,
        connections=threads + 2,
        claim_minutes=claim_minutes,
        golden_one_in=golden_one_in,
        second_one_in=second_one_in,
    )
    sock = listen(host, port)
    tls = None if tls_cert is None or tls_key is None else Tls(tls_cert, tls_key)
    app = create_app(desk, threads=threads)
    _tell(f"listening on {address_of(sock, tls)}")
    stop = threading.Event()
    if price_hours:
        threading.Thread(target=_price_until, args=(url, stop, price_hours * 3600), name="prices", daemon=True).start()
    try:
        serve_app(app, sock, tls)
    finally:
        stop.set()


def _price_until(url: str, stop: threading.Event, seconds: int) -> None:
    """Runs `adyton queue price` every so often, in a process of its own: it computes for longer than a click waits."""
    import subprocess

    call = [sys.executable, "-m", "adyton.cli.main", "queue", "price", "--json"]
    while not stop.wait(seconds):
        # The address may hold a password, and everybody can read a command line.
        try:
            done = subprocess.run(call, env=os.environ | {_DATABASE: url}, capture_output=True, text=True, check=False)
        except OSError as error:  # no memory or process to spare at this moment; the next round tries again
            _tell(f"no new prices: no process could be started ({error.strerror})")
            continue
        if done.returncode:
            _tell(f"no new prices: {done.stderr.strip()}")


@queue.command()
@_database
@click.argument("person_id")
@click.option("--role", type=click.Choice(_ROLES), required=True)
@click.option("--buyer", help="Of an advertiser: whose ads.")
@click.option("--market", "markets", multiple=True, help="What a moderator judges; may be given several times.")
@click.option("--queue", "queues", multiple=True, help="Escalation queue that the person serves.")
@click.option("--minutes-per-day", type=int, help="How long a moderator works on a day; 480 for somebody new.")
@click.pass_context
def person(
    ctx: click.Context,
    url: str,
    person_id: str,
    role: str,
    buyer: str | None,
    markets: tuple[str, ...],
    queues: tuple[str, ...],
    minutes_per_day: int | None,
) -> None:
    """Add or change a person; what is not said stays as it is. The first lead is made here; a lead does the rest on the
    pages or over the API.
    """
    from adyton.kernel.ids import BuyerId
    from adyton.review.queue.errors import UnknownRecordError
    from adyton.review.queue.people import find_person, put_person
    from adyton.review.queue.permissions import Role
    from adyton.review.queue.records import Person, PersonId

    desk = _open(url)
    said: dict[str, Any] = {"role": Role(role)}
    for name, value in (("markets", markets), ("queues", queues), ("minutes_per_day", minutes_per_day)):
        if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT:
            said[name] = value
    if buyer is not None or said["role"] is not Role.ADVERTISER:
        said["buyer"] = None if buyer is None else BuyerId(buyer)
    with desk.reading() as tx:
        try:
            given = replace(find_person(tx, person_id), **said)
        except UnknownRecordError:
            given = Person(PersonId(person_id), **said)
    put_person(desk, None, given)
    _tell(f"{role} saved" if given.is_active else f"{role} saved, who is not active and cannot sign in")


@queue.command()
@_database
@click.argument("person_id")
@click.option("--days", default=30, show_default=True, type=click.IntRange(1, 3650))
@click.option("--revoke", is_flag=True, help="End all tokens of the person instead.")
def token(url: str, person_id: str, days: int, revoke: bool) -> None:
    """Print a new token for a person; it cannot be shown again."""
    from adyton.review.queue.people import issue_token, revoke_tokens
    from adyton.review.queue.records import PersonId

    desk = _open(url)
    if revoke:
        _tell(f"{revoke_tokens(desk, None, PersonId(person_id))} tokens ended")
        return
    click.echo(issue_token(desk, None, PersonId(person_id), days=days))


@queue.command()
@_database
@click.argument("label")
@click.option("--title", required=True)
@click.option("--text", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="File with the wording.")
@click.option("--worst", type=click.Choice(("limited", "rejected")), required=True, help="What a finding may say.")
def policy(url: str, label: str, title: str, text: Path | None, worst: str) -> None:
    """Publish a policy or its next version."""
    from adyton.review.queue.policy_book import put_policy
    from adyton.review.queue.states import Verdict

    wording = "" if text is None else text.read_text(encoding="utf-8", errors="replace")
    published = put_policy(_open(url), None, label, title, wording, Verdict(worst))
    _tell(f"{label} is at version {published.version}")


@queue.command(name="import")
@_database
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@click.option("--as", "person_id", required=True, help="The lead in whose name the ads are submitted.")
@click.option("--buyer", help="Whose ads these are, where the file has no column `buyer`.")
@click.option("--render-url", help="Address with {ad_id} in it, where the file has no column `render_url`.")
@click.option("--currency", default="USD", show_default=True, help="Where the file has no column `currency`.")
@click.option(
    "--moderators", "with_moderators", is_flag=True, help="Add the people of the sheet of moderators as well."
)
@click.option("--dry-run", is_flag=True, help="Report bad rows and load nothing.")
@click.option("--json", "as_json", is_flag=True, help="One object: n_new, n_known, n_people, faults.")
def import_(
    url: str,
    file: Path,
    person_id: str,
    buyer: str | None,
    render_url: str | None,
    currency: str,
    with_moderators: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Submit the ads of a workbook (.xlsx, or .csv and .parquet side by side), as `adyton review` reads it.

    A row that cannot be used is reported and left out; the same file again changes nothing.
    """
    from adyton.review.queue.workbook_intake import Defaults, Loaded, load, read_intake

    desk = _open(url)
    intake = read_intake(file, Defaults(buyer, render_url, currency), with_moderators=with_moderators)
    if dry_run:
        loaded = Loaded(len(intake.submissions), 0, len(intake.people), intake.faults)
    else:
        step = _progress(len(intake.submissions) + len(intake.people))
        loaded = load(desk, person_id, intake, on_progress=step)
    for fault in loaded.faults[: None if as_json else 50]:
        _tell(str(fault))
    counts = {"n_new": loaded.n_new, "n_known": loaded.n_known, "n_people": loaded.n_people}
    if as_json:
        click.echo(json.dumps(counts | {"faults": [asdict(one) for one in loaded.faults]}))
    rest = f" ({len(loaded.faults) - 50} more are not shown)" if len(loaded.faults) > 50 and not as_json else ""
    if dry_run:
        _tell(f"{loaded.n_new} ads and {loaded.n_people} people could be loaded; {len(loaded.faults)} bad rows{rest}")
        return
    _tell(
        f"{loaded.n_new} ads are new, {loaded.n_known} were there, {loaded.n_people} people are new; "
        f"{len(loaded.faults)} bad rows{rest}"
    )


def _progress(total: int) -> Callable[[int], None] | None:
    """Shows how far an import is, on a terminal only."""
    if not sys.stderr.isatty():
        return None

    def show(done: int) -> None:
        click.echo(f"\r{done} of {total}", err=True, nl=done >= total)

    return show


@queue.command()
@_database
@click.option(
    "--keeps",
    multiple=True,
    type=click.Choice(("placement", "age")),
    help="A kind of limit that is kept where the ads go; without it ads with such a limit are kept back.",
)
def export(url: str, keeps: tuple[str, ...]) -> None:
    """Print the approved ads, one JSON object a line."""
    from adyton.review.queue.export import Limit, export_approved

    found = export_approved(_open(url), None, frozenset(map(Limit, keeps)))
    for ad in found.ads:
        click.echo(json.dumps(asdict(ad), ensure_ascii=False))
    _tell(f"{len(found.ads)} ads; {found.n_kept_back} kept back, their limits would not be kept")


@queue.command()
@_database
@click.option("--json", "as_json", is_flag=True, help="One object: n_events, newest_hash.")
def verify(url: str, as_json: bool) -> None:
    """Check every link of the event chain. Keep the newest hash elsewhere to notice a cut-off tail."""
    from adyton.review.queue.desk_views import verify_events

    count, newest = verify_events(_open(url), None)
    click.echo(json.dumps({"n_events": count, "newest_hash": newest}) if as_json else f"{count} events, {newest}")


@queue.command()
@_database
@click.option("--days", default=7, show_default=True, type=click.IntRange(1, 90), help="Days to look back.")
@click.option("--steps", default=150, show_default=True, type=click.IntRange(1, 10_000), help="Steps of the dual.")
@click.option("--json", "as_json", is_flag=True, help="One object: n_ads, n_days, price_micros by person.")
def price(url: str, days: int, steps: int, as_json: bool) -> None:
    """Find prices of moderators' time from the ads of the last days. `serve` does this every few hours."""
    from adyton.review.queue.pricing import price_moderators

    found = price_moderators(_open(url), None, days=days, n_steps=steps)
    if as_json:
        click.echo(json.dumps(asdict(found)))
        return
    for person_id, micros in sorted(found.price_micros.items()):
        click.echo(f"{person_id}\t{micros / 1e6:.4f}")
    _tell(f"prices of a minute, from {found.n_ads} ads on {found.n_days} days")


@queue.command()
@_database
def sweep(url: str) -> None:
    """Take back claims that are over and end ads whose end has come. `serve` does this by itself."""
    from adyton.review.queue.claiming import sweep as run_sweep

    lost, expired = run_sweep(_open(url))
    _tell(f"{lost} claims taken back, {expired} ads ended")


@queue.command()
def states() -> None:
    """Print the state table as the reference page shows it."""
    from adyton.review.queue.states import reference_page

    sys.stdout.write(reference_page())
