"""`adyton egress curve`: what a payload of so many bits costs in quality, and the schema for the size chosen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from adyton.cli.egress_live import read_live
from adyton.cli.options_given import refuse_if_given
from adyton.cli.output_folder import check_folder
from adyton.cli.synth_files import read_schema
from adyton.kernel.errors import BadInputError, UnavailableError
from adyton.protocol.egress_schema import EgressSchema

if TYPE_CHECKING:
    from adyton.learning.egress.curve import Curve
    from adyton.learning.egress.features import EgressData

_FILE = click.Path(dir_okay=False, path_type=Path)
_FIGURES = (".svg", ".png", ".pdf")


class _Sizes(click.ParamType["tuple[int, ...]"]):
    name = "bits,bits,..."

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        try:
            sizes = tuple(int(part) for part in str(value).split(","))
        except ValueError:
            self.fail("sizes are whole numbers of bits with commas between them", param, ctx)
        if min(sizes) < 1:
            self.fail("a payload has at least 1 bit", param, ctx)
        return tuple(sorted(set(sizes)))


@click.command()
@click.option("--table", type=_FILE, help="Impressions (Parquet or CSV); the shipped KuaiRand ads if left out.")
@click.option("--schema", "schema_file", type=_FILE, help="JSON with a role and kind for each column of --table.")
@click.option(
    "--wins", type=click.Path(file_okay=False, exists=True, path_type=Path), help="A collector's folder: live traffic."
)
@click.option("--payload-schema", type=_FILE, help="Egress schema of the payloads in --wins.")
@click.option("--payload-parameter", default="egress", show_default=True, help="Where a win report has its payload.")
@click.option("--free", multiple=True, default=("render",), show_default=True, help="What win reports say anyway.")
@click.option("--test-share", type=click.FloatRange(0.01, 0.9), default=0.3, show_default=True, help="Latest rows.")
@click.option("--sizes", type=_Sizes(), default="5,10,15,20", show_default=True, help="Payload sizes in bits.")
@click.option(
    "--method",
    type=click.Choice(["drop-one", "forward", "code"]),
    default="drop-one",
    show_default=True,
    help="Proposal's protocol, forward selection, or a learned code.",
)
@click.option(
    "--noise",
    type=click.FloatRange(0, 1),
    help="Payloads replaced; 0.01 if left out, and none with --wins, whose payloads were noised by the platform.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True)
@click.option("--figure", type=_FILE, help="Write a figure (SVG, PNG or PDF by its ending).")
@click.option("--schema-for", type=click.IntRange(1), metavar="BITS", help="Size whose schema is written.")
@click.option("--schema-out", type=_FILE, help="Where the egress schema for --schema-for goes.")
@click.option(
    "--encoding-out", type=_FILE, help="Where it goes how a device fills that payload: tables, and the code's trees."
)
@click.option("--schema-version", type=click.IntRange(0, 7), default=1, show_default=True)
def curve(
    table: Path | None,
    schema_file: Path | None,
    wins: Path | None,
    payload_schema: Path | None,
    payload_parameter: str,
    free: tuple[str, ...],
    test_share: float,
    sizes: tuple[int, ...],
    method: str,
    noise: float | None,
    seed: int,
    as_json: bool,
    figure: Path | None,
    schema_for: int | None,
    schema_out: Path | None,
    encoding_out: Path | None,
    schema_version: int,
) -> None:
    """Measure quality against payload size in bits.

    On impressions of --table, put in the order of its time column where the schema has one, or on live traffic: --wins
    is the folder of a collector with win-*.parquet and click-*.parquet, joined by their parameter `request`; a report
    without a click counts as not clicked.
    """
    from adyton.learning.egress import curve as experiment

    if (schema_for is None) != (schema_out is None):
        raise click.UsageError("--schema-for and --schema-out belong together")
    if schema_for is not None and schema_for not in sizes:
        raise click.UsageError("--schema-for must be one of --sizes")
    if encoding_out is not None and schema_for is None:
        raise click.UsageError("--encoding-out belongs to --schema-for")
    if (wins is None) != (payload_schema is None):
        raise click.UsageError("--wins and --payload-schema belong together")
    if wins is None:
        refuse_if_given("payload_parameter", "free", why="belongs to --wins")
    if table is None:
        refuse_if_given("schema_file", why="belongs to --table")
    if figure is not None and figure.suffix not in _FIGURES:
        raise click.UsageError(f"a figure is one of {', '.join(_FIGURES)}")
    check_folder(figure, schema_out, encoding_out)
    if wins is not None and payload_schema is not None:
        if table is not None:
            raise click.UsageError("--table and --wins exclude each other")
        described = EgressSchema.parse(_content(payload_schema))
        data = read_live(wins, described, payload=payload_parameter, free=free, test_share=test_share)
    else:
        data = _data(table, schema_file, test_share)
    usual = experiment.PAYLOAD_NOISE_SHARE if wins is None else 0.0
    measured = experiment.curve(
        data,
        sizes,
        method=experiment.Method(method),
        noise_share=usual if noise is None else noise,
        seed=seed,
        progress=lambda doing: click.echo(f"adyton egress: {doing}", err=True),
    )
    click.echo(json.dumps({"seed": seed, **measured.as_json()}, indent=2) if as_json else _text(measured))
    if figure is not None:
        _draw(measured, figure)
    if schema_for is not None and schema_out is not None:
        schema = experiment.schema_for(measured.point(schema_for).selection, version=schema_version)
        _write(schema_out, json.dumps(schema, indent=2) + "\n")
        if encoding_out is not None:
            encoding = experiment.encoding_of(measured.point(schema_for).selection, data)
            _write(encoding_out, json.dumps(encoding, allow_nan=False) + "\n")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInputError("cannot read the schema", where=str(path)) from error


def _data(table: Path | None, schema_file: Path | None, test_share: float) -> EgressData:
    import numpy as np

    from adyton.learning.datasets.delimited import read_table
    from adyton.learning.egress.features import egress_data
    from adyton.learning.schema import Role

    if table is None:
        from adyton.learning.datasets.kuairand.tables import ADVERTISER_SCHEMA, advertiser_table

        rows, schema = advertiser_table(), ADVERTISER_SCHEMA
    else:
        if schema_file is None:
            raise click.UsageError("--table needs --schema")
        schema = read_schema(schema_file)
        rows = read_table(table, schema)
        if schema.with_role(Role.TIME):
            rows = rows.take(np.argsort(rows[schema.time.name].cast("int64").to_numpy(), kind="stable"))
    is_test = np.arange(rows.num_rows) >= round(rows.num_rows * (1 - test_share))
    return egress_data(rows, schema, is_test)


def _text(measured: Curve) -> str:
    head = f"{'bits':>5} {'used':>5} {'AUC':>7} {'logloss':>8} {'baseline':>9} {'revenue':>8} {'lift':>6}  features"
    lines = [head, f"{0:>5} {0:>5} {measured.empty.auc:7.4f} {measured.empty.logloss:8.4f}"]
    for p in measured.points:
        names = ", ".join(name for name, _ in p.selection.features)
        lines.append(
            f"{p.bits:>5} {p.selection.bits:>5} {p.auc:7.4f} {p.logloss:8.4f} {p.share_of_baseline:9.1%} "
            f"{p.revenue_share:8.1%} {p.lift_share:6.0%}  {names}"
        )
    bits = measured.baseline_bits
    lines.append(f"{bits:>5} {bits:>5} {measured.baseline.auc:7.4f} {measured.baseline.logloss:8.4f}  all features")
    return "\n".join(lines)


def _draw(measured: Curve, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    bits = [0, *(p.bits for p in measured.points)]
    empty = measured.empty
    revenue = [empty.revenue / measured.baseline.revenue, *(p.revenue_share for p in measured.points)]
    auc = [empty.auc / measured.baseline.auc, *(p.share_of_baseline for p in measured.points)]
    logloss = [measured.baseline.logloss / loss for loss in (empty.logloss, *(p.logloss for p in measured.points))]
    axes.plot(bits, [100 * share for share in revenue], marker="o", label="simulated revenue")
    axes.plot(bits, [100 * share for share in auc], marker="s", label="AUC")
    axes.plot(bits, [100 * share for share in logloss], marker="^", label="log loss (baseline / model)")
    axes.axhline(100, color="0.6", linewidth=1)
    axes.set_xlabel("payload size (bits)")
    axes.set_ylabel(f"share of the {measured.baseline_bits}-bit baseline (%)")
    axes.set_title(f"Egress payload size, {measured.method.value}")
    axes.legend()
    try:
        figure.savefig(path)
    except OSError as error:
        raise UnavailableError("cannot write the figure", where=str(path)) from error


def _write(path: Path, content: str) -> None:
    try:
        path.write_text(content)
    except OSError as error:
        raise UnavailableError("cannot write the file", where=str(path)) from error
