"""`adyton ctr`: train, evaluate and export factorised click models on any table."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from adyton.cli.ctr_compare import compare_command, cross_domain_command
from adyton.cli.ctr_data import FILE, data_options, data_sha256, epoch_ms, load, times_of, write_or_explain
from adyton.cli.ctr_private import private_options, train_and_pay
from adyton.cli.ledger_payment import payment_of
from adyton.cli.options_given import refuse_if_given
from adyton.cli.output_folder import check_folder
from adyton.kernel.errors import BadInputError
from adyton.kernel.ledger import PrivacyLoss

if TYPE_CHECKING:
    import pyarrow as pa

    from adyton.learning.ctr.reliability import Reliability
    from adyton.learning.ctr.training import TrainedModel
    from adyton.learning.metrics import Evaluation, Interval, ReliabilityBin
    from adyton.learning.schema import TableSchema

DRAWS_FOR_THE_PRICE = 200


@click.group()
def ctr() -> None:
    """Click-through models that split into a user part, an ad part and a context part.

    DATA is a file, or the name of a shipped table: kuairand-publisher, kuairand-advertiser, kuairand-full.
    """


ctr.add_command(compare_command)
ctr.add_command(cross_domain_command)


@ctr.command("train")
@data_options
@click.option("--validation-from", required=True, metavar="TIME", help="ISO 8601, such as 2022-05-04T00:00+08:00.")
@click.option("--test-from", required=True, metavar="TIME", help="Later rows are not looked at.")
@click.option("--feature", "features", multiple=True, help="A column to use; default all but the user id.")
@click.option("--with-user-id", is_flag=True, help="Let the model learn single users.")
@click.option("--stop-on", type=click.Choice(["auc", "gauc", "xauc", "logloss"]), default="auc", show_default=True)
@click.option(
    "--recipe",
    type=click.Choice(["single", "ensemble", "distilled"]),
    default="single",
    show_default=True,
    help="One network, or twelve wider ones with tastes from a second pass: still one factorised model. Distilled: "
    "three networks that learned from fifteen of those, with an eighth of the vectors of twelve.",
)
@click.option("--members", type=click.IntRange(1, 16), help="Networks to average; default as in the recipe.")
@click.option("--epochs", type=click.IntRange(1), help="Passes at most; default 8, and 1 for the ensemble.")
@click.option(
    "--min-count", type=click.IntRange(1), help="Rarer values count as unknown; default by the rows, 5 to 20."
)
@click.option(
    "--trainer",
    type=click.Choice(["rows", "batches"]),
    default="rows",
    show_default=True,
    help="Row by row on the CPU, or in batches with torch (a GPU where it finds one).",
)
@click.option(
    "--live-level",
    is_flag=True,
    help="Fit how fast users' levels follow their outcomes while the model is live.",
)
@click.option("--start", type=FILE, help="A model to go on from, such as yesterday's: its fields and weights are kept.")
@click.option(
    "--twin/--no-twin",
    default=True,
    show_default=True,
    help="Train an unfactorised twin too and say what factorising costs on the validation rows; takes as long again. "
    "None with --start and --dp-epsilon.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@private_options
@click.option("-o", "--output", type=FILE, required=True, help="Where the model goes.")
@click.option("--json", "as_json", is_flag=True, help="Print the training report as JSON.")
def train_command(
    data: str,
    kind: str,
    schema_file: Path | None,
    validation_from: str,
    test_from: str,
    features: tuple[str, ...],
    with_user_id: bool,
    stop_on: str,
    recipe: str,
    members: int | None,
    epochs: int | None,
    min_count: int | None,
    trainer: str,
    live_level: bool,
    start: Path | None,
    twin: bool,
    seed: int,
    dp_epsilon: str | None,
    dp_delta: str,
    ledger: Path | None,
    counter: Path | None,
    owner: str,
    population: str,
    budget_epsilon: str,
    budget_delta: str,
    output: Path,
    as_json: bool,
) -> None:
    """Train on DATA's rows before --validation-from, stop on the rows before --test-from.

    With --dp-epsilon the model is differentially private for each user, paid from the owner's ledger. Such training
    looks at nothing else of the data: no row of --validation-from on, no early stop, no calibration.
    """
    from adyton.learning.ctr import store
    from adyton.learning.ctr.config import TrainConfig, Trainer
    from adyton.learning.ctr.live_level import with_live_level
    from adyton.learning.ctr.recipe import DISTILLED, ENSEMBLE
    from adyton.learning.ctr.references import compare
    from adyton.learning.ctr.training import Check, RowSplit, train
    from adyton.learning.metrics import Metric

    if dp_epsilon is not None:
        own = ("stop_on", "recipe", "members", "epochs", "min_count", "trainer", "twin")
        refuse_if_given(*own, why="is not for --dp-epsilon, whose training looks at nothing else of the data")
    else:
        refuse_if_given("dp_delta", why="needs --dp-epsilon")
    if start is not None:
        refuse_if_given("features", "with_user_id", "members", "min_count", why="is settled by --start")
        refuse_if_given("twin", why="has no meaning with --start: a twin would not know the earlier rows")
    check_folder(output)
    table, schema = load(data, kind, schema_file)
    chosen = features or None
    if with_user_id and chosen is None:
        chosen = tuple(column.name for column in schema.features())
    split = RowSplit.of_times(
        times_of(table, schema), validation_from_ms=epoch_ms(validation_from), test_from_ms=epoch_ms(test_from)
    )
    payment = payment_of(ledger, counter, owner, population, budget_epsilon, budget_delta)
    if dp_epsilon is not None:
        if with_user_id or live_level or start is not None:
            raise click.UsageError("--dp-epsilon goes with none of --with-user-id, --live-level and --start")
        if payment is None:
            raise click.UsageError("--dp-epsilon needs --ledger and --counter: every private model is paid for")
        loss = PrivacyLoss.of(dp_epsilon, dp_delta)
        train_and_pay(table, schema, split.train, features or None, payment, loss, output, seed=seed, as_json=as_json)
        return
    if payment is not None:
        raise click.UsageError("--ledger pays for --dp-epsilon, which is missing")
    base = {"single": TrainConfig(), "ensemble": ENSEMBLE, "distilled": DISTILLED}[recipe]
    config = replace(
        base,
        features=chosen,
        stop_on=Metric(stop_on),
        members=members or base.members,
        max_epochs=epochs or base.max_epochs,
        min_count=min_count,
        trainer=Trainer(trainer),
    )

    def show(check: Check) -> None:
        click.echo(
            f"member {check.member + 1}: {check.rows_seen} rows, validation {stop_on} {check.value:.4f}", err=True
        )

    model = train(
        table,
        schema,
        split=split,
        config=config,
        seed=seed,
        start=store.load(start) if start else None,
        data_sha256=data_sha256(data),
        progress=show if sys.stderr.isatty() else None,
    )
    if live_level:
        model = with_live_level(model, table, split.validation)
    write_or_explain(lambda: store.save(model, output), output)
    best = max(model.checks, key=lambda c: c.value if config.stop_on.higher_is_better else -c.value)
    price: dict[str, Interval] | None = None
    if twin and start is None:
        (reference,) = compare(
            model, table, split=split, test=split.validation, names=["twin"], draws=DRAWS_FOR_THE_PRICE
        )
        price = {metric.value: change for metric, change in reference.difference.items()}
    report = {
        "model": str(output),
        "training_rows": model.training_rows,
        "validation_rows": len(split.validation),
        "fields": [field.name for field in model.encoder.fields],
        f"validation_{stop_on}": best.value,
        "live_precision": model.live_precision,
        "factorised_minus_twin": None if price is None else {name: change.as_json() for name, change in price.items()},
        "seed": seed,
    }
    if as_json:
        click.echo(json.dumps(report))
    else:
        click.echo(f"{output}: {model.training_rows} rows, {len(model.encoder.fields)} fields, "
                   f"validation {stop_on} {best.value:.4f}")  # fmt: skip
        for name, change in (price or {}).items():
            click.echo(f"{name:8} {change} against an unfactorised twin, on the validation rows")


@ctr.command("evaluate")
@click.argument("model", type=FILE)
@data_options
@click.option("--test-from", metavar="TIME", help="Measure only rows from here on.")
@click.option("--live", is_flag=True, help="Let users' levels follow the outcomes of their earlier rows, as when live.")
@click.option("--against", type=FILE, help="Another model: differences with intervals over users.")
@click.option("--draws", type=click.IntRange(10), default=500, show_default=True, help="Bootstrap draws.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the bootstrap.")
@click.option("--figures", type=click.Path(file_okay=False, path_type=Path), help="Folder for reliability.svg, .png.")
@click.option("--json", "as_json", is_flag=True)
def evaluate_command(
    model: Path,
    data: str,
    kind: str,
    schema_file: Path | None,
    test_from: str | None,
    live: bool,
    against: Path | None,
    draws: int,
    seed: int,
    figures: Path | None,
    as_json: bool,
) -> None:
    """Measure MODEL on DATA: AUC, GAUC, xAUC, log loss, calibration error.

    With --live, MODEL is one of `adyton ctr train --live-level` that went live at the first row measured.
    """
    import numpy as np
    import pyarrow as pa

    from adyton.kernel.chance import stream
    from adyton.learning.ctr import store
    from adyton.learning.ctr.calibration import probabilities
    from adyton.learning.ctr.live_level import live_logits
    from adyton.learning.ctr.reliability import measured_reliability
    from adyton.learning.metrics import Metric, evaluate, paired_user_bootstrap

    if against is None:
        refuse_if_given("draws", "seed", why="is for --against")
    trained = store.load(model)
    base = store.load(against) if against else None
    table, schema = load(data, kind, schema_file)
    if test_from is not None:
        table = table.take(pa.array(np.flatnonzero(times_of(table, schema) >= epoch_ms(test_from))))
    labels = table[schema.label.name].cast(pa.int64()).to_numpy()
    users = table[schema.user_id.name].combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    predicted = probabilities(live_logits(trained, table)) if live else trained.predict(table)
    measured = evaluate(labels, predicted, users)
    curves = {model.name: measured_reliability(labels, predicted, users)}
    report: dict[str, object] = {
        **measured.as_json(),
        "reliability": [part.as_json() for part in curves[model.name].bins],
    }
    difference: dict[str, Interval] = {}
    if base is not None:
        old = base.predict(table)
        curves[f"against {against}"] = measured_reliability(labels, old, users)
        difference = {
            metric.value: paired_user_bootstrap(
                labels, users, old, predicted, rng=stream(seed, "bootstrap"), metric=metric, draws=draws
            )
            for metric in Metric
        }
        report["difference"] = {name: change.as_json() for name, change in difference.items()}
    if figures is not None:
        _draw(curves, figures)
    if as_json:
        click.echo(json.dumps(report))
        return
    for name, value in measured.as_json().items():
        click.echo(f"{name:8} {value:.4f}" if isinstance(value, float) else f"{name:8} {value}")
    for name, change in difference.items():
        click.echo(f"{name:8} {change} against {against}")


def _draw(curves: dict[str, Reliability], folder: Path) -> None:
    from adyton.learning.ctr.reliability_figure import write_reliability_figure  # matplotlib takes a second to load

    def write() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for ending in ("svg", "png"):
            write_reliability_figure(curves, folder / f"reliability.{ending}")

    write_or_explain(write, folder)
    click.echo(f"{folder / 'reliability.svg'}, .png", err=True)


@ctr.command("export")
@click.argument("model", type=FILE)
@data_options
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), required=True, help="A new folder.")
@click.option("--name", default="ctr", show_default=True)
@click.option("--test-from", metavar="TIME", help="Measure on the rows from here on and write a model card.")
def export_command(
    model: Path, data: str, kind: str, schema_file: Path | None, output: Path, name: str, test_from: str | None
) -> None:
    """Write MODEL to a folder: user tower (ONNX, TorchScript), ads and contexts of DATA (Parquet), manifest (JSON)."""
    from adyton.learning.ctr import store
    from adyton.learning.ctr.artifact import distinct_contexts, export, latest_rows, user_tower_torchscript
    from adyton.learning.ctr.model_card import model_card

    trained = store.load(model)
    table, schema = load(data, kind, schema_file)
    if output.exists():
        raise BadInputError("this folder exists", where=str(output), hint="name a new one")
    measured, bins = _measured(trained, table, schema, epoch_ms(test_from)) if test_from is not None else (None, ())
    artifact = export(
        trained,
        items=latest_rows(table, schema.item_id.name, schema.time.name),
        contexts=distinct_contexts(trained, table),
        name=name,
        metrics=measured.as_json() if measured is not None else None,
    )
    parts = {
        "user_tower.onnx": artifact.user_tower_onnx,
        "user_tower.pt": user_tower_torchscript(trained),
        "ads.parquet": artifact.ad_vectors_parquet,
        "contexts.parquet": artifact.context_vectors_parquet,
        "manifest.json": json.dumps(dict(artifact.manifest), indent=1).encode(),
    }
    if measured is not None:
        parts["model_card.md"] = model_card(trained, name=name, measured=measured, bins=bins).encode()

    def write() -> None:
        partial = output.with_name(output.name + ".partial")
        partial.mkdir(parents=True)
        for file_name, content in parts.items():
            (partial / file_name).write_bytes(content)
        partial.rename(output)

    write_or_explain(write, output)
    for file_name, content in parts.items():
        click.echo(f"{output / file_name}: {len(content)} bytes")


def _measured(
    trained: TrainedModel, table: pa.Table, schema: TableSchema, test_from_ms: int
) -> tuple[Evaluation, tuple[ReliabilityBin, ...]]:
    import numpy as np
    import pyarrow as pa

    from adyton.learning.metrics import evaluate, reliability

    test = table.take(pa.array(np.flatnonzero(times_of(table, schema) >= test_from_ms)))
    labels = test[schema.label.name].cast(pa.int64()).to_numpy()
    users = test[schema.user_id.name].combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    predicted = trained.predict(test)
    return evaluate(labels, predicted, users), reliability(labels, predicted)
