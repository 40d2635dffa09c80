"""What the queue keeps: people, ads, opinions. Frozen and valid from birth; times are epoch milliseconds.

Whole numbers only, so that an event's hash is the same everywhere: revenue in micros, work and pace in thousandths,
accuracy in millionths.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NewType

from adyton.kernel.canonical import Json
from adyton.kernel.ids import AdId, BuyerId
from adyton.review.queue.errors import QueueInputError
from adyton.review.queue.permissions import Role
from adyton.review.queue.states import QueueReason, ReviewState, Verdict, worst

PersonId = NewType("PersonId", str)
GoldenId = NewType("GoldenId", str)

MAX_INTEGER = 2**53 - 1
"""Largest number that every JSON reader and both databases keep exactly."""
MAX_TIME_MS = 253_402_300_799_999
"""The last millisecond of the year 9999: later ones cannot be written as a date, and mean that the unit is wrong."""
MAX_SEVERITY = 3
MILLION = 1_000_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_CURRENCY = re.compile(r"[A-Z]{3}")
_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


def check_name(text: str, what: str) -> str:
    """`text` if it can name a person, queue, market or policy. Raises QueueInputError."""
    if not _NAME.fullmatch(text):
        raise QueueInputError(
            f"{what} must be 1 to 64 letters, digits or . _ @ - and begin with a letter or digit", where=what
        )
    return text


def check_text(text: str, what: str, *, most: int, least: int = 0) -> str:
    """`text` if it is of this length and can be stored and shown. Raises QueueInputError."""
    if not least <= len(text) <= most:
        raise QueueInputError(f"{what} must have {least} to {most} characters, got {len(text)}", where=what)
    if _FORBIDDEN.search(text):
        raise QueueInputError(f"{what} holds control characters", where=what, hint="plain text, tab and newline only")
    return text


def check_number(number: int, what: str, *, least: int = 0, most: int = MAX_INTEGER) -> int:
    """`number` if it lies in [least, most]. Raises QueueInputError."""
    if not least <= number <= most:
        raise QueueInputError(f"{what} must be between {least} and {most}", where=what)
    return number


@dataclass(frozen=True)
class Person:
    """Somebody with access, and for those who judge what the pull index knows about them.

    buyer: whose ads an advertiser handles.   markets: what a moderator may judge.   labels: policies that the moderator
    may apply, empty for all.   queues: escalation queues that the person serves.   accuracy_ppm: probability of a right
    verdict.   pace_milli: minutes per 1,000 units of work.   price_micros: price of one minute of the person's time, in
    the unit of `Submission.revenue_micros`.   exposure_budget: severity points of hard content per day of the person's
    own calendar, which is `utc_offset_minutes` ahead of UTC.   minutes_per_day: how long the person works on a day.
    """

    person_id: PersonId
    role: Role
    buyer: BuyerId | None = None
    markets: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    accuracy_ppm: int = 850_000
    pace_milli: int = 30_000
    price_micros: int = 0
    exposure_budget: int = 60
    utc_offset_minutes: int = 0
    minutes_per_day: int = 480
    is_active: bool = True

    def __post_init__(self) -> None:
        check_name(self.person_id, "person id")
        for what, names in (("market", self.markets), ("label", self.labels), ("queue", self.queues)):
            for name in names:
                check_name(name, what)
        if (self.role is Role.ADVERTISER) != (self.buyer is not None):
            raise QueueInputError("an advertiser has a buyer, and nobody else does", where="buyer")
        if self.buyer is not None:
            check_name(self.buyer, "buyer")
        check_number(self.accuracy_ppm, "accuracy_ppm", most=MILLION)
        check_number(self.pace_milli, "pace_milli", least=1, most=10**9)
        check_number(self.price_micros, "price_micros")
        check_number(self.exposure_budget, "exposure_budget", most=10**6)
        check_number(self.utc_offset_minutes, "utc_offset_minutes", least=-14 * 60, most=14 * 60)
        check_number(self.minutes_per_day, "minutes_per_day", least=1, most=1440)


@dataclass(frozen=True)
class Submission:
    """An ad as it is handed in.

    creative_id: the buyer's own name of it, unique for the buyer.   market: who can judge it, a delivery country.
    countries: where it shall run.   revenue_micros: what it earns on average; None: estimated from the buyer's other
    ads.   punish_num: how often the advertiser was punished; None: counted.   work_milli: thousandths of a unit of work
    (the workbook's baseline time); None: as it was, or an average ad's.   severity: 0 harmless to 3 hard to look at.
    expires_at_ms: when it ends.
    """

    buyer: BuyerId
    creative_id: str
    title: str
    text: str
    render_url: str
    market: str
    countries: tuple[str, ...]
    product_line: str
    value_per_click_micros: int
    currency: str
    revenue_micros: int | None = None
    punish_num: int | None = None
    work_milli: int | None = None
    severity: int = 0
    expires_at_ms: int | None = None

    def __post_init__(self) -> None:
        check_name(self.buyer, "buyer")
        check_text(self.creative_id, "creative_id", least=1, most=200)
        check_text(self.title, "title", least=1, most=300)
        check_text(self.text, "text", most=10_000)
        check_text(self.render_url, "render_url", least=1, most=2_000)
        if not re.fullmatch(r"https://[^\s/]+\S*", self.render_url):
            raise QueueInputError("render_url must be an https address", where="render_url")
        check_name(self.market, "market")
        if not 1 <= len(self.countries) <= 300:
            raise QueueInputError("an ad runs in 1 to 300 countries", where="countries")
        for country in self.countries:
            check_name(country, "country")
        check_text(self.product_line, "product_line", least=1, most=100)
        check_number(self.value_per_click_micros, "value_per_click_micros")
        if not _CURRENCY.fullmatch(self.currency):
            raise QueueInputError("currency is three upper-case letters", where="currency", hint="for example USD")
        if self.revenue_micros is not None:
            check_number(self.revenue_micros, "revenue_micros")
        if self.punish_num is not None:
            check_number(self.punish_num, "punish_num", most=10**6)
        if self.work_milli is not None:
            check_number(self.work_milli, "work_milli", least=1, most=10**9)
        check_number(self.severity, "severity", most=MAX_SEVERITY)
        if self.expires_at_ms is not None and not 0 <= self.expires_at_ms <= MAX_TIME_MS:
            raise QueueInputError(
                "expires_at_ms lies beyond the year 9999", where="expires_at_ms", hint="milliseconds since 1970"
            )


@dataclass(frozen=True)
class Finding:
    """One policy that an ad breaks.

    verdict: limited or rejected.   evidence: what was seen and where, in words the advertiser will read.
    not_in_countries, not_in_placements, min_age: only for limited, and at least one of them.
    """

    label: str
    version: int
    verdict: Verdict
    evidence: str
    not_in_countries: tuple[str, ...] = ()
    not_in_placements: tuple[str, ...] = ()
    min_age: int | None = None

    def __post_init__(self) -> None:
        check_name(self.label, "label")
        check_number(self.version, "version", least=1, most=10**6)
        if self.verdict not in (Verdict.LIMITED, Verdict.REJECTED):
            raise QueueInputError("a finding says limited or rejected", where="verdict")
        check_text(self.evidence, "evidence", least=1, most=4_000)
        for country in self.not_in_countries:
            check_name(country, "country")
        for placement in self.not_in_placements:
            check_name(placement, "placement")
        if self.min_age is not None:
            check_number(self.min_age, "min_age", least=1, most=99)
        has_limits = bool(self.not_in_countries or self.not_in_placements or self.min_age)
        if has_limits != (self.verdict is Verdict.LIMITED):
            raise QueueInputError(
                "a limited finding names countries, placements or an age, and a rejected one does not", where="verdict"
            )

    def as_json(self) -> dict[str, Json]:
        return {
            "label": self.label,
            "version": self.version,
            "verdict": self.verdict.value,
            "evidence": self.evidence,
            "not_in_countries": list(self.not_in_countries),
            "not_in_placements": list(self.not_in_placements),
            "min_age": self.min_age,
        }


@dataclass(frozen=True)
class Judgement:
    """What one person says about an ad: no finding is an approval, otherwise the worst finding wins."""

    findings: tuple[Finding, ...] = ()
    note: str = ""
    """For colleagues; the advertiser never sees it."""

    def __post_init__(self) -> None:
        if len(self.findings) > 50:
            raise QueueInputError("a judgement has at most 50 findings", where="findings")
        check_text(self.note, "note", most=4_000)

    @property
    def verdict(self) -> Verdict:
        return worst(finding.verdict for finding in self.findings)

    def as_json(self) -> dict[str, Json]:
        return {"findings": [finding.as_json() for finding in self.findings], "note": self.note}


@dataclass(frozen=True)
class Opinion:
    """A judgement with who gave it, when, and in which round."""

    ad_id: AdId
    round: int
    person_id: PersonId
    at_ms: int
    verdict: Verdict
    findings: tuple[Finding, ...]
    note: str


@dataclass(frozen=True)
class AdFile:
    """Everything that the queue keeps of one ad; field names are the columns of table `ads`.

    round: counts the clocks, from 1.   queued_at_ms, due_at_ms: start and end of this round's clock.   content_version:
    counts the edits.   may_serve: whether the auction may be given it.   claim_*: who has it now; `claim_expires_at_ms`
    is None for an escalation, which never times out.   assigned_*: to whom it is escalated.   golden_id: set for a copy
    of a golden item.   reason_text: the words of the appeal or report.
    """

    ad_id: AdId
    submission_key: str
    buyer: BuyerId
    creative_id: str
    title: str
    text: str
    render_url: str
    market: str
    countries: tuple[str, ...]
    product_line: str
    value_per_click_micros: int
    currency: str
    revenue_micros: int
    punish_num: int
    work_milli: int
    severity: int
    expires_at_ms: int | None
    submitted_by: PersonId
    submitted_at_ms: int
    queued_at_ms: int
    due_at_ms: int
    state: ReviewState = ReviewState.SUBMITTED
    verdict: Verdict = Verdict.NONE
    may_serve: bool = False
    reason: QueueReason = QueueReason.NEW
    reason_text: str = ""
    round: int = 0
    content_version: int = 1
    n_appeals: int = 0
    findings: tuple[Finding, ...] = field(default=())
    claim_holder: PersonId | None = None
    claim_token: str | None = field(default=None, repr=False)
    claimed_at_ms: int | None = None
    claim_expires_at_ms: int | None = None
    assigned_person: PersonId | None = None
    assigned_queue: str | None = None
    golden_id: GoldenId | None = None
    decided_at_ms: int | None = None
    decision_hash: str | None = None
