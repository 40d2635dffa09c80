"""`adyton ctr compare` and `cross-domain`: what a model gives up by factorising, what a party gains from another."""

from __future__ import annotations

import json
from pathlib import Path

import click

from adyton.cli.ctr_data import FILE, KINDS, data_options, epoch_ms, load, times_of


@click.command("compare")
@click.argument("model", type=FILE)
@data_options
@click.option("--validation-from", required=True, metavar="TIME", help="As in `adyton ctr train`.")
@click.option("--test-from", required=True, metavar="TIME", help="Measure on the rows from here on.")
@click.option("--only", multiple=True, type=click.Choice(["twin", "logistic regression", "lightgbm"]))
@click.option("--draws", type=click.IntRange(10), default=500, show_default=True, help="Bootstrap draws over users.")
@click.option("--json", "as_json", is_flag=True)
def compare_command(
    model: Path,
    data: str,
    kind: str,
    schema_file: Path | None,
    validation_from: str,
    test_from: str,
    only: tuple[str, ...],
    draws: int,
    as_json: bool,
) -> None:
    """The price of factorising: MODEL beside models that read all fields at once, on the same rows and fields.

    The twin has MODEL's shape with one tower over all fields. None of them can be exported.
    """
    import numpy as np
    import pyarrow as pa

    from adyton.learning.ctr import store
    from adyton.learning.ctr.references import REFERENCES, compare
    from adyton.learning.ctr.training import RowSplit
    from adyton.learning.metrics import Metric, evaluate

    trained = store.load(model)
    table, schema = load(data, kind, schema_file)
    times = times_of(table, schema)
    split = RowSplit.of_times(times, validation_from_ms=epoch_ms(validation_from), test_from_ms=epoch_ms(test_from))
    test = np.flatnonzero(times >= epoch_ms(test_from))
    found = compare(trained, table, split=split, test=test, names=only or tuple(REFERENCES), draws=draws)
    rows = table.take(pa.array(test))
    users = rows[schema.user_id.name].combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    own = evaluate(rows[schema.label.name].cast(pa.int64()).to_numpy(), trained.predict(rows), users)
    if as_json:
        report = {"factorised": own.as_json(), "references": [reference.as_json() for reference in found]}
        click.echo(json.dumps(report))
        return
    names = [metric.value for metric in Metric]
    click.echo(f"{'':22}" + "".join(f"{name:>9}" for name in names))
    for name, measured in (("factorised", own), *((reference.name, reference.measured) for reference in found)):
        click.echo(f"{name:22}" + "".join(f"{getattr(measured, metric):9.4f}" for metric in names))
    for reference in found:
        title = "price of factorising" if reference.name == "twin" else f"against {reference.name}"
        click.echo(f"{title} (factorised - {reference.name}):")
        for metric, change in reference.difference.items():
            click.echo(f"  {metric.value:8} {change}")


@click.command("cross-domain")
@click.option("--advertiser", default="kuairand-advertiser", show_default=True, metavar="DATA")
@click.option("--advertiser-kind", type=click.Choice(KINDS), default="table", show_default=True)
@click.option("--advertiser-schema", type=FILE, help="JSON with role and kind of each column.")
@click.option("--publisher", default="kuairand-publisher", show_default=True, metavar="DATA")
@click.option("--publisher-kind", type=click.Choice(KINDS), default="table", show_default=True)
@click.option("--publisher-schema", type=FILE, help="JSON with role and kind of each column.")
@click.option("--validation-from", default="2022-05-04T00:00+08:00", show_default=True, metavar="TIME")
@click.option("--test-from", default="2022-05-05T00:00+08:00", show_default=True, metavar="TIME")
@click.option("--members", type=click.IntRange(1, 16), default=3, show_default=True, help="Networks to average.")
@click.option("--draws", type=click.IntRange(10), default=500, show_default=True, help="Bootstrap draws over users.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def cross_domain_command(
    advertiser: str,
    advertiser_kind: str,
    advertiser_schema: Path | None,
    publisher: str,
    publisher_kind: str,
    publisher_schema: Path | None,
    validation_from: str,
    test_from: str,
    members: int,
    draws: int,
    seed: int,
    as_json: bool,
) -> None:
    """What each party gains from the other's data, against its own history."""
    from adyton.learning.ctr.cross_domain import Party, cross_domain

    gains = cross_domain(
        Party("advertiser", *load(advertiser, advertiser_kind, advertiser_schema)),
        Party("publisher", *load(publisher, publisher_kind, publisher_schema)),
        validation_from_ms=epoch_ms(validation_from),
        test_from_ms=epoch_ms(test_from),
        members=members,
        seed=seed,
        draws=draws,
    )
    if as_json:
        click.echo(json.dumps({"seed": seed, "members": members, "gains": [gain.as_json() for gain in gains]}))
        return
    names = ("auc", "gauc", "xauc", "logloss", "ece")
    click.echo(f"{'':34}" + "".join(f"{name:>9}" for name in names))
    for gain in gains:
        for what, measured in (("own history", gain.own), (f"with {gain.partner}'s data", gain.joined)):
            values = "".join(f"{getattr(measured, name):9.4f}" for name in names)
            click.echo(f"{gain.party + ', ' + what:34}{values}")
        for metric, change in gain.difference.items():
            click.echo(f"  {metric.value:8} {change}")
        click.echo(
            f"  {gain.own.rows} test rows, {gain.own.clicks} clicks; "
            f"{gain.rows_shared:.1%} of the rows by users that the {gain.partner} has seen too"
        )
