"""What the win reports are worth: choose a payload, read the collectors' reports back, train on them, compare.

The payload is a learned code of the user (`learning.egress`, as `adyton egress curve --method code`). It is learned on
the advertiser's own log, from its user fields coded as the model codes them, and the log's codes are sent through the
platform's own encoding and noise as if each logged impression had been won. Live reports come from the auctions, where
the buyer's script computes the code; those of replayed impressions have a real outcome (a click that the device
reported, or none) and join the training rows. Test rows keep their true codes: serving sees them, only reports are
noised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adyton.flywheel import counters
from adyton.flywheel.held_out import HeldOutUser
from adyton.flywheel.progress import StepProgress
from adyton.flywheel.publish_step import EgressPlan, PublishedBuyer, user_fields
from adyton.flywheel.summary import EgressSummary
from adyton.kernel.chance import RandomSource
from adyton.kernel.ids import BuyerId
from adyton.kernel.records import EgressReport, ModelArtifact
from adyton.learning.ctr.features import with_counters
from adyton.learning.ctr.fields import FieldEncoder, FieldSpec, Side
from adyton.learning.datasets.kuairand import tables as kuairand
from adyton.learning.egress.curve import Curve, Method, Selection, curve, schema_for
from adyton.learning.egress.features import EgressData, UserFeature
from adyton.learning.egress.machine import FactorizationTrainer
from adyton.learning.egress.user_code import UserCode
from adyton.learning.metrics import auc
from adyton.protocol.egress_noise import noise_payload
from adyton.protocol.egress_schema import EgressPayload, EgressSchema
from adyton.protocol.egress_wire import decode_payload, encode_payload, from_base64

NOISE_RATE = Fraction(1, 100)
SIZES_BITS = (2, 5, 10, 20)
CHOSEN_BITS = 5
"""More bits of a code do not help here: the counters say little that the propensity does not."""
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class EgressChoice:
    """The offline experiment: its data, its curve, and the payload that was chosen."""

    data: EgressData
    curve: Curve
    selection: Selection
    plan: EgressPlan

    def plan_for(self, model: ModelArtifact) -> EgressPlan:
        """The same payload, read from the user fields of another model of the same rows."""
        return replace(self.plan, positions=_positions(_code(self.selection), model))


@dataclass(frozen=True)
class EgressStep:
    """live: reports that could be decoded.   live_labelled: those with a real outcome.   clicks: of these."""

    summary: EgressSummary
    live_labelled: int
    clicks: int
    training_rows: int
    reports: tuple[EgressReport, ...]


def advertiser_log(advertiser: pa.Table) -> pa.Table:
    """The advertiser's own rows with its own counters, as it can make them at home."""
    return with_counters(advertiser, advertiser, counters.OWN)


def choose_payload(log: pa.Table, model: ModelArtifact, *, seed: int, progress: StepProgress) -> EgressChoice:
    """The code of the advertiser's own user fields that a payload carries.

    log: `advertiser_log`.   model: trained on the same rows; its vocabularies code the fields.
    """
    encoder = _encoder(model)
    own = [field for field in encoder.of(Side.USER) if field.name in log.column_names]
    features = tuple(_feature(field, log) for field in own)
    free_fields = [*encoder.of(Side.AD), *encoder.of(Side.CONTEXT)]
    free = np.column_stack([field.encode(log[field.name])[:, 0] for field in free_fields])
    data = EgressData(
        user_features=features,
        free=free,
        free_sizes=tuple(field.size for field in free_fields),
        labels=log["is_click"].cast(pa.int64()).to_numpy(),
        is_test=pc.greater(log["date"], kuairand.VALIDATION_DATE).to_numpy(zero_copy_only=False),
    )
    measured = curve(
        data,
        SIZES_BITS,
        method=Method.CODE,
        noise_share=float(NOISE_RATE),
        seed=seed,
        progress=lambda what: progress.update(0.5, what),
    )
    selection = measured.point(CHOSEN_BITS).selection
    code = _code(selection)
    plan = EgressPlan(schema_for(selection), code.as_json(), selection.bits, _positions(code, model))
    return EgressChoice(data, measured, selection, plan)


def train_on_reports(
    choice: EgressChoice,
    buyers: Sequence[PublishedBuyer],
    folders: Mapping[str, Path],
    users: Sequence[HeldOutUser],
    item_fields: pa.Table,
    *,
    source: RandomSource,
    seed: int,
) -> EgressStep:
    """Train on what win reports carry and judge on the test rows.

    folders: buyer -> Parquet files of its collector.   item_fields: one row per creative, as the advertiser knows it.
    source: of the platform's noise on the offline payloads.
    """
    schema = EgressSchema.parse(choice.plan.schema)
    sent = choice.selection.coded
    offline = _through_the_wire(schema, np.column_stack([f.codes for f in sent]), ~choice.data.is_test, source)
    reports, live, labels, requests = _read_reports(schema, folders)
    free = _live_free_fields(choice, buyers, users, item_fields, reports, requests)
    train = np.concatenate(
        [np.column_stack([choice.data.free, offline])[~choice.data.is_test], np.column_stack([free, live])[labels >= 0]]
    )
    targets = np.concatenate([choice.data.labels[~choice.data.is_test], labels[labels >= 0]])
    test = np.column_stack([choice.data.free, *(f.codes for f in sent)])[choice.data.is_test]
    sizes = (*choice.data.free_sizes, *(f.size for f in sent))
    predicted = FactorizationTrainer(seed=seed).fit_predict(train, targets, test, sizes)
    truth = choice.data.labels[choice.data.is_test]
    return EgressStep(
        summary=EgressSummary(len(reports), schema.bits, float(NOISE_RATE), auc(truth, predicted)),
        live_labelled=int((labels >= 0).sum()),
        clicks=int((labels == 1).sum()),
        training_rows=len(targets),
        reports=reports,
    )


def _code(selection: Selection) -> UserCode:
    assert selection.code is not None, "the curve was asked for codes"
    return selection.code


def _positions(code: UserCode, model: ModelArtifact) -> tuple[int, ...]:
    names = [entry["name"] for entry in user_fields(model)]
    return tuple(names.index(name) for name in code.numbers.names)


def _encoder(model: ModelArtifact) -> FieldEncoder:
    manifest: Any = model.manifest
    return FieldEncoder.from_json(manifest["fields"])


def _feature(field: FieldSpec, log: pa.Table) -> UserFeature:
    return UserFeature(field.name, max(1, (field.size - 1).bit_length()), field.encode(log[field.name])[:, 0])


def _through_the_wire(schema: EgressSchema, codes: Ints, is_sent: npt.NDArray[np.bool_], source: RandomSource) -> Ints:
    """Codes of the sent rows as a collector decodes them; other rows are left as they are."""
    received = codes.copy()
    for row in np.flatnonzero(is_sent):
        payload = EgressPayload(tuple(int(code) for code in codes[row]))
        wire = encode_payload(schema, noise_payload(schema, payload, source, NOISE_RATE))
        received[row] = np.array(decode_payload(schema, wire).values, np.int64)
    return received


def _read_reports(
    schema: EgressSchema, folders: Mapping[str, Path]
) -> tuple[tuple[EgressReport, ...], Ints, Ints, list[str]]:
    """Reports, decoded codes int64[R, F], labels int64[R] (-1: outcome unknown) and request names."""
    reports, codes, labels, requests = [], [], [], []
    for buyer, folder in sorted(folders.items()):
        wins = [row for path in sorted(folder.glob("win-*.parquet")) for row in pq.read_table(path).to_pylist()]
        clicked = {
            row["request"] for path in sorted(folder.glob("click-*.parquet")) for row in pq.read_table(path).to_pylist()
        }
        for row in sorted(wins, key=lambda win: str(win["request"])):
            wire = from_base64(row["egress"])
            reports.append(_report(buyer, row, wire))
            codes.append(decode_payload(schema, wire).values)
            is_known = row["request"].endswith("-replay")
            labels.append(int(row["request"] in clicked) if is_known else -1)
            requests.append(row["request"])
    width = len(schema.features)
    return tuple(reports), np.array(codes, np.int64).reshape(-1, width), np.array(labels, np.int64), requests


def _report(buyer: str, row: Mapping[str, Any], wire: bytes) -> EgressReport:
    return EgressReport(
        buyer=BuyerId(buyer),
        ad_render_url=row["render"],
        payload=wire,
        bid_micros=round(float(row["bid"]) * 1_000_000),
        received_at_ms=row["received_at_ms"],
    )


def _live_free_fields(
    choice: EgressChoice,
    buyers: Sequence[PublishedBuyer],
    users: Sequence[HeldOutUser],
    item_fields: pa.Table,
    reports: Sequence[EgressReport],
    requests: Sequence[str],
) -> Ints:
    """Item and context codes int64[R, F] of each report, from the buyer's own catalogue and request log."""
    by_url = {ad.render_url: ad.creative_id for buyer in buyers for ad in buyer.ads.values()}
    rows = {str(item): row for row, item in enumerate(item_fields["item_id"].to_pylist())}
    moments = [users[int(request.split("-")[0])].moment for request in requests]
    shown = item_fields.take(pa.array([rows[by_url[report.ad_render_url]] for report in reports], pa.int64()))
    context = {"hour": [m.hour for m in moments], "tab": [m.tab for m in moments]}
    encoder = _encoder(buyers[0].model)
    columns = [field.encode(shown[field.name])[:, 0] for field in encoder.of(Side.AD)]
    columns += [field.encode(pa.array(context[field.name]))[:, 0] for field in encoder.of(Side.CONTEXT)]
    return np.column_stack(columns) if len(reports) else np.zeros((0, len(choice.data.free_sizes)), np.int64)
