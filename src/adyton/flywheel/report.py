"""The page that a turn of the loop ends in: every figure on it comes from what the steps returned."""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import Any

import jinja2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adyton import __version__
from adyton.flywheel import figures
from adyton.flywheel.auction_step import AuctionStep
from adyton.flywheel.cleanroom_step import BUDGET, CleanroomStep
from adyton.flywheel.egress_step import CHOSEN_BITS, EgressChoice, EgressStep
from adyton.flywheel.held_out import Population
from adyton.flywheel.publish_step import PublishedBuyer, user_fields
from adyton.flywheel.review_step import ReviewStep
from adyton.flywheel.summary import DemoSummary
from adyton.kernel.chance import stream
from adyton.learning.datasets.kuairand import tables as kuairand
from adyton.learning.metrics import paired_user_bootstrap
from adyton.learning.synth.fidelity import fidelity

_SHOWN_COLUMNS = ("tab", "upload_type", "hour")
_SHOWN_VALUES = 8
_BOOTSTRAP_DRAWS = 200


@dataclass(frozen=True)
class SyntheticQuality:
    """overall: of the synthetic table.   ceiling: of one half of the real rows against the other. Both in [0, 1]."""

    overall: float
    ceiling: float


@dataclass(frozen=True)
class Findings:
    """What the steps of one turn returned."""

    seed: int
    fixed_noise: bool
    population: Population
    review: ReviewStep
    cleanroom: CleanroomStep
    buyers: tuple[PublishedBuyer, ...]
    choice: EgressChoice
    auctions: AuctionStep
    egress: EgressStep

    @cached_property
    def synthetic_table(self) -> pa.Table:
        return pq.read_table(io.BytesIO(self.cleanroom.synthetic.table_parquet))

    @cached_property
    def real_rows(self) -> pa.Table:
        """The advertiser's rows that the synthetic table was made from."""
        rows = self.population.advertiser
        return rows.filter(pc.less_equal(rows["date"], kuairand.VALIDATION_DATE))

    @cached_property
    def synthetic_quality(self) -> SyntheticQuality:
        """Fidelity on the columns that the advertiser can compare at home."""
        own = [name for name in self.synthetic_table.column_names if name in kuairand.ADVERTISER_SCHEMA]
        schema = kuairand.ADVERTISER_SCHEMA.select([name for name in own if name != "user_id"])
        real = self.real_rows
        order = stream(self.seed, "halves").permutation(real.num_rows)
        halves = np.array_split(order, 2)
        first, second = (real.take(pa.array(np.sort(half))) for half in halves)
        return SyntheticQuality(
            fidelity(real, self.synthetic_table, schema).quality, fidelity(first, second, schema).quality
        )


def render_report(findings: Findings, summary: DemoSummary) -> str:
    """The self-contained HTML page."""
    template = resources.files("adyton.flywheel").joinpath("report.html").read_text("utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(template).render(
        version=__version__,
        seed=findings.seed,
        fixed_noise=findings.fixed_noise,
        summary=summary,
        tiles=_tiles(summary),
        figures=_figures(findings, summary),
        review=findings.review,
        cleanroom=_cleanroom(findings),
        publish=_publish(findings),
        auction=_auction(findings),
        egress=_egress(findings, summary),
        honesty=_honesty(findings),
    )


def _tiles(summary: DemoSummary) -> list[dict[str, str]]:
    room, auction = summary.cleanroom, summary.auction
    return [
        {"value": f"{summary.review.approved:,}", "label": "ads approved"},
        {"value": f"{room.users_joined:,}", "label": "users joined"},
        {"value": f"{room.auc_without_partner:.3f} → {room.auc_with_partner:.3f}", "label": "AUC alone → with partner"},
        {"value": f"{room.epsilon_spent:g}", "label": "epsilon spent, per user"},
        {"value": f"{auction.winners} of {auction.requests}", "label": "auctions with a winner"},
        {"value": f"{auction.p50_ms:.0f} ms", "label": "median auction"},
        {"value": f"{summary.egress.bits} bits", "label": "a win report may carry"},
    ]


def _figures(findings: Findings, summary: DemoSummary) -> dict[str, str]:
    room = summary.cleanroom
    chosen = findings.choice.curve
    points = [figures.CurvePoint(0, chosen.empty.auc)]
    points += [figures.CurvePoint(point.bits, point.auc) for point in chosen.points]
    return {
        "review": figures.review_losses(
            [(row.allocator, row.a2) for row in findings.review.rows], summary.review.bound_a2
        ),
        "lift": figures.lift([("own data", room.auc_without_partner), ("with the publisher's", room.auc_with_partner)]),
        "marginals": figures.marginals([_shares(findings, name) for name in _SHOWN_COLUMNS]),
        "latencies": figures.latencies([run.milliseconds for run in findings.auctions.runs if run.failure is None]),
        "egress": figures.egress_curve(points, CHOSEN_BITS, room.auc_without_partner),
    }


def _shares(findings: Findings, name: str) -> tuple[str, list[str], list[float], list[float]]:
    """Column, its most frequent real values, their shares in the real and in the synthetic rows."""
    sides = []
    for table in (findings.real_rows, findings.synthetic_table):
        counts = Counter("missing" if value is None else str(value) for value in table[name].to_pylist())
        sides.append({value: n / table.num_rows for value, n in counts.items()})
    real, synthetic = sides
    values = sorted(real, key=lambda value: -real[value])[:_SHOWN_VALUES]
    return name, values, [real[value] for value in values], [synthetic.get(value, 0.0) for value in values]


def _cleanroom(findings: Findings) -> Mapping[str, Any]:
    step = findings.cleanroom
    body: Any = step.receipt.body
    predictions = step.predictions
    users = findings.population.advertiser["user_id"].take(predictions["row"])
    interval = paired_user_bootstrap(
        predictions["label"].to_numpy(),
        users.to_numpy(),
        predictions["without_partner"].to_numpy(),
        predictions["with_partner"].to_numpy(),
        rng=stream(findings.seed, "bootstrap"),
        draws=_BOOTSTRAP_DRAWS,
    )
    return {
        "data_note": "The data is two weeks of KuaiRand-Pure (Gao et al. 2022, CC BY-SA 4.0), split by us into two "
        "parties by the app's scenario; the placements are not paid ads. "
        f"{len(findings.population.held_out)} users were held out of both tables: they are the devices below.",
        "lift_text": f"the publisher's events add {interval.value:+.4f} AUC, 95 % interval "
        f"[{interval.low:+.4f}, {interval.high:+.4f}] by users, {_BOOTSTRAP_DRAWS} resamples",
        "checks": body["checks"],
        "hardening": body["hardening"],
        "ledger": body["ledger"],
        "budget": f"{float(BUDGET.epsilon):g}",
        "quality_ceiling": findings.synthetic_quality.ceiling,
        "accountant": step.synthetic.accountant,
        "gate": body["gate"],
        "receipt": step.receipt.hash()[:16],
    }


def _publish(findings: Findings) -> Mapping[str, Any]:
    largest = max(findings.buyers, key=lambda buyer: len(user_fields(buyer.model)))
    return {
        "ads": sum(len(buyer.ads) for buyer in findings.buyers),
        "user_fields": len(user_fields(largest.model)),
        "tower_kb": len(largest.model.user_tower_onnx) / 1000,
        "buyers": [
            {
                "name": buyer.buyer,
                "model": "trained with the publisher's events" if buyer is largest else "trained on its own data",
                "ads": len(buyer.ads),
                "dimensions": buyer.dimensions,
            }
            for buyer in findings.buyers
        ],
    }


def _auction(findings: Findings) -> Mapping[str, Any]:
    runs = [run for run in findings.auctions.runs if run.failure is None]
    bids: dict[str, list[float]] = defaultdict(list)
    for report in findings.egress.reports:
        bids[report.buyer].append(report.bid_micros / 1_000_000)
    wins = Counter(run.buyer for run in runs if run.buyer)
    return {
        "devices": findings.auctions.devices,
        "buyers": [
            {"buyer": b, "wins": n, "mean_bid": f"{np.mean(bids[b]):.4f}" if bids[b] else "none"}
            for b, n in sorted(wins.items())
        ],
        "request_sizes": _sizes([run.request_bytes for run in runs]),
        "reply_sizes": _sizes([run.reply_bytes for run in runs]),
    }


def _sizes(sizes: Sequence[int]) -> str:
    return " or ".join(f"{size:,}" for size in sorted(set(sizes))) or "none"


def _egress(findings: Findings, summary: DemoSummary) -> Mapping[str, Any]:
    step, choice = findings.egress, findings.choice
    all_fields = choice.curve.baseline
    rows = [{"bits": 0, "fields": "none", "auc": choice.curve.empty.auc, "logloss": choice.curve.empty.logloss}]
    rows += [
        {
            "bits": point.bits,
            "fields": f"a learned code, {point.selection.bits} bits used",
            "auc": point.auc,
            "logloss": point.logloss,
        }
        for point in choice.curve.points
    ]
    rows.append({"bits": choice.data.bits, "fields": "all", "auc": all_fields.auc, "logloss": all_fields.logloss})
    text = (
        f"{step.live_labelled} of them belong to replayed impressions with a real outcome ({step.clicks} clicks). "
        f"A small factorisation machine trained on {step.training_rows:,} reports, the advertiser's logged impressions "
        f"sent through the same encoding and noise and these live ones, reaches AUC {step.summary.auc:.4f} on the test "
        f"days; the clean room's model without the partner reaches {summary.cleanroom.auc_without_partner:.4f}."
    )
    return {"text": text, "rows": rows}


def _honesty(findings: Findings) -> list[Mapping[str, Any]]:
    noise = "fixed, no guarantee" if findings.fixed_noise else "the operating system's generator"

    def row(part: str, what: str, *, real: bool = True) -> Mapping[str, Any]:
        return {"part": part, "real": real, "what": what}

    return [
        row("user behaviour", "two weeks of KuaiRand-Pure, one real log"),
        row("parties", "one log split into two by us; the placements are not paid ads", real=False),
        row("ads and moderators", "a workbook generated to fit the figures of a real one", real=False),
        row("verdicts", "drawn from each ad's risk and each moderator's accuracy", real=False),
        row("sealed tables, contract, brokers, ledger, gate", "Parquet encryption, HPKE, Ed25519, SQLite on this disk"),
        row("enclave", "a process with development evidence; this machine's administrator could read it", real=False),
        row("models", "trained with torch, served with ONNX Runtime in a process of its own"),
        row("privacy noise", noise, real=not findings.fixed_noise),
        row("buyers' and seller's JavaScript", f"V8 in Deno worker processes; {findings.auctions.isolation}"),
        row("auction services", "one process for each party, gRPC on loopback, HPKE end to end"),
        row("auction keys", "the published TEST_MODE key pair, which everyone has", real=False),
        row("devices", "the real client and store, driven by a script instead of a person", real=False),
        row("win reports", "sent over HTTP on loopback instead of HTTPS", real=False),
        row("clicks of replayed impressions", "what that user really did at that impression"),
    ]
