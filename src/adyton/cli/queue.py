"""`adyton queue`: serve the live review queue and look after its database."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
_ROLES = ("moderator", "lead", "auditor", "advertiser")


def _database(command: F) -> F:
    return click.option(
        "--database",
        "url",
        envvar="ADYTON_QUEUE_DATABASE",
        show_envvar=True,
        default="sqlite:///queue.db",
        show_default=True,
        help="sqlite:///FILE or postgresql://USER@HOST/DATABASE.",
    )(command)


def _open(url: str, *, connections: int = 2, is_new: bool = False, **rules: Any) -> Any:
    from adyton.review.queue.clocks import DeskRules
    from adyton.review.queue.desk import Desk, open_engine
    from adyton.review.queue.schema import require_newest

    desk = Desk(open_engine(url, connections=connections), DeskRules(**rules))
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
@click.option("--claim-minutes", default=10, show_default=True, type=click.IntRange(1), help="Length of a lock.")
@click.option("--golden-one-in", default=0, show_default=True, type=click.IntRange(0), help="0: no golden items.")
@click.option("--second-one-in", default=0, show_default=True, type=click.IntRange(0), help="0: no second opinions.")
def serve(
    url: str, host: str, port: int, threads: int, claim_minutes: int, golden_one_in: int, second_one_in: int
) -> None:
    """Serve pages and API until interrupted."""
    from adyton.console.review_queue.app import create_app
    from adyton.console.review_queue.server import address_of, listen
    from adyton.console.review_queue.server import serve as serve_app

    desk = _open(
        url,
        connections=threads + 2,
        claim_minutes=claim_minutes,
        golden_one_in=golden_one_in,
        second_one_in=second_one_in,
    )
    sock = listen(host, port)
    _tell(f"listening on {address_of(sock)}")
    serve_app(create_app(desk, threads=threads), sock)


@queue.command()
@_database
@click.argument("person_id")
@click.option("--role", type=click.Choice(_ROLES), required=True)
@click.option("--buyer", help="Of an advertiser: whose ads.")
@click.option("--market", "markets", multiple=True, help="What a moderator judges; may be given several times.")
@click.option("--queue", "queues", multiple=True, help="Escalation queue that the person serves.")
def person(
    url: str, person_id: str, role: str, buyer: str | None, markets: tuple[str, ...], queues: tuple[str, ...]
) -> None:
    """Add or change a person. The first lead is made here; a lead does the rest over the API."""
    from adyton.kernel.ids import BuyerId
    from adyton.review.queue.people import put_person
    from adyton.review.queue.permissions import Role
    from adyton.review.queue.records import Person, PersonId

    buyer_id = None if buyer is None else BuyerId(buyer)
    given = Person(PersonId(person_id), Role(role), buyer=buyer_id, markets=markets, queues=queues)
    put_person(_open(url), None, given)
    _tell(f"{role} saved")


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
