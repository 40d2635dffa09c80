"""`adyton demo`: one turn of the whole loop on shipped data, ending in a folder a person can look at.

    adyton-demo/
      report.html  summary.json      what happened, for people and for programs
      receipt.json  contract.json    the clean room's signed account, and what both parties signed
      boxes/                         sealed outputs as they left the enclave
      models/  synthetic.parquet     what the recipients opened
      predictions.parquet            of the advertiser's test rows, so that every AUC can be computed again
      approvals.jsonl                approved ads with the audit chain of review's decisions
      auctions.parquet  reports/     every auction, and what the collectors received

Everything that a party would keep to itself (keys, sealed tables, device stores, logs) lives in a temporary folder that
is deleted at the end.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adyton.flywheel import counters
from adyton.flywheel.aside import Aside
from adyton.flywheel.auction_step import AuctionPlan, AuctionRun, AuctionStep, run_auctions
from adyton.flywheel.cleanroom_step import CleanroomStep, run_step
from adyton.flywheel.device_signals import SignalPlan
from adyton.flywheel.egress_step import (
    NOISE_RATE,
    EgressChoice,
    advertiser_log,
    choose_payload,
    train_on_reports,
)
from adyton.flywheel.errors import DemoFolderError
from adyton.flywheel.folder import MARKER, check_keep, copy_to, whole_folder, work_folder
from adyton.flywheel.held_out import Population, hold_out
from adyton.flywheel.meter import MemoryMeter
from adyton.flywheel.progress import Reporter
from adyton.flywheel.publish_step import PublishedBuyer, publish_buyer, publish_seller
from adyton.flywheel.report import Findings, render_report
from adyton.flywheel.review_step import ReviewStep, review_day
from adyton.flywheel.summary import AuctionSummary, CleanroomSummary, DemoSummary
from adyton.kernel.chance import InsecureFixedRandom, OsRandom
from adyton.kernel.clock import Clock, SystemClock
from adyton.kernel.ids import BuyerId
from adyton.learning.ctr.artifact import latest_rows
from adyton.learning.datasets.kuairand import tables as kuairand
from adyton.learning.metrics import auc
from adyton.learning.schema import Role

_DAY_MS = 86_400_000
JOINT_BUYER, SOLO_BUYER = BuyerId("joint.example"), BuyerId("solo.example")


@dataclass(frozen=True)
class DemoConfig:
    """out: folder to make.   devices: at most so many.   volume: of the review day; 1 is 15,000 ads.

    fixed_noise: privacy noise that repeats itself and protects nobody.   keep: folder for what is otherwise deleted.
    """

    out: Path
    seed: int = 1
    devices: int = 200
    volume: float = 1.0
    fixed_noise: bool = False
    keep: Path | None = None


def run_demo(config: DemoConfig, reporter: Reporter, clock: Clock | None = None) -> DemoSummary:
    """Run the loop and write `config.out`, whole or not at all.

    Raises DemoFolderError before any work if a folder cannot be used, and after it where `keep` took not everything.
    """
    clock = clock or SystemClock()
    started = time.monotonic()
    not_kept: DemoFolderError | None = None
    if config.keep is not None:
        check_keep(config.keep, config.out)
    with MemoryMeter() as meter, whole_folder(config.out) as out:
        work = work_folder()
        try:
            findings = _turn(config, reporter, clock, out, work)
            with reporter.step(6, "report"):
                summary = _summary(findings, seconds=time.monotonic() - started, peak_mb=meter.peak_mb)
                (out / "report.html").write_text(render_report(findings, summary), "utf-8")
                (out / MARKER).write_text(json.dumps(summary.as_json(), indent=1) + "\n")
        finally:
            if config.keep is not None:
                not_kept = copy_to(config.keep, work)
            shutil.rmtree(work, ignore_errors=True)
    if not_kept is not None:
        raise not_kept
    return summary


def _turn(config: DemoConfig, reporter: Reporter, clock: Clock, out: Path, work: Path) -> Findings:
    population = hold_out(
        kuairand.publisher_table(), kuairand.advertiser_table(), users=config.devices, seed=config.seed
    )
    creative_ids = sorted({str(item) for item in pc.unique(population.advertiser["item_id"]).to_pylist()})
    review_day_arguments = (
        creative_ids,
        (JOINT_BUYER, SOLO_BUYER),
        config.volume,
        config.seed,
        clock.now_ms() - _DAY_MS,
    )
    # Review needs nothing from the clean room, so the two share the machine's cores.
    with Aside(review_day, *review_day_arguments) as beside:
        with reporter.step(2, "clean room") as progress:
            cleanroom = run_step(
                population,
                out,
                work,
                seed=config.seed,
                fixed_noise=config.fixed_noise,
                progress=progress,
                clock=clock,
            )
            _write_cleanroom(out, cleanroom)
        with reporter.step(1, "review, begun beside the clean room") as progress:
            review = beside.result(progress)
            _write_approvals(out / "approvals.jsonl", review)
    log = advertiser_log(population.advertiser)
    with reporter.step(3, "publish") as progress:
        choice = choose_payload(log, cleanroom.model_without_partner, seed=config.seed, progress=progress)
        buyers = _publish(work / "parties", review, cleanroom, choice, clock)
    with reporter.step(4, "auction") as progress:
        plan = _auction_plan(config, population, review, buyers, choice, out, work)
        auctions = asyncio.run(run_auctions(plan, progress))
        pq.write_table(pa.Table.from_pylist([asdict(run) for run in auctions.runs]), out / "auctions.parquet")
    with reporter.step(5, "egress"):
        egress = train_on_reports(
            choice,
            buyers,
            auctions.reports,
            population.held_out,
            latest_rows(log, "item_id", "time_ms"),
            source=InsecureFixedRandom(config.seed, "egress") if config.fixed_noise else OsRandom(),
            seed=config.seed,
        )
    return Findings(
        seed=config.seed,
        fixed_noise=config.fixed_noise,
        population=population,
        review=review,
        cleanroom=cleanroom,
        buyers=tuple(buyers),
        choice=choice,
        auctions=auctions,
        egress=egress,
    )


def _publish(
    folder: Path, review: ReviewStep, cleanroom: CleanroomStep, choice: EgressChoice, clock: Clock
) -> list[PublishedBuyer]:
    plan = signal_plan()
    publish_seller(folder / "seller", review.approved, clock.now_ms())
    models = {JOINT_BUYER: cleanroom.model, SOLO_BUYER: cleanroom.model_without_partner}
    return [
        publish_buyer(
            folder / buyer,
            buyer=buyer,
            model=model,
            ads=[ad for ad in review.approved if ad.buyer == buyer],
            plan=plan,
            egress=choice.plan_for(model),
            at_ms=clock.now_ms(),
        )
        for buyer, model in models.items()
    ]


def signal_plan() -> SignalPlan:
    """Which profile columns and counters live on the demo's devices."""
    return SignalPlan(
        own_columns=tuple(c.name for c in kuairand.ADVERTISER_SCHEMA.with_role(Role.USER)),
        own_counters=counters.OWN,
        partner_counters=counters.PARTNER,
    )


def _auction_plan(
    config: DemoConfig,
    population: Population,
    review: ReviewStep,
    buyers: Sequence[PublishedBuyer],
    choice: EgressChoice,
    out: Path,
    work: Path,
) -> AuctionPlan:
    ads_by_creative: dict[str, list[str]] = defaultdict(list)
    for buyer in buyers:
        for ad in buyer.ads.values():
            ads_by_creative[ad.creative_id].append(ad.ad_id)
    return AuctionPlan(
        buyers=buyers,
        seller_folder=work / "parties" / "seller",
        users=population.held_out,
        signals=signal_plan(),
        partner_buyers=frozenset({JOINT_BUYER}),
        ads_by_creative=ads_by_creative,
        countries=review.countries,
        egress_bits=choice.plan.bits,
        noise_rate=str(NOISE_RATE),
        fixed_noise=config.fixed_noise,
        seed=config.seed,
        work=work,
        reports=out / "reports",
    )


def _write_approvals(path: Path, review: ReviewStep) -> None:
    with path.open("w") as file:
        for ad in review.approved:
            file.write(json.dumps({"approved": asdict(ad)}) + "\n")
        for entry in review.audit:
            file.write(json.dumps({"audit": entry.as_json()}) + "\n")


def _write_cleanroom(out: Path, step: CleanroomStep) -> None:
    for name, model in (("with_partner", step.model), ("without_partner", step.model_without_partner)):
        folder = out / "models" / name
        folder.mkdir(parents=True)
        (folder / "user_tower.onnx").write_bytes(model.user_tower_onnx)
        (folder / "ad_vectors.parquet").write_bytes(model.ad_vectors_parquet)
        (folder / "context_vectors.parquet").write_bytes(model.context_vectors_parquet)
        (folder / "manifest.json").write_text(json.dumps(dict(model.manifest), indent=1))
    (out / "synthetic.parquet").write_bytes(step.synthetic.table_parquet)
    pq.write_table(step.predictions, out / "predictions.parquet")
    (out / "receipt.json").write_text(json.dumps(step.receipt.as_json(), indent=1))


def _summary(findings: Findings, *, seconds: float, peak_mb: float) -> DemoSummary:
    cleanroom, auctions = findings.cleanroom, findings.auctions
    labels = cleanroom.predictions["label"].to_numpy()
    evaluation = cleanroom.evaluation
    return DemoSummary(
        review=findings.review.summary,
        cleanroom=CleanroomSummary(
            platform=str(cleanroom.receipt.body["platform"]),
            checks_passed=cleanroom.checks_passed,
            rows_publisher=findings.population.publisher.num_rows,
            rows_advertiser=findings.population.advertiser.num_rows,
            users_joined=int(cleanroom.statistics["users_joined"]),
            epsilon_spent=cleanroom.epsilon_spent,
            auc_without_partner=auc(labels, cleanroom.predictions["without_partner"].to_numpy()),
            auc_with_partner=auc(labels, cleanroom.predictions["with_partner"].to_numpy()),
            gauc_with_partner=float(evaluation["model"]["gauc"]),
            synthetic_quality=findings.synthetic_quality.overall,
        ),
        auction=auction_summary(auctions),
        egress=findings.egress.summary,
        seconds=round(seconds, 1),
        peak_rss_mb=round(peak_mb, 1),
    )


def auction_summary(step: AuctionStep) -> AuctionSummary:
    """Counts and latencies; an auction that failed has no latency."""
    worked: list[AuctionRun] = [run for run in step.runs if run.failure is None]
    winners = sum(1 for run in worked if run.render_url)
    times = [run.milliseconds for run in worked] or [float("nan")]
    return AuctionSummary(
        requests=len(step.runs),
        winners=winners,
        chaff=len(worked) - winners,
        errors=len(step.runs) - len(worked),
        p50_ms=float(np.quantile(times, 0.5)),
        p99_ms=float(np.quantile(times, 0.99)),
    )
