"""The life of a contract: the one table of its states and what moves it between them.

             PROPOSE         LAST_SIGNATURE           START
    draft ───────────> proposed ──────> signed_by_all ─────> active <──RESUME── suspended
      │                   │                  │                 │ └───SUSPEND───────^
      └── REVOKE: every state but expired and revoked; EXPIRE: every state but revoked and expired

The file does not know who acts: signatures and notices are turned into events in `contract`, and both sides obey the
same table.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

from adyton.cleanroom.errors import ContractStateError


class ContractState(Enum):
    """Where a contract stands. The stored values never change."""

    DRAFT = "draft"
    """Nobody has signed; it may still be edited."""
    PROPOSED = "proposed"
    """At least one party has signed; any edit voids the signatures."""
    SIGNED_BY_ALL = "signed_by_all"
    """Every party has signed and the start has not come."""
    ACTIVE = "active"
    """Keys may be released and jobs may run."""
    SUSPENDED = "suspended"
    """A party has paused it; the same party may resume it."""
    EXPIRED = "expired"
    """Its end has passed."""
    REVOKED = "revoked"
    """A party has ended it for good."""


class ContractEvent(Enum):
    """What happens to a contract."""

    PROPOSE = "propose"
    LAST_SIGNATURE = "last_signature"
    START = "start"
    SUSPEND = "suspend"
    RESUME = "resume"
    EXPIRE = "expire"
    REVOKE = "revoke"


_S, _E = ContractState, ContractEvent
TRANSITIONS: Mapping[tuple[ContractState, ContractEvent], ContractState] = MappingProxyType(
    {
        (_S.DRAFT, _E.PROPOSE): _S.PROPOSED,
        (_S.PROPOSED, _E.LAST_SIGNATURE): _S.SIGNED_BY_ALL,
        (_S.SIGNED_BY_ALL, _E.START): _S.ACTIVE,
        (_S.ACTIVE, _E.SUSPEND): _S.SUSPENDED,
        (_S.SUSPENDED, _E.RESUME): _S.ACTIVE,
        **{
            (state, _E.EXPIRE): _S.EXPIRED
            for state in (_S.DRAFT, _S.PROPOSED, _S.SIGNED_BY_ALL, _S.ACTIVE, _S.SUSPENDED)
        },
        **{
            (state, _E.REVOKE): _S.REVOKED
            for state in (_S.DRAFT, _S.PROPOSED, _S.SIGNED_BY_ALL, _S.ACTIVE, _S.SUSPENDED)
        },
    }
)


def next_state(state: ContractState, event: ContractEvent) -> ContractState:
    """The state after `event`. Raises ContractStateError if the table does not allow it."""
    if (state, event) not in TRANSITIONS:
        raise ContractStateError(f"a contract that is {state.value} cannot {event.value.replace('_', ' ')}")
    return TRANSITIONS[state, event]
