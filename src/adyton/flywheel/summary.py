"""The figures of one turn of the loop, in the shape that `adyton demo --json` prints.

Keys are stable: new ones may be added, none is renamed or removed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class ReviewSummary:
    """loss_a2, bound_a2: revenue units of the workbook.   approved, rejected: ads decided in the day."""

    allocator: str
    loss_a2: float
    bound_a2: float
    approved: int
    rejected: int


@dataclass(frozen=True)
class CleanroomSummary:
    """epsilon_spent: by the strictest owner, per user.   auc_*, gauc_*: advertiser's test days.

    synthetic_quality: mean of shape and pair similarity in [0, 1] (learning §4).
    """

    platform: str
    checks_passed: int
    rows_publisher: int
    rows_advertiser: int
    users_joined: int
    epsilon_spent: float
    auc_without_partner: float
    auc_with_partner: float
    gauc_with_partner: float
    synthetic_quality: float


@dataclass(frozen=True)
class AuctionSummary:
    """requests = winners + chaff + errors.   chaff: encrypted replies without a winner.   p50, p99: milliseconds."""

    requests: int
    winners: int
    chaff: int
    errors: int
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class EgressSummary:
    """payloads: decoded at the collector.   bits: of the schema.   auc: of the model trained on egress payloads."""

    payloads: int
    bits: int
    noised_expected_rate: float
    auc: float


@dataclass(frozen=True)
class DemoSummary:
    """One turn of the loop."""

    review: ReviewSummary
    cleanroom: CleanroomSummary
    auction: AuctionSummary
    egress: EgressSummary
    seconds: float
    peak_rss_mb: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)
