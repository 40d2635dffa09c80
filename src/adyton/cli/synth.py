"""`adyton synth`: make a synthetic table under a stated privacy loss, and measure it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from adyton.cli.ledger_payment import WatchedRandom, ledger_options, paid, payment_of
from adyton.cli.options_given import refuse_if_given
from adyton.cli.output_folder import check_folder
from adyton.cli.synth_files import (
    FILE,
    read_bytes,
    read_domains,
    read_schema,
    read_table,
    reading,
    stated,
    write_bytes,
    write_sample,
)
from adyton.cli.synth_pair import pair_command
from adyton.kernel.errors import BadInputError
from adyton.kernel.ledger import PrivacyLoss

if TYPE_CHECKING:
    import pyarrow as pa

    from adyton.learning.schema import TableSchema
    from adyton.learning.synth.domains import PublicDomain
    from adyton.learning.synth.reading import Columns

_NAMES = "label-tree; autoregressive (no guarantee); or your own class as module:Class, whose code is then run."
STRUCTURE = click.Choice(["star", "tree", "junction-tree"])


@click.group()
def synth() -> None:
    """Synthetic tables with differential privacy: fit, sample, report."""


synth.add_command(pair_command)


@synth.command("fit")
@click.argument("table", type=FILE)
@click.option("--schema", "schema_file", type=FILE, required=True, help="JSON with a role and kind for each column.")
@click.option("--synthesizer", default="label-tree", show_default=True, metavar="NAME", help=_NAMES)
@click.option("--epsilon", help="Privacy loss, exact text such as 3 or 0.5; leave out only to do without a guarantee.")
@click.option("--delta", default="1e-6", show_default=True, help="Privacy loss, exact text.")
@click.option(
    "--unit", type=click.Choice(["user", "row"]), default="user", show_default=True, help="What is protected."
)
@click.option("--max-rows-per-user", type=click.IntRange(1), default=4, show_default=True)
@click.option(
    "--structure",
    type=STRUCTURE,
    default="tree",
    show_default=True,
    help="Which tables label-tree measures besides each column with the label.",
)
@click.option("--domains", "domains_file", type=FILE, help="JSON with public values, edges or spans of columns.")
@click.option(
    "--minutes",
    type=click.FloatRange(0, min_open=True),
    default=10.0,
    show_default=True,
    help="Longest training of the autoregressive synthesizer.",
)
@click.option("--insecure-fixed-noise", "fixed_seed", type=int, metavar="SEED", help="Repeatable. Protects nobody.")
@ledger_options
@click.option("-o", "--output", type=FILE, required=True, help="Where the fitted synthesizer goes.")
@click.option("--json", "as_json", is_flag=True, help="Print what was spent as JSON.")
def fit_command(
    table: Path,
    schema_file: Path,
    synthesizer: str,
    epsilon: str | None,
    delta: str,
    unit: str,
    max_rows_per_user: int,
    structure: str,
    domains_file: Path | None,
    minutes: float,
    fixed_seed: int | None,
    ledger: Path | None,
    counter: Path | None,
    owner: str,
    population: str,
    budget_epsilon: str,
    budget_delta: str,
    output: Path,
    as_json: bool,
) -> None:
    """Fit a synthesizer to TABLE (Parquet) and print what it spent."""
    from adyton.kernel.chance import InsecureFixedRandom
    from adyton.learning.synth.contract import FitRequest
    from adyton.learning.synth.plugins import AUTOREGRESSIVE, DEFAULT, fit_named, stated_guarantee, statement_as_json
    from adyton.learning.synth.reading import without_ignored
    from adyton.learning.synth.structure import Structure

    if synthesizer != DEFAULT:
        refuse_if_given("structure", why=f"is for --synthesizer {DEFAULT}")
    if synthesizer == DEFAULT:
        refuse_if_given("minutes", why=f"is for synthesizers that train until they stop improving; {DEFAULT} does not")
    if synthesizer == AUTOREGRESSIVE:
        bounds = ("unit", "max_rows_per_user", "domains_file")
        refuse_if_given(*bounds, why=f"belongs to a guarantee, and {AUTOREGRESSIVE} gives none")
    if unit == "row" and synthesizer == DEFAULT:
        refuse_if_given("max_rows_per_user", why="is for --unit user")
    if epsilon is None:
        refuse_if_given("delta", why="needs --epsilon")
    payment = payment_of(ledger, counter, owner, population, budget_epsilon, budget_delta)
    if payment is not None and (epsilon is None or fixed_seed is not None):
        raise click.UsageError("--ledger pays for a guarantee: give --epsilon, and no fixed noise")
    random = WatchedRandom()
    request = FitRequest(
        loss=None if epsilon is None else PrivacyLoss.of(epsilon, delta),
        unit=unit,
        max_rows_per_user=max_rows_per_user,
        domains=read_domains(domains_file),
        minutes=minutes,
        structure=Structure(structure),
        source=random if fixed_seed is None else InsecureFixedRandom(fixed_seed, "adyton synth fit"),
    )
    check_folder(output)
    schema = without_ignored(read_schema(schema_file))
    rows = _rows_to_fit(table, synthesizer)
    held = (
        nullcontext()
        if payment is None or request.loss is None
        else paid(payment, request.loss, random, "synthetic table")
    )
    with held:
        fitted = fit_named(synthesizer, rows, schema, request)
    write_bytes(output, fitted.to_bytes())
    statement = fitted.statement
    if statement.loss is None:
        click.echo("warning: no privacy guarantee; what this makes may hold people's rows", err=True)
    elif not statement.noise_is_secure:
        click.echo("warning: fixed noise protects nobody; do not release this", err=True)
    words = statement_as_json(synthesizer, statement)
    click.echo(json.dumps(words) if as_json else f"guarantee: {stated_guarantee(words)}; {statement.reason}")


@synth.command("sample")
@click.argument("model", type=FILE)
@click.option("-n", "--rows", type=click.IntRange(1), required=True, help="How many rows to make.")
@click.option("--synthesizer", default="label-tree", show_default=True, metavar="NAME", help=_NAMES)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("-o", "--output", type=FILE, help="Parquet file; CSV goes to stdout without it.")
def sample_command(model: Path, rows: int, synthesizer: str, seed: int, output: Path | None) -> None:
    """Sample a table from a fitted MODEL. Costs no further budget."""
    from adyton.kernel.chance import stream
    from adyton.learning.synth.plugins import load_named, stated_guarantee, statement_as_json

    fitted = load_named(synthesizer, read_bytes(model))
    made = fitted.batches(rows, stream(seed, "adyton synth sample"))
    words = statement_as_json(synthesizer, fitted.statement)
    if output is None:
        _print_csv(made)
    else:
        write_sample(made, output, {**words, "seed": seed})
    click.echo(f"{rows} synthetic rows; guarantee: {stated_guarantee(words)}", err=True)


@synth.command("report")
@click.option("--synthetic", type=FILE, required=True, help="The synthetic table (Parquet).")
@click.option("--train", type=FILE, required=True, help="The real rows it was made from.")
@click.option("--holdout", type=FILE, required=True, help="Real rows of other users, same days: the control group.")
@click.option("--test", type=FILE, help="Later real rows; adds utility.")
@click.option("--schema", "schema_file", type=FILE, required=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--shadow-models", type=click.IntRange(0), default=0, help="Refit this often and attack; even, 16 is good."
)
@click.option(
    "--max-rows-per-user",
    type=click.IntRange(1),
    default=4,
    show_default=True,
    help="As in the fit, for shadow models.",
)
@click.option(
    "--structure", type=STRUCTURE, default="tree", show_default=True, help="As in the fit, for shadow models."
)
@click.option("--domains", "domains_file", type=FILE, help="As in the fit, for shadow models.")
@click.option("--partner-columns", metavar="A,B", help="Measure the lift of these columns; needs --test.")
@click.option("--match-on", metavar="COLUMN", help="For the lift: bins of the party's own score, in both tables.")
@click.option("--joined-schema", type=FILE, help="For the lift: schema of the real tables, if they hold more columns.")
@click.option("--json", "as_json", is_flag=True)
@click.option("--page", type=FILE, help="Also write a page (HTML) that says how to read the figures.")
def report_command(
    synthetic: Path,
    train: Path,
    holdout: Path,
    test: Path | None,
    schema_file: Path,
    seed: int,
    shadow_models: int,
    max_rows_per_user: int,
    structure: str,
    domains_file: Path | None,
    partner_columns: str | None,
    match_on: str | None,
    joined_schema: Path | None,
    as_json: bool,
    page: Path | None,
) -> None:
    """Measure a synthetic table: fidelity with its ceiling, utility, and what attacks find."""
    from adyton.learning.synth.plugins import DEFAULT
    from adyton.learning.synth.report import report, text
    from adyton.learning.synth.report_page import html

    if not shadow_models:
        refuse_if_given("max_rows_per_user", "structure", "domains_file", why="needs --shadow-models")
    if partner_columns is None:
        refuse_if_given("match_on", "joined_schema", why="needs --partner-columns")
    check_folder(page)
    synthetic_table, train_table, schema = read_table(synthetic), read_table(train), read_schema(schema_file)
    test_table = None if test is None else read_table(test)
    lift = None
    if partner_columns is not None:
        if test_table is None:
            raise BadInputError("the lift is measured on later real rows", hint="give --test")
        from adyton.learning.synth.lift import lift_kept

        wide = schema if joined_schema is None else read_schema(joined_schema)
        partner = [name.strip() for name in partner_columns.split(",")]
        lift = lift_kept(train_table, synthetic_table, test_table, wide, partner, score=match_on, seed=seed)
    guarantee = stated(synthetic_table)
    if isinstance(guarantee, dict) and guarantee.get("synthesizer") != DEFAULT:
        refuse_if_given("structure", why=f"is for tables by {DEFAULT}; the file names another synthesizer")
    shadow = None
    if shadow_models:
        from adyton.learning.synth.shadow import shadow_attack

        domains = read_domains(domains_file)
        refit = _refit(guarantee, schema, synthetic_table.num_rows, max_rows_per_user, structure, domains, seed)
        shadow = shadow_attack(train_table, schema, refit, shadows=shadow_models, seed=seed)
    made = report(
        synthetic=synthetic_table,
        guarantee=guarantee,
        train=train_table,
        holdout=read_table(holdout),
        test=test_table,
        schema=schema,
        seed=seed,
        shadow=shadow,
        lift=lift,
    )
    if page is not None:
        write_bytes(page, html(made).encode())
    click.echo(json.dumps(made.as_json(), indent=2) if as_json else text(made))


@synth.command("audit")
@click.option("--epsilon", default="3", show_default=True, help="The claim to test, exact text.")
@click.option("--delta", default="1e-7", show_default=True, help="The claim to test, exact text.")
@click.option("--canaries", type=click.IntRange(20), default=1000, show_default=True)
@click.option("--max-rows-per-user", type=click.IntRange(1), default=4, show_default=True)
@click.option(
    "--structure",
    type=STRUCTURE,
    default="tree",
    show_default=True,
    help="What is audited: a junction tree through its cliques.",
)
@click.option("--confidence", type=click.FloatRange(0.5, 1, max_open=True), default=0.95, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the canaries' coins; noise is never repeated.")
@click.option("--json", "as_json", is_flag=True)
def audit_command(
    epsilon: str,
    delta: str,
    canaries: int,
    max_rows_per_user: int,
    structure: str,
    confidence: float,
    seed: int,
    as_json: bool,
) -> None:
    """Try to refute the synthesizer's claim: a lower bound on its true epsilon, from canaries in a made-up table.

    Exit code 1 when the claim is refuted. Finding nothing proves nothing.
    """
    from adyton.kernel.chance import OsRandom
    from adyton.learning.synth.audit import audit
    from adyton.learning.synth.structure import Structure

    found = audit(
        PrivacyLoss.of(epsilon, delta),
        source=OsRandom(),
        seed=seed,
        canaries=canaries,
        max_rows_per_user=max_rows_per_user,
        confidence=confidence,
        structure=Structure(structure),
    )
    if as_json:
        click.echo(json.dumps(found.as_json()))
    else:
        click.echo(
            f"claimed epsilon {float(found.claimed.epsilon):g}; at {found.confidence:g} confidence the true one is at"
            f" least {found.epsilon_low:.2f}: {found.right} of {found.guesses} guesses right, {found.canaries} canaries"
        )
    if found.refutes_the_claim:
        click.echo("REFUTED: the synthesizer leaks more than it says", err=True)
        sys.exit(1)


def _refit(
    guarantee: object,
    schema: TableSchema,
    n_rows: int,
    max_rows_per_user: int,
    structure: str,
    domains: dict[str, PublicDomain],
    seed: int,
) -> Callable[[pa.Table, int], pa.Table]:
    """Fits as the file says that it was made. Fixed noise: shadow models are thrown away."""
    from adyton.kernel.chance import InsecureFixedRandom, stream
    from adyton.learning.synth.contract import FitRequest
    from adyton.learning.synth.plugins import fit_named
    from adyton.learning.synth.structure import Structure

    if not isinstance(guarantee, dict) or "synthesizer" not in guarantee:
        raise BadInputError("the synthetic table does not say how it was made, so that it cannot be made again")
    words = {str(key): value for key, value in guarantee.items()}
    loss = None if words.get("epsilon") is None else PrivacyLoss.of(str(words["epsilon"]), str(words["delta"]))

    def refit(rows: pa.Table, number: int) -> pa.Table:
        source = InsecureFixedRandom(seed, "shadow model", number)
        unit = str(words["unit"]) if loss is not None else "user"
        request = FitRequest(loss, unit, max_rows_per_user, source, domains, structure=Structure(structure))
        fitted = fit_named(str(words["synthesizer"]), rows, schema, request)
        return fitted.sample(n_rows, stream(seed, "shadow sample", number))

    return refit


def _rows_to_fit(path: Path, synthesizer: str) -> Columns:
    """The table, for our own synthesizer column by column, so that large files fit."""
    from adyton.learning.synth.plugins import DEFAULT
    from adyton.learning.synth.reading import ParquetColumns

    if synthesizer != DEFAULT:
        return cast("Columns", read_table(path))
    with reading(path):
        return ParquetColumns(path)


def _print_csv(batches: Iterable[pa.Table]) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv

    for number, table in enumerate(batches):
        for name in table.column_names:
            if pa.types.is_list(table.schema.field(name).type):
                joined = pc.binary_join(table[name].cast(pa.list_(pa.string())), "^")
                table = table.set_column(table.column_names.index(name), name, joined)
        csv.write_csv(table, sys.stdout.buffer, csv.WriteOptions(include_header=number == 0))
