"""`adyton ctr`: train, evaluate and export factorised click models on any table."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from adyton.kernel.errors import BadInputError, UnavailableError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from adyton.learning.ctr.reliability import Reliability
    from adyton.learning.ctr.training import TrainedModel
    from adyton.learning.schema import TableSchema

_FILE = click.Path(dir_okay=False, path_type=Path)
_KINDS = ("table", "digix-ads", "digix-feeds")
_SHIPPED = ("kuairand-publisher", "kuairand-advertiser", "kuairand-full")


@click.group()
def ctr() -> None:
    """Click-through models that split into a user part, an ad part and a context part.

    DATA is a file, or the name of a shipped table: kuairand-publisher, kuairand-advertiser, kuairand-full.
    """


def _data_options(command: click.decorators.FC) -> click.decorators.FC:
    for option in reversed(
        (
            click.argument("data"),
            click.option("--kind", type=click.Choice(_KINDS), default="table", show_default=True, help="What DATA is."),
            click.option("--schema", "schema_file", type=_FILE, help="JSON with role and kind of each column."),
        )
    ):
        command = option(command)
    return command


@ctr.command("train")
@_data_options
@click.option("--validation-from", required=True, metavar="TIME", help="ISO 8601, such as 2022-05-04T00:00+08:00.")
@click.option("--test-from", required=True, metavar="TIME", help="Later rows are not looked at.")
@click.option("--feature", "features", multiple=True, help="A column to use; default all but the user id.")
@click.option("--with-user-id", is_flag=True, help="Let the model learn single users.")
@click.option("--stop-on", type=click.Choice(["auc", "gauc", "xauc", "logloss"]), default="auc", show_default=True)
@click.option("--members", type=click.IntRange(1, 16), default=1, show_default=True, help="Networks to average.")
@click.option("--epochs", type=click.IntRange(1), default=8, show_default=True)
@click.option(
    "--trainer",
    type=click.Choice(["rows", "batches"]),
    default="rows",
    show_default=True,
    help="Row by row on the CPU, or in batches with torch (a GPU where it finds one).",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("-o", "--output", type=_FILE, required=True, help="Where the model goes.")
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
    members: int,
    epochs: int,
    trainer: str,
    seed: int,
    output: Path,
    as_json: bool,
) -> None:
    """Train on DATA's rows before --validation-from, stop on the rows before --test-from."""
    from adyton.learning.ctr import store
    from adyton.learning.ctr.config import TrainConfig, Trainer
    from adyton.learning.ctr.training import Check, RowSplit, train
    from adyton.learning.metrics import Metric

    table, schema = _load(data, kind, schema_file)
    chosen = features or None
    if with_user_id and chosen is None:
        chosen = tuple(column.name for column in schema.features())
    split = RowSplit.of_times(
        _times(table, schema), validation_from_ms=_epoch_ms(validation_from), test_from_ms=_epoch_ms(test_from)
    )
    config = TrainConfig(
        features=chosen,
        stop_on=Metric(stop_on),
        members=members,
        max_epochs=epochs,
        trainer=Trainer(trainer),
    )

    def show(check: Check) -> None:
        click.echo(
            f"member {check.member + 1}: {check.rows_seen} rows, validation {stop_on} {check.value:.4f}", err=True
        )

    progress = show if sys.stderr.isatty() else None
    model = train(table, schema, split=split, config=config, seed=seed, progress=progress)
    _write(lambda: store.save(model, output), output)
    best = max(model.checks, key=lambda c: c.value if config.stop_on.higher_is_better else -c.value)
    report = {
        "model": str(output),
        "training_rows": model.training_rows,
        "validation_rows": len(split.validation),
        "fields": [field.name for field in model.encoder.fields],
        f"validation_{stop_on}": best.value,
        "seed": seed,
    }
    if as_json:
        click.echo(json.dumps(report))
    else:
        click.echo(f"{output}: {model.training_rows} rows, {len(model.encoder.fields)} fields, "
                   f"validation {stop_on} {best.value:.4f}")  # fmt: skip


@ctr.command("evaluate")
@click.argument("model", type=_FILE)
@_data_options
@click.option("--test-from", metavar="TIME", help="Measure only rows from here on.")
@click.option("--against", type=_FILE, help="Another model: differences with intervals over users.")
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
    against: Path | None,
    draws: int,
    seed: int,
    figures: Path | None,
    as_json: bool,
) -> None:
    """Measure MODEL on DATA: AUC, GAUC, xAUC, log loss, calibration error."""
    import numpy as np
    import pyarrow as pa

    from adyton.kernel.chance import stream
    from adyton.learning.ctr import store
    from adyton.learning.ctr.reliability import measured_reliability
    from adyton.learning.metrics import Metric, evaluate, paired_user_bootstrap

    trained = store.load(model)
    base = store.load(against) if against else None
    table, schema = _load(data, kind, schema_file)
    if test_from is not None:
        table = table.take(pa.array(np.flatnonzero(_times(table, schema) >= _epoch_ms(test_from))))
    labels = table[schema.label.name].cast(pa.int64()).to_numpy()
    users = table[schema.user_id.name].combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    predicted = trained.predict(table)
    measured = evaluate(labels, predicted, users)
    curves = {model.name: measured_reliability(labels, predicted, users)}
    report: dict[str, object] = {
        **measured.as_json(),
        "reliability": [part.as_json() for part in curves[model.name].bins],
    }
    if base is not None:
        old = base.predict(table)
        curves[f"against {against}"] = measured_reliability(labels, old, users)
        report["difference"] = {
            metric.value: paired_user_bootstrap(
                labels, users, old, predicted, rng=stream(seed, "bootstrap"), metric=metric, draws=draws
            ).as_json()
            for metric in Metric
        }
    if figures is not None:
        _draw(curves, figures)
    if as_json:
        click.echo(json.dumps(report))
        return
    for name, value in measured.as_json().items():
        click.echo(f"{name:8} {value:.4f}" if isinstance(value, float) else f"{name:8} {value}")
    for name, change in dict(report.get("difference", {})).items():  # type: ignore[call-overload]
        click.echo(f"{name:8} {change['value']:+.4f} [{change['low']:+.4f}, {change['high']:+.4f}] against {against}")


def _draw(curves: dict[str, Reliability], folder: Path) -> None:
    from adyton.learning.ctr.reliability_figure import write_reliability_figure  # matplotlib takes a second to load

    def write() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for ending in ("svg", "png"):
            write_reliability_figure(curves, folder / f"reliability.{ending}")

    _write(write, folder)
    click.echo(f"{folder / 'reliability.svg'}, .png", err=True)


@ctr.command("cross-domain")
@click.option("--advertiser", default="kuairand-advertiser", show_default=True, metavar="DATA")
@click.option("--advertiser-kind", type=click.Choice(_KINDS), default="table", show_default=True)
@click.option("--advertiser-schema", type=_FILE, help="JSON with role and kind of each column.")
@click.option("--publisher", default="kuairand-publisher", show_default=True, metavar="DATA")
@click.option("--publisher-kind", type=click.Choice(_KINDS), default="table", show_default=True)
@click.option("--publisher-schema", type=_FILE, help="JSON with role and kind of each column.")
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
        Party("advertiser", *_load(advertiser, advertiser_kind, advertiser_schema)),
        Party("publisher", *_load(publisher, publisher_kind, publisher_schema)),
        validation_from_ms=_epoch_ms(validation_from),
        test_from_ms=_epoch_ms(test_from),
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
            click.echo(f"  {metric.value:8} {change.value:+.4f} [{change.low:+.4f}, {change.high:+.4f}]")
        click.echo(
            f"  {gain.own.rows} test rows, {gain.own.clicks} clicks; "
            f"{gain.rows_shared:.1%} of the rows by users that the {gain.partner} has seen too"
        )


@ctr.command("export")
@click.argument("model", type=_FILE)
@_data_options
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), required=True, help="A new folder.")
@click.option("--name", default="ctr", show_default=True)
@click.option("--test-from", metavar="TIME", help="Measure on the rows from here on and write a model card.")
def export_command(
    model: Path, data: str, kind: str, schema_file: Path | None, output: Path, name: str, test_from: str | None
) -> None:
    """Write MODEL to a folder: user tower (ONNX, TorchScript), ads and contexts of DATA (Parquet), manifest (JSON)."""
    from adyton.learning.ctr import store
    from adyton.learning.ctr.artifact import distinct_contexts, export, latest_rows, user_tower_torchscript

    trained = store.load(model)
    table, schema = _load(data, kind, schema_file)
    artifact = export(
        trained,
        items=latest_rows(table, schema.item_id.name, schema.time.name),
        contexts=distinct_contexts(trained, table),
        name=name,
    )
    if output.exists():
        raise BadInputError("this folder exists", where=str(output), hint="name a new one")
    parts = {
        "user_tower.onnx": artifact.user_tower_onnx,
        "user_tower.pt": user_tower_torchscript(trained),
        "ads.parquet": artifact.ad_vectors_parquet,
        "contexts.parquet": artifact.context_vectors_parquet,
        "manifest.json": json.dumps(dict(artifact.manifest), indent=1).encode(),
    }

    if test_from is not None:
        parts["model_card.md"] = _card(trained, table, schema, _epoch_ms(test_from), name).encode()

    def write() -> None:
        partial = output.with_name(output.name + ".partial")
        partial.mkdir(parents=True)
        for file_name, content in parts.items():
            (partial / file_name).write_bytes(content)
        partial.rename(output)

    _write(write, output)
    for file_name, content in parts.items():
        click.echo(f"{output / file_name}: {len(content)} bytes")


def _card(trained: TrainedModel, table: pa.Table, schema: TableSchema, test_from_ms: int, name: str) -> str:
    import numpy as np
    import pyarrow as pa

    from adyton.learning.ctr.model_card import model_card
    from adyton.learning.metrics import evaluate, reliability

    test = table.take(pa.array(np.flatnonzero(_times(table, schema) >= test_from_ms)))
    labels = test[schema.label.name].cast(pa.int64()).to_numpy()
    users = test[schema.user_id.name].combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    predicted = trained.predict(test)
    measured, bins = evaluate(labels, predicted, users), reliability(labels, predicted)
    return model_card(trained, name=name, measured=measured, bins=bins)


def _load(data: str, kind: str, schema_file: Path | None) -> tuple[pa.Table, TableSchema]:
    from adyton.learning.datasets import delimited, digix
    from adyton.learning.datasets.kuairand import tables as kuairand
    from adyton.learning.schema import TableSchema

    if data in _SHIPPED:
        match data:
            case "kuairand-publisher":
                return kuairand.publisher_table(), kuairand.PUBLISHER_SCHEMA
            case "kuairand-advertiser":
                return kuairand.advertiser_table(), kuairand.ADVERTISER_SCHEMA
            case _:
                return kuairand.full_log(), kuairand.FULL_SCHEMA
    if kind == "digix-ads":
        return digix.read_ads(Path(data))
    if kind == "digix-feeds":
        return digix.read_feeds(Path(data))
    if schema_file is None:
        raise BadInputError("a table needs --schema", where=data, hint=f"or name a shipped one: {', '.join(_SHIPPED)}")
    try:
        declared = json.loads(schema_file.read_text())
    except OSError:
        raise BadInputError("the schema file cannot be read", where=str(schema_file)) from None
    except ValueError:
        raise BadInputError("the schema file is not JSON", where=str(schema_file)) from None
    schema = TableSchema.from_json(declared)
    return delimited.read_table(Path(data), schema), schema


def _times(table: pa.Table, schema: TableSchema) -> NDArray[np.int64]:
    import pyarrow as pa

    column = table[schema.time.name]
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("ms"))
    times: NDArray[np.int64] = column.cast(pa.int64()).to_numpy()
    return times


def _epoch_ms(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadInputError(
            "this is not an ISO 8601 time", where=text, hint="such as 2022-05-04 (UTC) or 2022-05-04T00:00+08:00"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def _write(write: Callable[[], None], path: Path) -> None:
    try:
        write()
    except OSError as error:
        raise UnavailableError(f"cannot write: {error.strerror}", where=str(path)) from None
