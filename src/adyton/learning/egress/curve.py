"""The experiment that finds a payload size: utility per bit, a selection for each size, and the curve.

Protocol of the proposal (Protected App Signals, "Determine the size of the egress payload"): train with all features;
leave each out in turn; divide the loss of quality by the feature's bits; for each size choose greedily by utility per
bit; train at each size and compare with the baseline. Beyond it: forward selection, which sees redundancy, and a
learned code of the user. Training rows carry the platform's payload noise everywhere, the baseline included.

Features are chosen on the last fifth of the training rows; test rows only judge. Rows are expected in time order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

import numpy as np
import numpy.typing as npt

from adyton.kernel.chance import stream
from adyton.learning.egress.code_search import search_codes
from adyton.learning.egress.errors import EgressInputError
from adyton.learning.egress.features import EgressData, Ints, UserFeature
from adyton.learning.egress.machine import FactorizationTrainer, Trainer
from adyton.learning.egress.user_code import UserCode
from adyton.learning.metrics import auc, logloss

PAYLOAD_NOISE_SHARE = 0.01
_VALIDATION_SHARE = 0.2
_SLATE, _AUCTION_ROUNDS = 8, 10


class Method(Enum):
    """How the payload of a size is made. The stored values are what the command line takes."""

    DROP_ONE = "drop-one"
    """Greedy by utility per bit from leaving each feature out once: the proposal's own protocol."""
    FORWARD = "forward"
    """Greedy by gain per bit over what is already chosen: sees redundancy, costs more trainings."""
    CODE = "code"
    """A learned code of at most that many bits; fewer where more do not help."""


@dataclass(frozen=True)
class Scores:
    """Quality on test rows.   revenue: value of clicks won in simulated auctions, in clicks' worth; see `revenue`."""

    auc: float
    logloss: float
    revenue: float


@dataclass(frozen=True)
class FeatureUtility:
    """What one feature is worth beside all others: log loss (nats) it saves, in total and for each bit."""

    name: str
    bits: int
    logloss_saved: float

    @property
    def per_bit(self) -> float:
        return self.logloss_saved / self.bits


@dataclass(frozen=True)
class Selection:
    """The payload of one size.   features: (name, bits), in payload order.

    code, coded: of a learned code, itself and what it makes of each row of the experiment.
    """

    limit_bits: int
    features: tuple[tuple[str, int], ...]
    code: UserCode | None = None
    coded: tuple[UserFeature, ...] = field(default=(), repr=False, compare=False)

    @property
    def bits(self) -> int:
        """Bits really used, at most `limit_bits`."""
        return sum(bits for _, bits in self.features)


@dataclass(frozen=True)
class CurvePoint:
    """One point of the curve. `lift_share`: of what all user features add to the AUC, how much is kept; may pass 1;
    NaN, and null in JSON, where all user features together add nothing.

    share_of_baseline: AUC over baseline AUC.   revenue_share: simulated revenue over the baseline's.
    """

    selection: Selection
    scores: Scores
    share_of_baseline: float
    revenue_share: float
    lift_share: float

    @property
    def bits(self) -> int:
        return self.selection.limit_bits

    @property
    def auc(self) -> float:
        return self.scores.auc

    @property
    def logloss(self) -> float:
        return self.scores.logloss

    def as_json(self) -> dict[str, object]:
        return {
            "bits": self.bits,
            "bits_used": self.selection.bits,
            "features": [name for name, _ in self.selection.features],
            "auc": self.auc,
            "logloss": self.logloss,
            "share_of_baseline": self.share_of_baseline,
            "revenue_share": self.revenue_share,
            "lift_share": None if math.isnan(self.lift_share) else self.lift_share,
        }


@dataclass(frozen=True)
class Curve:
    """empty: no user feature at all (0 bits).   baseline: all of them (`baseline_bits`)."""

    method: Method
    points: tuple[CurvePoint, ...]
    empty: Scores
    baseline: Scores
    baseline_bits: int
    utilities: tuple[FeatureUtility, ...]

    def point(self, bits: int) -> CurvePoint:
        """The point of a size.   Raises EgressInputError if it was not measured."""
        for point in self.points:
            if point.bits == bits:
                return point
        raise EgressInputError(f"{bits} bits were not measured", hint="add the size to the curve")

    def as_json(self) -> dict[str, object]:
        return {
            "method": self.method.value,
            "empty": vars(self.empty),
            "baseline": {"bits": self.baseline_bits, **vars(self.baseline)},
            "points": [point.as_json() for point in self.points],
            "utilities": [
                {"name": u.name, "bits": u.bits, "logloss_saved": u.logloss_saved, "per_bit": u.per_bit}
                for u in self.utilities
            ],
        }


def ablation(data: EgressData, trainer: Trainer) -> tuple[FeatureUtility, ...]:
    """Leave each user feature out once: utilities by falling utility per bit, judged on the test rows of `data`."""
    names = [feature.name for feature in data.user_features]
    with_all = _logloss(data, data.user_features, trainer)
    utilities = [
        FeatureUtility(
            feature.name,
            feature.bits,
            _logloss(data, data.chosen(n for n in names if n != feature.name), trainer) - with_all,
        )
        for feature in data.user_features
    ]
    return tuple(sorted(utilities, key=lambda u: -u.per_bit))


def select_features(utilities: Sequence[FeatureUtility], sizes: Sequence[int]) -> tuple[Selection, ...]:
    """For each size the features of the highest utility per bit that still fit; those that do harm are left out."""
    ranked = sorted(utilities, key=lambda u: -u.per_bit)
    selections = []
    for size in sizes:
        chosen: list[tuple[str, int]] = []
        left = size
        for utility in ranked:
            if utility.logloss_saved > 0 and utility.bits <= left:
                chosen.append((utility.name, utility.bits))
                left -= utility.bits
        selections.append(Selection(size, tuple(chosen)))
    return tuple(selections)


def forward_selections(data: EgressData, sizes: Sequence[int], trainer: Trainer) -> tuple[Selection, ...]:
    """For each size: add the feature with the largest gain per bit over those chosen, while one fits and helps."""
    selections = []
    known: dict[tuple[str, ...], float] = {}

    def loss(names: tuple[str, ...]) -> float:
        key = tuple(sorted(names))
        if key not in known:
            known[key] = _logloss(data, data.chosen(key), trainer)
        return known[key]

    for size in sizes:
        chosen: tuple[str, ...] = ()
        while True:
            left = size - sum(f.bits for f in data.chosen(chosen))
            fitting = [f for f in data.user_features if f.name not in chosen and f.bits <= left]
            gains = [((loss(chosen) - loss((*chosen, f.name))) / f.bits, f.name) for f in fitting]
            if not gains or max(gains)[0] <= 0:
                break
            chosen = (*chosen, max(gains)[1])
        selections.append(Selection(size, tuple((f.name, f.bits) for f in data.chosen(chosen))))
    return tuple(selections)


def curve(
    data: EgressData,
    sizes: Sequence[int],
    *,
    method: Method = Method.DROP_ONE,
    trainer: Trainer | None = None,
    noise_share: float = PAYLOAD_NOISE_SHARE,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Curve:
    """The curve of `data` at `sizes` (bits, each at least 1).

    trainer: the model to compare, a small factorization machine if None.   progress: called with what is done next.
    Raises EgressInputError for sizes below 1, MetricError where a metric is not defined.
    """
    if not sizes or min(sizes) < 1:
        raise EgressInputError("payload sizes must be at least 1 bit")
    tell = progress or (lambda _: None)
    model = trainer or FactorizationTrainer(seed=seed)
    reported = data.noised(noise_share, stream(seed, "payload noise"))
    utilities: tuple[FeatureUtility, ...] = ()
    tell(f"choosing payloads ({method.value})")
    if method is Method.CODE:
        coder = model if isinstance(model, FactorizationTrainer) else FactorizationTrainer(seed=seed)
        selections = _code_selections(data, reported, sizes, model, coder, noise_share, seed)
    elif method is Method.FORWARD:
        selections = forward_selections(_validation(reported), sizes, model)
    else:
        utilities = ablation(_validation(reported), model)
        selections = select_features(utilities, sizes)
    tell("training without and with all user features")
    empty = scores(data, (), model, noise_share=noise_share, seed=seed)
    baseline = scores(data, data.user_features, model, noise_share=noise_share, seed=seed)
    points = []
    for selection in selections:
        tell(f"training at {selection.limit_bits} bits")
        sent = _payload(data, selection)
        at_size = scores(data, sent, model, noise_share=noise_share, seed=seed)
        points.append(_point(selection, at_size, empty, baseline))
    return Curve(method, tuple(points), empty, baseline, data.bits, utilities)


def scores(
    data: EgressData,
    sent: tuple[UserFeature, ...],
    trainer: Trainer,
    *,
    noise_share: float = PAYLOAD_NOISE_SHARE,
    seed: int = 0,
) -> Scores:
    """Quality of a model trained on the free fields and noised payloads of `sent`, judged on true test rows."""
    noised = replace(data, user_features=sent).noised(noise_share, stream(seed, "payload noise"))
    predicted = _predicted(noised, noised.user_features, trainer)
    labels = data.labels[data.is_test]
    return Scores(auc(labels, predicted), logloss(labels, predicted), revenue(labels, predicted, seed=seed))


def revenue(labels: Ints, predicted: npt.NDArray[np.float64], *, seed: int) -> float:
    """Simulated revenue of one auction, in the value of one average click.

    Test impressions are dealt into slates of 8; each has a value per click drawn log-normally (mean 1); the highest
    value x predicted click rate wins, and pays its value if the impression was really clicked. Ten deals, the same for
    every model of one seed.
    """
    rng = stream(seed, "auctions")
    n_slates = labels.size // _SLATE
    if not n_slates:
        raise EgressInputError(f"revenue needs at least {_SLATE} test rows")
    total = 0.0
    for _ in range(_AUCTION_ROUNDS):
        dealt = rng.permutation(labels.size)[: n_slates * _SLATE].reshape(n_slates, _SLATE)
        values = rng.lognormal(-0.125, 0.5, dealt.shape)
        winner = np.argmax(values * predicted[dealt], axis=1)[:, None]
        total += float((np.take_along_axis(values * labels[dealt], winner, axis=1)).mean())
    return total / _AUCTION_ROUNDS


def schema_for(selection: Selection, *, version: int = 1) -> dict[str, object]:
    """The payload's schema in the form of protected-auction §11.1: one unsigned integer for each feature.

    version: 0..7.   Raises EgressInputError for another version or an empty selection.
    """
    if not 0 <= version <= 7:
        raise EgressInputError("an egress schema has a version of 0 to 7")
    if not selection.features:
        raise EgressInputError("no feature was chosen, so there is nothing to describe", hint="allow more bits")
    features = [{"name": "unsigned-integer-feature", "size": bits} for _, bits in selection.features]
    return {"cddl_version": "1.0.0", "version": version, "features": features}


def encoding_of(selection: Selection, data: EgressData) -> dict[str, object]:
    """How a device fills the payload of `selection`, as JSON: what `schema_for` does not say.

    features: the raw features that are read, in order, with bits and coding (`Coding`).   code: of a learned code, how
    their codes become the payload (`UserCode.as_json`); without it they are the payload.
    """
    names = selection.code.numbers.names if selection.code else tuple(name for name, _ in selection.features)
    features = [
        {"name": f.name, "bits": f.bits, **(f.coding.as_json() if f.coding else {})} for f in data.chosen(names)
    ]
    return {"features": features, **({"code": selection.code.as_json()} if selection.code else {})}


def _code_selections(
    data: EgressData,
    reported: EgressData,
    sizes: Sequence[int],
    model: Trainer,
    coder: FactorizationTrainer,
    noise_share: float,
    seed: int,
) -> tuple[Selection, ...]:
    def losses(of: EgressData, sent: tuple[UserFeature, ...]) -> npt.NDArray[np.float64]:
        noised = replace(of, user_features=sent).noised(noise_share, stream(seed, "payload noise"))
        predicted, clicked = _predicted(noised, noised.user_features, model), of.labels[of.is_test] == 1
        return np.asarray(-np.log(np.clip(np.where(clicked, predicted, 1 - predicted), 1e-15, None)))

    found = search_codes(data, reported, _validation(reported), sizes, coder, losses, seed=seed)
    return tuple(
        Selection(size, tuple((f.name, f.bits) for f in coded), code, coded)
        for size, (code, coded) in zip(sizes, found, strict=True)
    )


def _payload(data: EgressData, selection: Selection) -> tuple[UserFeature, ...]:
    return selection.coded or data.chosen(name for name, _ in selection.features)


def _point(selection: Selection, at_size: Scores, empty: Scores, baseline: Scores) -> CurvePoint:
    lift = baseline.auc - empty.auc
    return CurvePoint(
        selection,
        at_size,
        share_of_baseline=at_size.auc / baseline.auc,
        revenue_share=at_size.revenue / baseline.revenue if baseline.revenue else 1.0,
        lift_share=(at_size.auc - empty.auc) / lift if lift > 0 else float("nan"),
    )


def _validation(data: EgressData) -> EgressData:
    """The training rows alone, their last fifth as test rows."""
    rows = np.flatnonzero(~data.is_test)
    cut = int(rows.size * (1 - _VALIDATION_SHARE))
    return EgressData(
        tuple(replace(f, codes=f.codes[rows]) for f in data.user_features),
        data.free[rows],
        data.free_sizes,
        data.labels[rows],
        np.arange(rows.size) >= cut,
    )


def _logloss(data: EgressData, sent: tuple[UserFeature, ...], trainer: Trainer) -> float:
    return logloss(data.labels[data.is_test], _predicted(data, sent, trainer))


def _predicted(data: EgressData, sent: tuple[UserFeature, ...], trainer: Trainer) -> npt.NDArray[np.float64]:
    codes = np.column_stack([data.free, *(feature.codes for feature in sent)])
    sizes = (*data.free_sizes, *(feature.size for feature in sent))
    if not sizes:
        rate = float(data.labels[~data.is_test].mean())
        return np.full(int(data.is_test.sum()), rate)
    return trainer.fit_predict(codes[~data.is_test], data.labels[~data.is_test], codes[data.is_test], sizes)
