"""A receipt as one HTML page for people: no script, no outside resource, every text escaped.

The page shows what was computed again by `verify_receipt`, not only what the receipt says of itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from jinja2 import Environment, StrictUndefined

from adyton.cleanroom.contract import Contract
from adyton.cleanroom.receipt import Receipt, ReceiptVerdict
from adyton.kernel.clock import iso_utc

_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Receipt of job {{ job }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b1b1b;
  background: #fff }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 2rem }
caption { text-align: left; font-weight: 600; padding: .25rem 0 }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #ccc; vertical-align: top }
td { overflow-wrap: break-word }
td:nth-child(n + 3), code { overflow-wrap: anywhere }
@media (max-width: 40rem) { th, td { padding: .3rem .2rem; font-size: .85em } }
.banner { border: 2px solid; padding: .6rem 1rem; margin: 1rem 0; font-weight: 600 }
.good { color: #0a5c2b } .bad { color: #a3001b }
code { font-size: .85em }
</style>
</head>
<body>
<h1>Receipt of job {{ job }}</h1>
<p class="banner {{ 'good' if holds else 'bad' }}" role="status">
{% if holds %}Every fact below was computed again and holds.
{%- else %}This receipt does NOT hold: see the failed checks.{% endif %}</p>
{% if development -%}
<p class="banner bad">DEVELOPMENT platform: the protocol is real, the protection is not.</p>
{%- endif %}
<p>Contract {{ contract_id }} <code>{{ contract_hash }}</code><br>
{{ started }} to {{ finished }}<br>Code <code>{{ measurement }}</code> on {{ platform }}</p>
{% for table in tables %}
<table><caption>{{ table.caption }}</caption>
<thead><tr>{% for name in table.columns %}<th scope="col">{{ name }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in table.rows %}
<tr>{% for cell in row %}<td>{% if cell | length == 64 %}<code>{{ cell }}</code>{% else %}{{ cell }}{% endif %}</td>
{%- endfor %}</tr>{% else %}
<tr><td colspan="{{ table.columns | length }}">none</td></tr>{% endfor %}
</tbody></table>
{% endfor %}
</body>
</html>
"""


def receipt_page(receipt: Receipt, verdict: ReceiptVerdict, contract: Contract) -> str:
    """The page. `verdict` comes from `verify_receipt(receipt, contract)`, which has read every field that is shown."""
    body = receipt.body
    passed = {True: "ok", False: "FAILED"}

    def table(caption: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> dict[str, object]:
        return {"caption": caption, "columns": columns, "rows": rows}

    def listed(name: str, *fields: str) -> list[tuple[str, ...]]:
        items = body[name]
        assert isinstance(items, list | tuple), "verify_receipt read this list"
        return [tuple(_text(item, field) for field in fields) for item in items]

    made_again = [(passed[c.passed], c.name, c.found) for c in verdict.checks]
    evidence = [(passed[c.passed], c.name.value, c.found) for c in verdict.evidence.complete]
    inputs = listed("inputs", "dataset_id", "version", "owner", "rows", "ciphertext_sha256")
    spent = listed("ledger", "owner", "population", "purpose", "epsilon", "delta", "accountant")
    outputs = listed("outputs", "output", "recipient", "file", "sha256")
    gate = listed("gate", "output", "name", "found", "limit")
    hardening = listed("hardening", "name", "held", "found")
    tables = [
        table("Computed again", ("", "Check", "Found"), made_again),
        table("Tables that went in", ("Table", "Version", "Owner", "Rows", "Ciphertext SHA-256"), inputs),
        table("Privacy spent, per user", ("Owner", "Users", "For", "Epsilon", "Delta", "Accountant"), spent),
        table("Release gate", ("Output", "Check", "Found", "Limit"), gate),
        table("What left", ("Output", "To", "File", "SHA-256"), outputs),
        table("Shut in by", ("Measure", "Held", "Found"), hardening),
        table("Evidence", ("", "Check", "Found"), evidence),
    ]
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    return environment.from_string(_PAGE).render(
        job=_text(body["job"], "job_id"),
        holds=verdict.holds,
        development=verdict.is_development,
        contract_id=contract.contract_id,
        contract_hash=str(contract.hash),
        started=_time(body["started_at_ms"]),
        finished=_time(body["finished_at_ms"]),
        measurement=str(body["measurement"]),
        platform=str(body["platform"]),
        tables=tables,
    )


def _text(item: object, field: str) -> str:
    value = item.get(field) if isinstance(item, dict) else None
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def _time(value: object) -> str:
    return iso_utc(value) if isinstance(value, int) else ""
