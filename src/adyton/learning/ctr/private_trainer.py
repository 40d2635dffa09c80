"""Training with differential privacy for users: a factorised model that hardly depends on any one user.

Neighbouring tables differ in all rows of one user, added or removed. What is released is the model: vocabularies and
weights. Nothing else of the data is looked at: there is no early stop and no calibration, numbers have public buckets.

    1 bound     at most `rows_per_user` random rows of each user
    2 find      the values of each category, by noisy counts of users above a threshold (`synth.domains`)
    3 descend   `steps` times: every user's gradient, clipped (`private_kernel`), the sum noised with the discrete
                Gaussian, one step of Adam whose second moment has the noise's share taken out (DP-AdamBC, Tang et al.
                2023), with the noise's own size as floor
    4 average   the weights of the last half of the steps

Which ads and contexts an exported model lists can be found in the same way, from the same budget (`with_listing`).

Every step reads *all* users. There is no subsampling, hence no amplification to claim and none to get wrong: the cost
is zero-concentrated DP of Gaussian sums, added up and turned into (epsilon, delta) as for synthetic tables
(`synth.accounting`). Steps 3's optimiser and step 4 only process what is noised already.

The towers stay at zero: noise grows with the number of weights, and users teach a factorisation machine first.
With `OsRandom` noise is OpenDP's exact sampler over the operating system's generator; with an insecure source, for
tests, the model says that it protects nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from adyton.kernel.chance import RandomSource, stream
from adyton.kernel.ledger import PrivacyLoss
from adyton.learning.ctr.config import TrainConfig
from adyton.learning.ctr.fields import SIDE_OF_ROLE, FieldEncoder, FieldSpec, Side, as_text
from adyton.learning.ctr.network import FactorisedNetwork
from adyton.learning.ctr.private_kernel import GRID, add_clipped_gradients
from adyton.learning.ctr.private_listing import Listing, released_listing
from adyton.learning.ctr.training import TrainedModel
from adyton.learning.errors import ModelError, TableError
from adyton.learning.schema import Column, Kind, Role, TableSchema
from adyton.learning.synth.accounting import ACCOUNTANT, Spending, rho_for, scale_for
from adyton.learning.synth.bounding import bounded_rows
from adyton.learning.synth.domains import Finder
from adyton.learning.synth.noise import Noise, noise_from

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

PUBLIC_EDGES = (*(-(4.0**k) for k in range(16, -6, -1)), 0.0, *(4.0**k for k in range(-5, 17)))
"""Buckets of every number, whatever the data: powers of four. A number's own quantiles would be about its users."""
_MOMENTUM, _MEMORY = 0.9, 0.99


@dataclass(frozen=True)
class PrivateTraining:
    """Public settings; none may be chosen by looking at the private rows.

    rows_per_user: kept of each user.   steps: passes over all users.   rate: Adam's step.   clip: L2 norm of a user's
    gradient, the square root of the number of fields if None.   fm_dim: width of the factorisation machine.
    domain_share: of the budget, for finding values.
    """

    rows_per_user: int = 16
    steps: int = 40
    rate: float = 0.02
    clip: float | None = None
    fm_dim: int = 1
    domain_share: Fraction = Fraction(2, 5)

    def __post_init__(self) -> None:
        if min(self.rows_per_user, self.steps, self.fm_dim) < 1 or self.rate <= 0 or (self.clip or 1.0) <= 0:
            raise ModelError("private training needs positive settings")
        if not 0 < self.domain_share < 1:
            raise ModelError("must lie between 0 and 1", where="domain_share")


def train_private(
    table: pa.Table,
    schema: TableSchema,
    *,
    rows: Ints,
    loss: PrivacyLoss,
    source: RandomSource,
    features: tuple[str, ...] | None = None,
    settings: PrivateTraining | None = None,
    seed: int = 0,
) -> TrainedModel:
    """A model of `schema.label` on `rows` of `table` that is (loss.epsilon, loss.delta)-DP for each user.

    features: columns to use, every feature but the user id if None.   seed: of the start's small random vectors, which
    are public.   source: `OsRandom` for a guarantee.
    Raises ModelError for lists, the user id as a feature or settings that do not fit, TableError for the table,
    SynthesisInputError unless epsilon > 0 and 0 < delta < 1.
    """
    return _trained(table, schema, rows, loss, source, features, settings, seed, least_users=1)[0]


def train_private_with_listing(
    table: pa.Table,
    schema: TableSchema,
    *,
    rows: Ints,
    loss: PrivacyLoss,
    source: RandomSource,
    features: tuple[str, ...] | None = None,
    settings: PrivateTraining | None = None,
    seed: int = 0,
    least_users: int = 1,
) -> tuple[TrainedModel, Listing]:
    """`train_private`, and the ads and contexts that an export of the model may list; `loss` covers both.

    least_users: no value, ad or context is released that fewer distinct users share.
    """
    model, listing = _trained(
        table, schema, rows, loss, source, features, settings, seed, least_users=least_users, with_listing=True
    )
    assert listing is not None, "it was asked for"
    return model, listing


def _trained(
    table: pa.Table,
    schema: TableSchema,
    rows: Ints,
    loss: PrivacyLoss,
    source: RandomSource,
    features: tuple[str, ...] | None,
    settings: PrivateTraining | None,
    seed: int,
    *,
    least_users: int,
    with_listing: bool = False,
) -> tuple[TrainedModel, Listing | None]:
    settings = settings or PrivateTraining()
    columns = private_columns(schema, features)
    listed_by = [schema.item_id.name] if with_listing else []
    needed = dict.fromkeys([*(c.name for c in columns), schema.user_id.name, schema.label.name, *listed_by])
    schema.select(list(needed)).check(table)
    noise = noise_from(source)
    spending = Spending(limit=rho_for(PrivacyLoss(loss.epsilon, loss.delta / 2)), delta_limit=loss.delta / 2)
    user = _users(table, schema, rows)
    kept = bounded_rows(user, settings.rows_per_user, noise.keys(user.size))
    kept = kept[np.argsort(user[kept], kind="stable")]
    bounded, user = table.take(pa.array(rows[kept])), user[kept]
    labels = bounded[schema.label.name].cast(pa.int64()).to_numpy()
    if not np.isin(labels, (0, 1)).all():
        raise TableError("labels must be 0 or 1", where=schema.label.name)
    categories = sum(column.kind is not Kind.NUMBER for column in columns)
    found = max(1, categories + (2 if with_listing else 0))
    finder = Finder(
        noise=noise,
        spending=spending,
        sensitivity=settings.rows_per_user,
        rho=spending.limit * settings.domain_share / found,
        delta=spending.delta_limit / found,
        unit_of_row=user,
        least_units=least_users,
    )
    encoder = _found_fields(bounded, columns, finder)
    listing = released_listing(bounded, schema.item_id.name, encoder, finder) if with_listing else None
    network = _network(encoder, settings, seed)
    _descend(network, encoder, bounded, labels, user, noise, spending, settings)
    warning = "" if noise.is_secure else "INSECURE FIXED NOISE, protects nobody; "
    model = TrainedModel(
        encoder=encoder,
        members=(network,),
        schema=schema,
        config=_config(settings),
        seed=seed,
        checks=(),
        training_rows=0,  # how many rows there are would be an exact answer about users
        privacy=(
            f"{warning}epsilon {float(loss.epsilon):g}, delta {float(loss.delta):g}, unit user "
            f"(at most {settings.rows_per_user} rows per user), add or remove one; {ACCOUNTANT}"
        ),
    )
    return model, listing


def private_columns(schema: TableSchema, features: tuple[str, ...] | None) -> tuple[Column, ...]:
    """What private training would learn from. Raises ModelError, FeatureError for a column that it cannot take."""
    columns = schema.features(features) if features else schema.features()
    if features is None:
        columns = tuple(c for c in columns if c.role is not Role.USER_ID and c.kind is not Kind.LIST)
    for column in columns:
        if column.role is Role.USER_ID:
            raise ModelError("a model that knows single users cannot hide them", where=column.name)
        if column.kind is Kind.LIST:
            raise ModelError("private training takes no lists", where=column.name, hint="name the features to use")
    return columns


def _users(table: pa.Table, schema: TableSchema, rows: Ints) -> Ints:
    ids = table[schema.user_id.name].take(pa.array(rows)).combine_chunks()
    if ids.null_count:
        raise TableError("every row needs a user id, or nobody knows whose it is", where=schema.user_id.name)
    ids = ids.dictionary_decode() if pa.types.is_dictionary(ids.type) else ids
    return np.asarray(ids.dictionary_encode().indices.to_numpy(zero_copy_only=False), np.int64)


def _found_fields(table: pa.Table, columns: tuple[Column, ...], finder: Finder) -> FieldEncoder:
    fields = []
    for column in columns:
        side = SIDE_OF_ROLE[column.role]
        if column.kind is Kind.NUMBER:
            fields.append(FieldSpec(column.name, side, Kind.NUMBER, edges=PUBLIC_EDGES))
            continue
        data = table[column.name].combine_chunks()
        data = data.dictionary_decode() if pa.types.is_dictionary(data.type) else data
        coded = data.dictionary_encode()
        texts = [None if v is None else as_text(v) for v in coded.dictionary.to_pylist()]
        index = coded.indices.to_numpy(zero_copy_only=False)
        known = np.flatnonzero(~np.isnan(index.astype(np.float64)))
        kept = finder.released(known, index[known].astype(np.int64), len(texts), f"values of {column.name}")
        values = tuple(sorted(text for text in (texts[position] for position in kept.tolist()) if text is not None))
        fields.append(FieldSpec(column.name, side, Kind.CATEGORY, values=values))
    return FieldEncoder(tuple(sorted(fields, key=lambda field: list(Side).index(field.side))))


def _config(settings: PrivateTraining) -> TrainConfig:
    return TrainConfig(fm_dim=settings.fm_dim, head_dim=1, hidden=(1,), max_epochs=settings.steps, calibrate=False)


def _network(encoder: FieldEncoder, settings: PrivateTraining, seed: int) -> FactorisedNetwork:
    network = FactorisedNetwork(encoder, _config(settings), stream(seed, "private ctr"))
    with torch.no_grad():
        for side in network.sides.values():
            side.out_weight.zero_()
            side.out_bias.zero_()
    return network


def _descend(
    network: FactorisedNetwork,
    encoder: FieldEncoder,
    table: pa.Table,
    labels: Ints,
    user: Ints,
    noise: Noise,
    spending: Spending,
    settings: PrivateTraining,
) -> None:
    sides = list(network.sides.values())
    first = np.cumsum([0, *(len(side.weights) for side in sides[:-1])])
    codes = np.concatenate(
        [
            encoder.encode(table, name) + side.offsets.numpy() + place
            for name, side, place in zip(Side, sides, first, strict=True)
        ],
        axis=1,
    ).astype(np.int64)
    v = np.concatenate([side.embeddings.detach().numpy() for side in sides]).astype(np.float64)
    starts = np.append(np.flatnonzero(np.r_[True, user[1:] != user[:-1]]), user.size).astype(np.int64)
    clip = settings.clip or float(np.sqrt(max(1, codes.shape[1])))
    weights = np.concatenate([np.zeros(1 + len(v)), v.ravel()])
    # What finding values left over is not used: every step costs the same, known before the first.
    scale = scale_for(GRID, (spending.limit - spending.rho) / settings.steps)
    optimizer = _Adam(weights.size, settings.rate, scale)
    average, averaged = np.zeros(weights.size), 0
    targets = labels.astype(np.float64)
    for step in range(settings.steps):
        spending.charge(f"step {step}", GRID, scale)
        total = np.zeros(weights.size, np.int64)
        w, v = weights[1 : 1 + len(v)], weights[1 + len(v) :].reshape(v.shape)
        add_clipped_gradients(codes, targets, starts, float(weights[0]), w, v, clip, total)
        weights = weights - optimizer.step(noise.gaussian(total, scale))
        if step >= settings.steps // 2:
            average, averaged = average + weights, averaged + 1
    _write(network, average / averaged, len(v))


class _Adam:
    """Adam whose second moment is freed of the noise's: the noise is known exactly, so it can be taken out."""

    def __init__(self, size: int, rate: float, noise_scale: float) -> None:
        self._rate, self._variance = rate, noise_scale**2
        self._mean, self._square, self._steps = np.zeros(size), np.zeros(size), 0

    def step(self, noisy: Ints) -> Floats:
        """What to take off the weights, float64[P]."""
        self._steps += 1
        gradient = noisy.astype(np.float64)
        self._mean = _MOMENTUM * self._mean + (1 - _MOMENTUM) * gradient
        self._square = _MEMORY * self._square + (1 - _MEMORY) * gradient**2
        mean = self._mean / (1 - _MOMENTUM**self._steps)
        square = self._square / (1 - _MEMORY**self._steps)
        return self._rate * mean / np.sqrt(np.maximum(square - self._variance, self._variance))


def _write(network: FactorisedNetwork, weights: Floats, n_values: int) -> None:
    w, v = weights[1 : 1 + n_values], weights[1 + n_values :].reshape(n_values, -1)
    start = 0
    with torch.no_grad():
        network.context.out_bias[0] = float(weights[0])
        for side in network.sides.values():
            end = start + len(side.weights)
            side.weights.copy_(torch.from_numpy(w[start:end, None].astype(np.float32)))
            side.embeddings.copy_(torch.from_numpy(v[start:end].astype(np.float32)))
            start = end
    network.eval()
