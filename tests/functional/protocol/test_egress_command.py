"""`adyton egress` as a person calls it."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from adyton.cli.egress import egress
from adyton.kernel.errors import BadInputError
from adyton.protocol.errors import EgressSchemaError, EgressTooLargeError, EgressWireError

SCHEMA = {
    "cddl_version": "1.0.0",
    "version": 2,
    "features": [
        {"name": "unsigned-integer-feature", "size": 7},
        {"name": "boolean-feature"},
        {"name": "histogram-feature", "size": 1, "value": [{"name": "signed-integer-feature", "size": 1}]},
    ],
}
PAYLOAD = {
    "features": [
        {"name": "unsigned-integer-feature", "value": 2},
        {"name": "boolean-feature", "value": True},
        {"name": "histogram-feature", "value": [{"name": "signed-integer-feature", "value": -1}]},
    ]
}


@pytest.fixture
def schema(tmp_path: Path) -> str:
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    (tmp_path / "payload.json").write_text(json.dumps(PAYLOAD))
    return str(tmp_path / "schema.json")


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(egress, arguments, input=stdin, standalone_mode=False)


def payload_of(schema: str) -> str:
    return schema.replace("schema.json", "payload.json")


def test_encode_prints_the_wire_value_alone(schema: str) -> None:
    result = run("encode", "--schema", schema, "--payload", payload_of(schema))

    assert (result.stdout, result.stderr, result.exception) == ("AYJA\n", "", None)


def test_protocol_and_padding_are_options(schema: str) -> None:
    options = ("--protocol", "1", "--max-bits", "20", "--pad-to-max")
    result = run("encode", "--schema", schema, "--payload", "-", *options, stdin=json.dumps(PAYLOAD))

    assert result.stdout == "AAGCQQ==\n"
    back = run("decode", "--schema", schema, "--max-bits", "20", "-", stdin=result.stdout)
    assert json.loads(back.stdout) == PAYLOAD


def test_too_many_bits_are_refused(schema: str) -> None:
    result = run("encode", "--schema", schema, "--payload", payload_of(schema), "--max-bits", "8")

    assert isinstance(result.exception, EgressTooLargeError)
    assert result.stdout == ""


def test_seeded_noise_repeats_itself_and_says_that_it_protects_nothing(schema: str) -> None:
    def noisy(seed: str) -> Result:
        options = ("--noise-rate", "1", "--seed", seed)
        return run("encode", "--schema", schema, "--payload", payload_of(schema), *options)

    assert noisy("1").stdout == noisy("1").stdout
    assert len({noisy(str(seed)).stdout for seed in range(8)}) > 4
    assert "protects nothing" in noisy("1").stderr


@pytest.mark.parametrize("rate", ["x", "1/0", "1.5", "-1", "nan", "1e999999999", "1/100/1", ""])
def test_a_rate_that_is_none_is_a_usage_error(schema: str, rate: str) -> None:
    result = CliRunner().invoke(egress, ["encode", "--schema", schema, "--payload", schema, f"--noise-rate={rate}"])

    assert result.exit_code == 2
    assert "rate" in result.stderr


def test_decode_prints_the_payload(schema: str) -> None:
    assert json.loads(run("decode", "--schema", schema, "AYJA").stdout) == PAYLOAD
    assert isinstance(run("decode", "--schema", schema, "AYJB", "--protocol", "0").exception, EgressWireError)
    assert isinstance(run("decode", "--schema", schema, "????").exception, EgressWireError)


def test_all_three_take_schema_and_payload_as_files(schema: str, tmp_path: Path) -> None:
    encoded = run("encode", "--schema", schema, "--payload", payload_of(schema))
    (tmp_path / "value.txt").write_text(encoded.stdout)
    decoded = run("decode", "--schema", schema, "--payload", str(tmp_path / "value.txt"))
    (tmp_path / "value.txt").write_bytes(b"\xff\xfe")
    broken = run("decode", "--schema", schema, "--payload", str(tmp_path / "value.txt"))

    assert json.loads(decoded.stdout) == PAYLOAD
    assert isinstance(broken.exception, EgressWireError)
    assert isinstance(run("decode", "--schema", schema).exception, click.UsageError)
    assert isinstance(run("decode", "--schema", schema, "AYJA", "--payload", "-").exception, click.UsageError)


def test_validate_lists_every_problem_without_values(schema: str) -> None:
    bad = json.loads(json.dumps(PAYLOAD))
    bad["features"][0]["value"] = 4711
    bad["features"][1]["value"] = "yes-please"

    good = run("validate", "--schema", schema, "--payload", payload_of(schema), "--json")
    result = run("validate", "--schema", schema, "--payload", "-", "--json", stdin=json.dumps(bad))
    limited = run("validate", "--schema", schema, "--payload", payload_of(schema), "--max-bits", "8")

    assert (good.return_value, json.loads(good.stdout)) == (0, {"valid": True, "bits": 9, "problems": []})
    assert result.return_value == BadInputError.exit_code
    assert [p.split(":")[0] for p in json.loads(result.stdout)["problems"]] == [
        "$.features[0].value",
        "$.features[1].value",
    ]
    assert "4711" not in result.output
    assert "yes-please" not in result.output
    assert limited.return_value == BadInputError.exit_code


def test_a_schema_that_is_none_is_refused(schema: str) -> None:
    assert isinstance(run("validate", "--schema", payload_of(schema), "--payload", schema).exception, EgressSchemaError)
    result = run("validate", "--schema", payload_of(schema), "--payload", schema)
    assert str(result.exception).startswith(f"{payload_of(schema)}, $")


def test_an_error_names_the_file_it_is_about(schema: str, tmp_path: Path) -> None:
    (tmp_path / "no.json").write_text("{")
    no = str(tmp_path / "no.json")

    assert str(run("encode", "--schema", no, "--payload", payload_of(schema)).exception) == f"{no}, $: this is not JSON"
    assert str(run("encode", "--schema", schema, "--payload", no).exception) == f"{no}, $: this is not JSON"
    stdin = run("encode", "--schema", schema, "--payload", "-", stdin="{")
    assert str(stdin.exception) == "standard input, $: this is not JSON"


def test_schema_and_payload_cannot_both_come_from_standard_input(schema: str) -> None:
    for arguments in (("encode", "--payload", "-"), ("validate", "--payload", "-"), ("decode", "-")):
        result = run(*arguments, "--schema", "-", stdin=json.dumps(SCHEMA))
        assert isinstance(result.exception, click.UsageError)


def test_a_limit_beyond_any_schema_is_a_usage_error(schema: str) -> None:
    limits = ("--max-bits", str(10**20), "--pad-to-max")
    result = run("encode", "--schema", schema, "--payload", payload_of(schema), *limits)
    assert isinstance(result.exception, click.BadParameter)
