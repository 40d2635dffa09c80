"""`adyton egress`: encode, decode and validate egress payloads (protected-auction §11)."""

from __future__ import annotations

import json
import sys
from fractions import Fraction
from pathlib import Path

import click

from adyton.cli.egress_curve import curve
from adyton.cli.input_file import about, read_input, refuse_two_from_stdin
from adyton.kernel.chance import InsecureFixedRandom, OsRandom, RandomSource
from adyton.kernel.errors import BadInputError
from adyton.protocol.egress_noise import noise_payload, parse_rate
from adyton.protocol.egress_schema import MAX_SCHEMA_BITS, Dialect, EgressPayload, EgressSchema, validate
from adyton.protocol.egress_wire import SHIPPED_PROTOCOL, decode_payload, encode_payload, from_base64, to_base64

_FILE = click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)
_BITS = click.IntRange(1, MAX_SCHEMA_BITS)


def _rate(_ctx: click.Context, _param: click.Parameter, text: str) -> Fraction:
    try:
        return parse_rate(text)
    except BadInputError as error:
        raise click.BadParameter(error.what) from error


_schema_option = click.option(
    "--schema", "schema_path", type=_FILE, required=True, help="The schema's JSON file, - for standard input."
)
_payload_option = click.option(
    "--payload", "payload_path", type=_FILE, required=True, help="The payload's JSON file, - for standard input."
)
_dialect_option = click.option(
    "--dialect",
    type=click.Choice([dialect.value for dialect in Dialect]),
    default=Dialect.SHIPPED.value,
    show_default=True,
    help="Spelling: of the reference code, or of its documents (with nullable features).",
)


@click.group()
def egress() -> None:
    """Encode, decode and validate egress payloads."""


@egress.command()
@_schema_option
@_payload_option
@_dialect_option
@click.option("--protocol", type=click.IntRange(0, 31), default=SHIPPED_PROTOCOL, show_default=True)
@click.option("--max-bits", type=_BITS, help="Refuse more bits than this.")
@click.option("--pad-to-max", is_flag=True, help="Pad to --max-bits, which hides the length.")
@click.option(
    "--noise-rate",
    metavar="RATE",
    callback=_rate,
    default="0",
    show_default=True,
    help="Replace the payload this often.",
)
@click.option("--seed", type=int, help="Repeatable noise, which protects nothing; for tests.")
def encode(
    schema_path: Path,
    payload_path: Path,
    dialect: str,
    protocol: int,
    max_bits: int | None,
    pad_to_max: bool,
    noise_rate: Fraction,
    seed: int | None,
) -> None:
    """Print a payload's base64 wire value."""
    refuse_two_from_stdin(schema_path, payload_path)
    schema = _schema(schema_path, dialect)
    with about(payload_path):
        payload = EgressPayload.parse(schema, read_input(payload_path))
    if noise_rate:
        payload = noise_payload(schema, payload, _source(seed), noise_rate)
    wire = encode_payload(schema, payload, protocol=protocol, max_bits=max_bits, pad_to_max=pad_to_max)
    click.echo(to_base64(wire))


@egress.command()
@_schema_option
@_dialect_option
@click.option("--protocol", type=click.IntRange(0, 31), help="Insist on this protocol.")
@click.option("--max-bits", type=_BITS, help="Also accept a value padded to this many bits.")
@click.option("--payload", "payload_path", type=_FILE, help="The file that holds the wire value, - for standard input.")
@click.argument("value", required=False)
def decode(
    schema_path: Path,
    dialect: str,
    protocol: int | None,
    max_bits: int | None,
    payload_path: Path | None,
    value: str | None,
) -> None:
    """Print the payload of a base64 wire VALUE as JSON; - reads it from standard input."""
    if (payload_path is None) == (value is None):
        raise click.UsageError("give one of VALUE and --payload FILE")
    refuse_two_from_stdin(schema_path, payload_path, value)
    schema = _schema(schema_path, dialect)
    if payload_path is not None:
        text = read_input(payload_path).decode("ascii", "replace").strip()
    else:
        text = sys.stdin.read().strip() if value == "-" else str(value)
    payload = decode_payload(schema, from_base64(text), protocol=protocol, max_bits=max_bits)
    click.echo(json.dumps(payload.as_json(schema)))


@egress.command("validate")
@_schema_option
@_payload_option
@_dialect_option
@click.option("--max-bits", type=_BITS, help="Report more bits than this as a problem.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def validate_command(schema_path: Path, payload_path: Path, dialect: str, max_bits: int | None, as_json: bool) -> int:
    """Print every problem of a payload, one a line; exit code 10 if there is one."""
    refuse_two_from_stdin(schema_path, payload_path)
    schema = _schema(schema_path, dialect)
    problems = [str(problem) for problem in validate(read_input(payload_path), schema)]
    if max_bits is not None and schema.bits > max_bits:
        problems.append(f"$: the payload has {schema.bits} bits, the limit is {max_bits}")
    if as_json:
        click.echo(json.dumps({"valid": not problems, "bits": schema.bits, "problems": problems}))
    else:
        for problem in problems:
            click.echo(problem)
        click.echo("valid" if not problems else f"{len(problems)} problem(s)", err=True)
    return BadInputError.exit_code if problems else 0


def _schema(path: Path, dialect: str) -> EgressSchema:
    with about(path):
        return EgressSchema.parse(read_input(path), dialect=Dialect(dialect))


def _source(seed: int | None) -> RandomSource:
    if seed is None:
        return OsRandom()
    click.echo("warning: seeded noise repeats itself and protects nothing", err=True)
    return InsecureFixedRandom(seed, "egress noise")


egress.add_command(curve)
