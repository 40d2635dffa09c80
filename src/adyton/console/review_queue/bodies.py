"""What comes in over HTTP: parsed once, unknown fields refused, then the queue's own records."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from adyton.kernel.ids import AdId, BuyerId
from adyton.review.queue.permissions import Role
from adyton.review.queue.records import MAX_INTEGER, MAX_TIME_MS, Finding, Judgement, Person, PersonId, Submission
from adyton.review.queue.states import Verdict

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]*$", min_length=1, max_length=64)]
Count = Annotated[int, Field(ge=0, le=MAX_INTEGER, strict=True)]
Why = Annotated[str, Field(min_length=1, max_length=2_000)]
Token = Annotated[str, Field(pattern=r"^[0-9a-f]*$", max_length=64, description="The token that the claim gave.")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SubmissionBody(_Body):
    """An ad. Only a lead states revenue_micros and punish_num; for an advertiser the desk estimates them."""

    buyer: Name
    creative_id: Annotated[str, Field(min_length=1, max_length=200)]
    title: Annotated[str, Field(min_length=1, max_length=300)]
    text: Annotated[str, Field(max_length=10_000)] = ""
    render_url: Annotated[str, Field(min_length=9, max_length=2_000, pattern=r"^https://")]
    market: Name
    countries: Annotated[list[Name], Field(min_length=1, max_length=300)]
    product_line: Annotated[str, Field(min_length=1, max_length=100)]
    value_per_click_micros: Count
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    revenue_micros: Count | None = None
    punish_num: Annotated[int, Field(ge=0, le=10**6, strict=True)] | None = None
    work_milli: Annotated[int, Field(ge=1, le=10**9, strict=True)] | None = None
    severity: Annotated[int, Field(ge=0, le=3, strict=True)] = 0
    expires_at_ms: Annotated[int, Field(ge=0, le=MAX_TIME_MS, strict=True)] | None = None

    def submission(self) -> Submission:
        return Submission(
            buyer=BuyerId(self.buyer),
            creative_id=self.creative_id,
            title=self.title,
            text=self.text,
            render_url=self.render_url,
            market=self.market,
            countries=tuple(self.countries),
            product_line=self.product_line,
            value_per_click_micros=self.value_per_click_micros,
            currency=self.currency,
            revenue_micros=self.revenue_micros,
            punish_num=self.punish_num,
            work_milli=self.work_milli,
            severity=self.severity,
            expires_at_ms=self.expires_at_ms,
        )


class FindingBody(_Body):
    """One policy that the ad breaks. A limited finding names countries, placements or an age."""

    label: Name
    version: Annotated[int, Field(ge=1, le=10**6, strict=True)]
    verdict: Literal["limited", "rejected"]
    evidence: Annotated[str, Field(min_length=1, max_length=4_000)]
    not_in_countries: Annotated[list[Name], Field(max_length=300)] = []
    not_in_placements: Annotated[list[Name], Field(max_length=100)] = []
    min_age: Annotated[int, Field(ge=1, le=99, strict=True)] | None = None

    def finding(self) -> Finding:
        return Finding(
            label=self.label,
            version=self.version,
            verdict=Verdict(self.verdict),
            evidence=self.evidence,
            not_in_countries=tuple(self.not_in_countries),
            not_in_placements=tuple(self.not_in_placements),
            min_age=self.min_age,
        )


class DecisionBody(_Body):
    """No finding is an approval; otherwise the worst finding wins."""

    claim_token: Token
    findings: Annotated[list[FindingBody], Field(max_length=50)] = []
    note: Annotated[str, Field(max_length=4_000)] = ""

    def judgement(self) -> Judgement:
        return Judgement(tuple(one.finding() for one in self.findings), self.note)


class ClaimTokenBody(_Body):
    claim_token: Token


class HoldBody(_Body):
    claim_token: Token
    minutes: Annotated[int, Field(ge=1, le=100_000, strict=True)]
    why: Why


class SkipBody(_Body):
    claim_token: Token
    why: Why


class EscalationBody(_Body):
    """To one person or one queue. A lead needs no claim_token for an ad that is queued or escalated."""

    why: Why
    person: Name | None = None
    queue: Name | None = None
    claim_token: Token | None = None


class WhyBody(_Body):
    why: Why


class ReportBody(_Body):
    why: Why
    severity: Annotated[int, Field(ge=0, le=3, strict=True)] = 0
    stops_serving: bool = False


class BulkWithdrawalBody(_Body):
    why: Why
    ad_ids: Annotated[list[Name], Field(max_length=10_000)] = []
    buyer: Name | None = None

    def ids(self) -> tuple[AdId, ...]:
        return tuple(map(AdId, self.ad_ids))


class PolicyBody(_Body):
    label: Name
    title: Annotated[str, Field(min_length=1, max_length=200)]
    text: Annotated[str, Field(max_length=20_000)] = ""
    worst: Literal["limited", "rejected"]


class GoldenBody(_Body):
    submission: SubmissionBody
    expected: Literal["approved", "limited", "rejected"]


class PersonBody(_Body):
    """Somebody with access; `buyer` for advertisers only. The price of the person's time is `adyton queue price`'s."""

    role: Literal["moderator", "lead", "auditor", "advertiser"]
    buyer: Name | None = None
    markets: Annotated[list[Name], Field(max_length=300)] = []
    labels: Annotated[list[Name], Field(max_length=300)] = []
    queues: Annotated[list[Name], Field(max_length=300)] = []
    accuracy_ppm: Annotated[int, Field(ge=0, le=1_000_000, strict=True)] = 850_000
    pace_milli: Annotated[int, Field(ge=1, le=10**9, strict=True)] = 30_000
    exposure_budget: Annotated[int, Field(ge=0, le=10**6, strict=True)] = 60
    utc_offset_minutes: Annotated[int, Field(ge=-840, le=840, strict=True)] = 0
    minutes_per_day: Annotated[int, Field(ge=1, le=1440, strict=True)] = 480
    is_active: bool = True

    def person(self, person_id: str) -> Person:
        return Person(
            person_id=PersonId(person_id),
            role=Role(self.role),
            buyer=None if self.buyer is None else BuyerId(self.buyer),
            markets=tuple(self.markets),
            labels=tuple(self.labels),
            queues=tuple(self.queues),
            accuracy_ppm=self.accuracy_ppm,
            pace_milli=self.pace_milli,
            exposure_budget=self.exposure_budget,
            utc_offset_minutes=self.utc_offset_minutes,
            minutes_per_day=self.minutes_per_day,
            is_active=self.is_active,
        )


class TokenBody(_Body):
    days: Annotated[int, Field(ge=1, le=3650, strict=True)] = 30


class ErrorBody(BaseModel):
    """The one shape of every refusal: what went wrong, where, whose fault it is, and what to do."""

    error: str
    what: str
    where: str | None
    fault: str
    hint: str | None
