"""The four records in which the capabilities meet. Frozen, valid from birth, bytes and numbers only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from adyton.kernel.errors import BadInputError
from adyton.kernel.ids import AdId, BuyerId
from adyton.kernel.ledger import PrivacyLoss


@dataclass(frozen=True)
class ApprovedAd:
    """An ad that review let through: the only way an ad reaches the auction.

    creative_id: the item id under which the clean room's model knows the ad.   countries: where it may run.
    value_per_click_micros: what a click is worth to the advertiser, in micros of `currency`.
    decided_at_ms, decision_hash: when review decided, and the audit link that proves it.   not_in_placements, min_age:
    where else and to whom it may not be shown; whoever cannot keep these limits must not run the ad (`has_limits`).
    """

    ad_id: AdId
    creative_id: str
    buyer: BuyerId
    render_url: str
    countries: tuple[str, ...]
    product_line: str
    value_per_click_micros: int
    currency: str
    decided_at_ms: int
    decision_hash: str
    not_in_placements: tuple[str, ...] = ()
    min_age: int | None = None

    def __post_init__(self) -> None:
        if self.min_age is not None and not 1 <= self.min_age <= 99:
            raise BadInputError("an age limit lies between 1 and 99", where=str(self.ad_id))
        if not self.render_url.startswith("https://"):
            raise BadInputError("render URL must use https", where=str(self.ad_id))
        if self.value_per_click_micros < 0:
            raise BadInputError("value per click must not be negative", where=str(self.ad_id))

    @property
    def has_limits(self) -> bool:
        """Whether there is a limit besides `countries`."""
        return bool(self.not_in_placements) or self.min_age is not None


@dataclass(frozen=True)
class ModelArtifact:
    """A factorised CTR model: private user tower, public ad and context vectors.

    logit(user, ad, context) = user.bias + ad.bias + context.bias
        + <user.to_ad, ad.to_user> + <user.to_context, context.to_user> + <ad.to_context, context.to_ad>

    user_tower_onnx: input `user_fields` int64[B, F_u] (vocabulary indices, 0 = unknown), outputs `to_ad` float32[B, D],
        `to_context` float32[B, D] and `bias` float32[B]. F_u and the order of fields are in the manifest.
    ad_vectors_parquet: one row per item: id string, to_user list<float32>[D], to_context list<float32>[D], bias.
    context_vectors_parquet: one row per context: id string, to_user, to_ad, bias.
    manifest: JSON-ready: fields of every side with vocabularies or bucket edges, training data hashes, metrics, seed.
    """

    name: str
    user_tower_onnx: bytes
    ad_vectors_parquet: bytes
    context_vectors_parquet: bytes
    manifest: Mapping[str, object]

    def __post_init__(self) -> None:
        if not self.user_tower_onnx:
            raise BadInputError("a model needs a user tower", where=self.name)


@dataclass(frozen=True)
class SyntheticTable:
    """A synthetic table with the guarantee it was made under.

    guarantee: None means that there is no guarantee, and everything that shows the table must say so.
    unit: what one neighbouring data set differs by, "user" or "row".
    """

    name: str
    table_parquet: bytes
    rows: int
    guarantee: PrivacyLoss | None
    unit: str
    accountant: str
    noise_is_secure: bool

    def __post_init__(self) -> None:
        if self.unit not in ("user", "row"):
            raise BadInputError(f"unit must be 'user' or 'row', got {self.unit!r}", where=self.name)


@dataclass(frozen=True)
class EgressReport:
    """One win report as it reached the buyer's collector: never a user id, only the noised payload.

    payload: wire bytes (protected-auction §11.4), decoded later against schema `schema_version`.
    """

    buyer: BuyerId
    ad_render_url: str
    payload: bytes
    bid_micros: int
    received_at_ms: int
