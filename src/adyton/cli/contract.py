"""`adyton contract`: draft, sign, show and verify what all parties agree to."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import click

from adyton.cleanroom.attestation.dev_tpm import measurement_of
from adyton.cleanroom.contract import Contract, DatasetTerms, Output, OutputTerms, OwnerRule, Template
from adyton.cleanroom.contract_states import ContractEvent
from adyton.cleanroom.errors import ContractStateError
from adyton.cleanroom.measurement import code_measurement
from adyton.cleanroom.party import load_identity, party_name
from adyton.cleanroom.sealed_table import load_manifest
from adyton.cleanroom.signed_contract import load_contract, save_contract, unsigned
from adyton.cleanroom.table_columns import table_schema
from adyton.cli.passphrase import PASSPHRASE_VARIABLE, open_party
from adyton.kernel.clock import SystemClock, iso_utc
from adyton.kernel.errors import BadInputError
from adyton.kernel.ledger import PrivacyLoss, exact_number

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_DAY_MS = 86_400_000


@click.group()
def contract() -> None:
    """Draft, sign, show and verify a contract."""


@contract.command("draft")
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--id", "contract_id", required=True)
@click.option("--party", "parties", multiple=True, required=True, type=_FILE, help="NAME.party.json. Repeatable.")
@click.option("--manifest", "manifests", multiple=True, required=True, type=_FILE, help="Repeatable.")
@click.option("--population", default="users", show_default=True, help="Whose rows: one budget each.")
@click.option(
    "--measurement",
    "measurements",
    multiple=True,
    help="Allowed code, hex; default: this installation's, with --allow-dev also as dev-tpm states it. Repeatable.",
)
@click.option("--template", "templates", multiple=True, type=click.Choice([t.value for t in Template]))
@click.option("--output", "outputs", multiple=True, metavar="OUTPUT=PARTY[,PARTY]", help="Who receives what.")
@click.option("--without-guarantee", multiple=True, type=click.Choice([o.value for o in Output]))
@click.option("--query-column", "query_columns", multiple=True, help="A column that queries may read. Repeatable.")
@click.option("--appends", multiple=True, metavar="DATASET", help="Its later versions belong to it too. Repeatable.")
@click.option("--k", type=click.IntRange(2), default=50, show_default=True, help="Smallest group of users.")
@click.option("--epsilon", default="3", show_default=True, help="Budget of each owner, for good.")
@click.option("--delta", default="1e-6", show_default=True)
@click.option("--days", type=click.IntRange(1), default=30, show_default=True)
@click.option(
    "--until", metavar="TIME", help="Instead of --days: when it ends, ISO 8601, UTC unless it says otherwise."
)
@click.option("--allow-dev", is_flag=True, help="A development enclave will do, which protects nothing.")
def draft_command(
    out: Path,
    contract_id: str,
    parties: tuple[Path, ...],
    manifests: tuple[Path, ...],
    population: str,
    measurements: tuple[str, ...],
    templates: tuple[str, ...],
    outputs: tuple[str, ...],
    without_guarantee: tuple[str, ...],
    query_columns: tuple[str, ...],
    appends: tuple[str, ...],
    k: int,
    epsilon: str,
    delta: str,
    days: int,
    until: str | None,
    allow_dev: bool,
) -> None:
    """Write an unsigned contract to OUT, with the same rule for every owner; `contract rule` changes one owner's."""
    now_ms = SystemClock().now_ms()
    loaded = [load_manifest(path) for path in manifests]
    budget = PrivacyLoss(_exact(epsilon, "--epsilon"), _exact(delta, "--delta"))
    if unknown := set(query_columns) - {column.name for m in loaded for column in m.columns}:
        raise BadInputError(f"no table has the columns {', '.join(sorted(unknown))}", where="--query-column")
    own = (code_measurement(), measurement_of(code_measurement())) if allow_dev else (code_measurement(),)
    if unknown := set(appends) - {str(m.dataset_id) for m in loaded}:
        raise BadInputError(f"no manifest is of {', '.join(sorted(unknown))}", where="--appends")
    allowed = frozenset(measurements or (one.hex() for one in own))
    drafted = Contract(
        contract_id=contract_id,
        parties=tuple(load_identity(path) for path in parties),
        datasets=tuple(
            DatasetTerms(
                m.dataset_id,
                m.version,
                m.owner,
                population,
                m.columns,
                table_schema(m.columns).user_id.name,
                m.rows,
                m.ciphertext_sha256,
                str(m.dataset_id) in appends,
            )
            for m in loaded
        ),
        rules=tuple(
            OwnerRule(
                owner=owner,
                population=population,
                budget=budget,
                measurements=allowed,
                templates=frozenset(Template(t) for t in templates) or frozenset(Template),
                k=k,
                allow_dev=allow_dev,
                without_guarantee=frozenset(Output(o) for o in without_guarantee),
                query_columns=frozenset(query_columns)
                & {c.name for m in loaded if m.owner == owner for c in m.columns},
            )
            for owner in sorted({m.owner for m in loaded})
        ),
        outputs=tuple(_output_terms(text) for text in outputs),
        starts_at_ms=now_ms,
        expires_at_ms=now_ms + days * _DAY_MS if until is None else _moment_ms(until),
    )
    if out.exists():
        raise BadInputError("the file exists", where=out.name)
    save_contract(unsigned(drafted), out)
    click.echo(drafted.hash)


@contract.command("rule")
@click.argument("file", type=_FILE)
@click.option("--owner", required=True, help="Whose rule.")
@click.option("--population", default="users", show_default=True)
@click.option("--k", type=click.IntRange(2), help="Smallest group of users.")
@click.option("--epsilon", help="Budget, for good.")
@click.option("--delta")
@click.option("--measurement", "measurements", multiple=True, help="Allowed code, hex, instead of what stands there.")
@click.option("--template", "templates", multiple=True, type=click.Choice([t.value for t in Template]))
@click.option("--without-guarantee", multiple=True, type=click.Choice([*(o.value for o in Output), "none"]))
@click.option("--query-column", "query_columns", multiple=True)
@click.option("--allow-dev/--refuse-dev", default=None, help="Whether a development enclave will do.")
def rule_command(
    file: Path,
    owner: str,
    population: str,
    k: int | None,
    epsilon: str | None,
    delta: str | None,
    measurements: tuple[str, ...],
    templates: tuple[str, ...],
    without_guarantee: tuple[str, ...],
    query_columns: tuple[str, ...],
    allow_dev: bool | None,
) -> None:
    """Change one owner's rule in FILE, a contract that nobody has signed yet. The strictest owner's rule wins."""
    signed = load_contract(file)
    if signed.signatures:
        raise ContractStateError(
            "the contract is signed, and a signature holds for what was read", where=file.name, hint="draft a new one"
        )
    rule = signed.contract.rule_of(owner, population)
    budget = PrivacyLoss(
        rule.budget.epsilon if epsilon is None else _exact(epsilon, "--epsilon"),
        rule.budget.delta if delta is None else _exact(delta, "--delta"),
    )
    changed = replace(
        rule,
        budget=budget,
        k=rule.k if k is None else k,
        measurements=frozenset(measurements) or rule.measurements,
        templates=frozenset(Template(t) for t in templates) or rule.templates,
        without_guarantee=frozenset(Output(o) for o in without_guarantee if o != "none")
        if without_guarantee
        else rule.without_guarantee,
        query_columns=frozenset(query_columns) or rule.query_columns,
        allow_dev=rule.allow_dev if allow_dev is None else allow_dev,
    )
    agreed = signed.contract.with_rule(changed)
    save_contract(unsigned(agreed), file)
    click.echo(agreed.hash)


@contract.command("sign")
@click.argument("file", type=_FILE)
@click.option("--key", "key_file", required=True, type=_FILE)
@click.option("--passphrase-file", type=_FILE, help=f"Otherwise {PASSPHRASE_VARIABLE} of the environment.")
def sign_command(file: Path, key_file: Path, passphrase_file: Path | None) -> None:
    """Add this party's signature to FILE; look at it with `show` before."""
    signed = load_contract(file).sign(open_party(key_file, passphrase_file))
    signed.check_signatures()
    save_contract(signed, file)
    click.echo(signed.contract.hash)
    missing = ", ".join(signed.missing_signatures())
    click.echo(f"still to sign: {missing}" if missing else "signed by all", err=True)


@contract.command("notice")
@click.argument("event", type=click.Choice(["suspend", "resume", "revoke"]))
@click.argument("file", type=_FILE)
@click.option("--key", "key_file", required=True, type=_FILE)
@click.option("--passphrase-file", type=_FILE, help=f"Otherwise {PASSPHRASE_VARIABLE} of the environment.")
def notice_command(event: str, file: Path, key_file: Path, passphrase_file: Path | None) -> None:
    """Suspend, resume or revoke the contract in FILE."""
    now_ms = SystemClock().now_ms()
    party = open_party(key_file, passphrase_file)
    noticed = load_contract(file).give_notice(party, ContractEvent(event), now_ms)
    save_contract(noticed, file)
    click.echo(noticed.state(now_ms).value)


@contract.command("show")
@click.argument("file", type=_FILE)
@click.option("--json", "as_json", is_flag=True)
def show_command(file: Path, as_json: bool) -> None:
    """Print what a party signs, in words."""
    signed = load_contract(file)
    agreed, rule = signed.contract, signed.contract.binding_rule
    state = signed.state(SystemClock().now_ms()).value
    if as_json:
        click.echo(json.dumps({**signed.as_json(), "state": state}))
        return
    lines = [
        f"contract {agreed.contract_id}  {agreed.hash}",
        f"state    {state}, from {iso_utc(agreed.starts_at_ms)} until {iso_utc(agreed.expires_at_ms)}",
        *(f"party    {p.name}  {'signed' if p.name in signed.signatures else 'not signed'}" for p in agreed.parties),
        *(
            f"table    {d.dataset_id} v{d.version} of {d.owner}: {d.rows} rows, {len(d.columns)} columns"
            f"{', and versions appended later' if d.appends else ''}"
            for d in agreed.datasets
        ),
        *(
            f"budget   {r.owner}/{r.population}: epsilon {float(r.budget.epsilon):g}, delta {float(r.budget.delta):g}"
            for r in agreed.rules
        ),
        *(
            f"queries  {r.owner}/{r.population}: {', '.join(sorted(r.query_columns)) or 'no column'}"
            for r in agreed.rules
        ),
        f"rule     k {rule.k}; {', '.join(sorted(t.value for t in rule.templates)) or 'no template'}",
        f"rule     without guarantee: {', '.join(sorted(o.value for o in rule.without_guarantee)) or 'nothing'}",
        f"rule     code {', '.join(sorted(m[:16] for m in rule.measurements))}",
        f"rule     {'DEVELOPMENT enclave, which protects nothing,' if rule.allow_dev else 'trusted hardware'} will do",
        *(f"output   {o.output.value} to {', '.join(o.recipients)}" for o in agreed.outputs),
    ]
    click.echo("\n".join(lines))


@contract.command("verify")
@click.argument("file", type=_FILE)
@click.option("--json", "as_json", is_flag=True)
def verify_command(file: Path, as_json: bool) -> None:
    """Check every signature and notice; fails unless all parties have signed."""
    signed = load_contract(file)
    state = signed.state(SystemClock().now_ms())
    missing = signed.missing_signatures()
    if as_json:
        body = {"contract_hash": signed.contract.hash, "state": state.value, "missing": list(missing)}
        click.echo(json.dumps(body))
    else:
        click.echo(f"{signed.contract.hash} {state.value}")
    if missing:
        raise ContractStateError(f"signatures are missing: {', '.join(missing)}", where=file.name)


def _exact(text: str, option: str) -> Fraction:
    number = exact_number(text, option)
    if number < 0:
        raise BadInputError("not a number such as 3, 1/2 or 1e-6", where=option)
    return number


def _moment_ms(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadInputError("not ISO 8601", where="--until", hint="2027-01-31 or 2027-01-31T12:00:00Z") from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _output_terms(text: str) -> OutputTerms:
    name, _, recipients = text.partition("=")
    try:
        return OutputTerms(Output(name), tuple(party_name(r) for r in recipients.split(",")))
    except ValueError as error:
        raise BadInputError(
            f"{text!r} is not OUTPUT=PARTY", hint=f"outputs: {', '.join(o.value for o in Output)}"
        ) from error
