"""The life of an ad under review: the one table of its states, of what moves it, and of the verdicts in between.

Two fields (spec/review §5). *State* says where the work stands, *verdict* what was last decided; an ad that is judged
again keeps its verdict until the new one, except that an edited ad has none. Serving is a flag, never a state.
The file does not know who acts, `permissions` does; docs/reference/review-states.md is made from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from types import MappingProxyType

from adyton.review.queue.errors import TransitionError


class ReviewState(Enum):
    """Where the work stands. The stored values never change."""

    SUBMITTED = "submitted"
    """Received; not yet in the queue."""
    QUEUED = "queued"
    """Waiting for a moderator."""
    CLAIMED = "claimed"
    """One moderator has it, until the lock ends."""
    HELD = "held"
    """The moderator keeps it past the lock while asking for help, until the hold ends."""
    ESCALATED = "escalated"
    """Waiting for a named person or an escalation queue; never times out."""
    SECOND_REVIEW = "second_review"
    """A first opinion is in; another moderator gives the second one without seeing it."""
    DECIDED = "decided"
    """There is a verdict."""

    def in_words(self) -> str:
        """The state as a person reads it, with who acts next."""
        return _IN_WORDS[self]


_IN_WORDS: Mapping[ReviewState, str] = MappingProxyType(
    {
        ReviewState.SUBMITTED: "received; the queue takes it in next",
        ReviewState.QUEUED: "waiting for a moderator",
        ReviewState.CLAIMED: "with a moderator, who decides next",
        ReviewState.HELD: "kept by a moderator who asks for help",
        ReviewState.ESCALATED: "escalated; the named person or queue decides next",
        ReviewState.SECOND_REVIEW: "waiting for a second opinion",
        ReviewState.DECIDED: "decided; the advertiser may appeal or edit",
    }
)


class ReviewEvent(Enum):
    """What happens to an ad."""

    QUEUE = "queue"
    CLAIM = "claim"
    RELEASE = "release"
    SKIP = "skip"
    LOSE_CLAIM = "lose_claim"
    """The lock or the hold ended."""
    HOLD = "hold"
    RESUME = "resume"
    ESCALATE = "escalate"
    ASK_SECOND = "ask_second"
    DECIDE = "decide"
    APPEAL = "appeal"
    EDIT = "edit"
    REPORT = "report"
    WITHDRAW = "withdraw"
    EXPIRE = "expire"
    """The ad's own end has come."""


class Verdict(Enum):
    """What was last decided. Worst of the findings wins: rejected, then limited, then approved."""

    NONE = "none"
    APPROVED = "approved"
    LIMITED = "limited"
    """May run, but not everywhere."""
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"


class QueueReason(Enum):
    """Why an ad is in the queue. Each reason starts a new clock."""

    NEW = "new"
    APPEAL = "appeal"
    EDIT = "edit"
    REPORT = "report"


_S, _E, _V = ReviewState, ReviewEvent, Verdict
_OPEN = tuple(state for state in _S if state is not _S.DECIDED)

TRANSITIONS: Mapping[tuple[ReviewState, ReviewEvent], ReviewState] = MappingProxyType(
    {
        (_S.SUBMITTED, _E.QUEUE): _S.QUEUED,
        (_S.QUEUED, _E.CLAIM): _S.CLAIMED,
        (_S.QUEUED, _E.ESCALATE): _S.ESCALATED,
        (_S.CLAIMED, _E.RELEASE): _S.QUEUED,
        (_S.CLAIMED, _E.SKIP): _S.QUEUED,
        (_S.CLAIMED, _E.LOSE_CLAIM): _S.QUEUED,
        (_S.CLAIMED, _E.HOLD): _S.HELD,
        (_S.CLAIMED, _E.ESCALATE): _S.ESCALATED,
        (_S.CLAIMED, _E.ASK_SECOND): _S.SECOND_REVIEW,
        (_S.CLAIMED, _E.DECIDE): _S.DECIDED,
        (_S.HELD, _E.RESUME): _S.CLAIMED,
        (_S.HELD, _E.RELEASE): _S.QUEUED,
        (_S.HELD, _E.LOSE_CLAIM): _S.QUEUED,
        (_S.HELD, _E.ESCALATE): _S.ESCALATED,
        (_S.HELD, _E.ASK_SECOND): _S.SECOND_REVIEW,
        (_S.HELD, _E.DECIDE): _S.DECIDED,
        (_S.SECOND_REVIEW, _E.CLAIM): _S.SECOND_REVIEW,
        (_S.SECOND_REVIEW, _E.RELEASE): _S.SECOND_REVIEW,
        (_S.SECOND_REVIEW, _E.SKIP): _S.SECOND_REVIEW,
        (_S.SECOND_REVIEW, _E.LOSE_CLAIM): _S.SECOND_REVIEW,
        (_S.SECOND_REVIEW, _E.ESCALATE): _S.ESCALATED,
        (_S.SECOND_REVIEW, _E.DECIDE): _S.DECIDED,
        (_S.ESCALATED, _E.CLAIM): _S.ESCALATED,
        (_S.ESCALATED, _E.RELEASE): _S.ESCALATED,
        (_S.ESCALATED, _E.ESCALATE): _S.ESCALATED,
        (_S.ESCALATED, _E.DECIDE): _S.DECIDED,
        (_S.DECIDED, _E.APPEAL): _S.QUEUED,
        (_S.DECIDED, _E.EDIT): _S.QUEUED,
        (_S.DECIDED, _E.REPORT): _S.QUEUED,
        (_S.DECIDED, _E.WITHDRAW): _S.DECIDED,
        (_S.DECIDED, _E.EXPIRE): _S.DECIDED,
        **{(state, _E.EDIT): _S.QUEUED for state in _OPEN},
        **{(state, _E.WITHDRAW): _S.DECIDED for state in _OPEN},
        # An escalation never times out, not even when the ad's own end comes.
        **{(state, _E.EXPIRE): _S.DECIDED for state in _OPEN if state is not _S.ESCALATED},
    }
)

WHEN_DECIDED: Mapping[ReviewEvent, frozenset[Verdict]] = MappingProxyType(
    {
        _E.APPEAL: frozenset({_V.LIMITED, _V.REJECTED}),
        _E.EDIT: frozenset({_V.APPROVED, _V.LIMITED, _V.REJECTED}),
        _E.REPORT: frozenset({_V.APPROVED, _V.LIMITED}),
        _E.WITHDRAW: frozenset({_V.APPROVED, _V.LIMITED, _V.REJECTED}),
        _E.EXPIRE: frozenset({_V.APPROVED, _V.LIMITED}),
    }
)
"""The verdicts under which an event may happen to a decided ad."""

NEW_CLOCK: Mapping[ReviewEvent, QueueReason] = MappingProxyType(
    {
        _E.QUEUE: QueueReason.NEW,
        _E.APPEAL: QueueReason.APPEAL,
        _E.EDIT: QueueReason.EDIT,
        _E.REPORT: QueueReason.REPORT,
    }
)
"""The events that start a new clock, and the reason that the queue then shows."""

_WORSE: Mapping[Verdict, int] = MappingProxyType({_V.APPROVED: 0, _V.LIMITED: 1, _V.REJECTED: 2})


def next_state(state: ReviewState, event: ReviewEvent, verdict: Verdict) -> ReviewState:
    """The state after `event`. Raises TransitionError if the tables do not allow it."""
    if (state, event) not in TRANSITIONS:
        raise TransitionError(
            f"an ad that is {state.value.replace('_', ' ')} cannot be {_DONE_TO[event]}",
            hint=f"now: {state.in_words()}",
        )
    if state is ReviewState.DECIDED and verdict not in WHEN_DECIDED[event]:
        possible = " or ".join(sorted(one.value for one in WHEN_DECIDED[event]))
        raise TransitionError(
            f"an ad with the verdict {verdict.value} cannot be {_DONE_TO[event]}", hint=f"only one that is {possible}"
        )
    return TRANSITIONS[state, event]


_DONE_TO: Mapping[ReviewEvent, str] = MappingProxyType(
    {
        _E.QUEUE: "queued",
        _E.CLAIM: "claimed",
        _E.RELEASE: "released",
        _E.SKIP: "skipped",
        _E.LOSE_CLAIM: "taken back",
        _E.HOLD: "held",
        _E.RESUME: "resumed",
        _E.ESCALATE: "escalated",
        _E.ASK_SECOND: "sent to a second review",
        _E.DECIDE: "decided",
        _E.APPEAL: "appealed",
        _E.EDIT: "edited",
        _E.REPORT: "reported",
        _E.WITHDRAW: "withdrawn",
        _E.EXPIRE: "expired",
    }
)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst of the findings' verdicts; approved when there is no finding.

    Raises TransitionError for a verdict that no finding can have.
    """
    found = Verdict.APPROVED
    for verdict in verdicts:
        if verdict not in _WORSE:
            raise TransitionError(f"a finding cannot say {verdict.value}", hint="limited or rejected")
        if _WORSE[verdict] > _WORSE[found]:
            found = verdict
    return found


def mermaid() -> str:
    """The table as a mermaid state diagram, one line for each pair of states."""
    events: dict[tuple[ReviewState, ReviewState], list[str]] = {}
    for (state, event), target in TRANSITIONS.items():
        events.setdefault((state, target), []).append(event.value)
    order = list(ReviewState)
    lines = ["stateDiagram-v2", f"    [*] --> {ReviewState.SUBMITTED.value}: submit"]
    for (state, target), names in sorted(events.items(), key=lambda one: [order.index(s) for s in one[0]]):
        lines.append(f"    {state.value} --> {target.value}: {', '.join(names)}")
    return "\n".join(lines)


def reference_page() -> str:
    """docs/reference/review-states.md, complete; a test compares the file with this."""
    rows = [f"| `{state.value}` | {state.in_words()} |" for state in ReviewState]
    guards = [
        f"| `{event.value}` | {', '.join(f'`{v.value}`' for v in Verdict if v in allowed)} |"
        for event, allowed in WHEN_DECIDED.items()
    ]
    clocks = [f"| `{event.value}` | `{reason.value}` |" for event, reason in NEW_CLOCK.items()]
    return "\n".join(
        [
            "# States of an ad under review",
            "",
            "Made from `adyton.review.queue.states` by `adyton queue states`; do not edit.",
            "",
            "```mermaid",
            mermaid(),
            "```",
            "",
            "| state | in words |",
            "|---|---|",
            *rows,
            "",
            f"Verdicts: {', '.join(f'`{verdict.value}`' for verdict in Verdict)}.",
            "The worst finding wins.",
            "An ad that is judged again keeps its verdict until the new one; an edited ad has none.",
            "",
            "What may happen to a decided ad depends on its verdict:",
            "",
            "| event | verdict |",
            "|---|---|",
            *guards,
            "",
            "These events start a new clock:",
            "",
            "| event | reason |",
            "|---|---|",
            *clocks,
            "",
        ]
    )
