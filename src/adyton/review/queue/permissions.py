"""Who may do what: one table of roles and actions. In which state is `states`; what is seen is `visibility`."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

from adyton.review.queue.errors import NotPermittedError


class Role(Enum):
    """What a person is to the queue. The stored values never change."""

    MODERATOR = "moderator"
    """Judges ads, one at a time."""
    LEAD = "lead"
    """Judges escalations, and runs the queue: people, policies, golden items, bulk withdrawals."""
    AUDITOR = "auditor"
    """Sees everything, changes nothing."""
    ADVERTISER = "advertiser"
    """Submits ads of one buyer, sees only those, and files appeals."""


class Action(Enum):
    """What somebody may ask the queue to do."""

    SUBMIT = "submit"
    EDIT = "edit"
    APPEAL = "appeal"
    WITHDRAW = "withdraw"
    BULK_WITHDRAW = "bulk_withdraw"
    IMPORT = "import"
    REPORT = "report"
    CLAIM = "claim"
    TAKE_ESCALATION = "take_escalation"
    DECIDE = "decide"
    HOLD = "hold"
    RELEASE = "release"
    SKIP = "skip"
    ESCALATE = "escalate"
    SEE_AD = "see_ad"
    SEE_QUEUE = "see_queue"
    SEE_EVENTS = "see_events"
    SEE_OWN_QUALITY = "see_own_quality"
    SEE_QUALITY = "see_quality"
    SEE_POLICIES = "see_policies"
    SEE_PEOPLE = "see_people"
    EXPORT = "export"
    MANAGE_PEOPLE = "manage_people"
    MANAGE_POLICIES = "manage_policies"
    MANAGE_GOLDEN = "manage_golden"


_A = Action
_JUDGING = frozenset(
    {
        _A.CLAIM,
        _A.TAKE_ESCALATION,
        _A.DECIDE,
        _A.HOLD,
        _A.RELEASE,
        _A.SKIP,
        _A.ESCALATE,
        _A.SEE_AD,
        _A.SEE_OWN_QUALITY,
        _A.SEE_POLICIES,
    }
)
MAY: Mapping[Role, frozenset[Action]] = MappingProxyType(
    {
        Role.MODERATOR: _JUDGING,
        Role.LEAD: _JUDGING
        | {
            _A.SUBMIT,
            _A.EDIT,
            _A.WITHDRAW,
            _A.BULK_WITHDRAW,
            _A.IMPORT,
            _A.REPORT,
            _A.SEE_QUEUE,
            _A.SEE_QUALITY,
            _A.SEE_PEOPLE,
            _A.EXPORT,
            _A.MANAGE_PEOPLE,
            _A.MANAGE_POLICIES,
            _A.MANAGE_GOLDEN,
        },
        Role.AUDITOR: frozenset(
            {
                _A.SEE_AD,
                _A.SEE_QUEUE,
                _A.SEE_EVENTS,
                _A.SEE_QUALITY,
                _A.SEE_POLICIES,
                _A.SEE_PEOPLE,
                _A.EXPORT,
            }
        ),
        Role.ADVERTISER: frozenset({_A.SUBMIT, _A.EDIT, _A.APPEAL, _A.WITHDRAW, _A.SEE_AD, _A.SEE_POLICIES}),
    }
)


def require(role: Role, action: Action) -> None:
    """Nothing, if the role may. Raises NotPermittedError."""
    if action not in MAY[role]:
        allowed = " or ".join(other.value for other in Role if action in MAY[other])
        raise NotPermittedError(
            f"the role {role.value} may not {action.value.replace('_', ' ')}", hint=f"ask somebody who is {allowed}"
        )
