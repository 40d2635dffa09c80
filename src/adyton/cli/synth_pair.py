"""`adyton synth pair`: two tables with shared users, synthesized together."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import click

from adyton.cli.ledger_payment import WatchedRandom, ledger_options, paid, payment_of
from adyton.cli.output_folder import check_folder
from adyton.cli.synth_files import FILE, read_domains, read_schema, read_table, write_sample
from adyton.kernel.ledger import PrivacyLoss


@click.command("pair")
@click.argument("first", type=FILE)
@click.argument("second", type=FILE)
@click.option("--schema", "first_schema", type=FILE, required=True, help="Of FIRST.")
@click.option("--second-schema", type=FILE, required=True, help="Of SECOND.")
@click.option("--epsilon", required=True, help="Privacy loss of both tables together, exact text such as 3 or 0.5.")
@click.option("--delta", default="1e-6", show_default=True, help="Privacy loss, exact text.")
@click.option("--max-rows-per-user", type=click.IntRange(1, 8), default=4, show_default=True, help="In each table.")
@click.option("--domains", "domains_file", type=FILE, help="JSON with public values, edges or spans of columns.")
@click.option("-n", "--rows", type=click.IntRange(1), required=True, help="Rows of the first synthetic table.")
@click.option("--second-rows", type=click.IntRange(1), required=True, help="Rows of the second.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of sampling; noise is never repeated.")
@ledger_options
@click.option("-o", "--output", type=FILE, required=True, help="Parquet file of the first synthetic table.")
@click.option("--second-output", type=FILE, required=True, help="Parquet file of the second.")
def pair_command(
    first: Path,
    second: Path,
    first_schema: Path,
    second_schema: Path,
    epsilon: str,
    delta: str,
    max_rows_per_user: int,
    domains_file: Path | None,
    rows: int,
    second_rows: int,
    seed: int,
    ledger: Path | None,
    counter: Path | None,
    owner: str,
    population: str,
    budget_epsilon: str,
    budget_delta: str,
    output: Path,
    second_output: Path,
) -> None:
    """Two tables with the same users become two synthetic tables in which they are the same synthetic users.

    EPSILON covers all rows of a user in both. What survives of the relation is how often a user appears and clicks in
    one table given the other.
    """
    from adyton.kernel.chance import stream
    from adyton.learning.synth.linked import fit_linked
    from adyton.learning.synth.plugins import DEFAULT, statement_as_json, statement_of

    if output.absolute() == second_output.absolute():
        raise click.UsageError("--output and --second-output are the same file")
    check_folder(output, second_output)
    loss = PrivacyLoss.of(epsilon, delta)
    payment = payment_of(ledger, counter, owner, population, budget_epsilon, budget_delta)
    tables = [
        (read_table(path), read_schema(schema)) for path, schema in ((first, first_schema), (second, second_schema))
    ]
    random = WatchedRandom()
    with nullcontext() if payment is None else paid(payment, loss, random, "synthetic table"):
        model = fit_linked(
            *tables[0],
            *tables[1],
            loss=loss,
            max_rows_per_user=max_rows_per_user,
            domains=read_domains(domains_file),
            source=random,
        )
    words = {
        **statement_as_json(DEFAULT, statement_of(model.first)),
        "epsilon": str(loss.epsilon),
        "delta": str(loss.delta),
    }
    words["covers"] = "both tables of a pair together"
    for made, path in zip(
        model.sample(rows, second_rows, stream(seed, "adyton synth pair")), (output, second_output), strict=True
    ):
        write_sample([made], path, {**words, "seed": seed})
    click.echo(json.dumps(words))
