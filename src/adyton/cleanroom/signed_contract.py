"""A contract with the signatures of its parties and the notices they gave later: what lies in a contract file.

Notices (suspend, resume, revoke) are signed by one party over the contract's hash and their number in the list, so that
none can be dropped from the middle, moved or used for another contract. The newest one can be withheld by whoever
keeps the file; an owner who wants to be sure also tells its own broker, which then releases no key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from adyton.cleanroom.contract import Contract
from adyton.cleanroom.contract_states import ContractEvent, ContractState, next_state
from adyton.cleanroom.errors import ContractError, ContractSignatureError, ContractStateError
from adyton.cleanroom.party import Party
from adyton.cleanroom.whole_file import write_whole
from adyton.kernel.canonical import Json, canonical_bytes
from adyton.kernel.ids import PartyName

NOTICE_EVENTS = frozenset((ContractEvent.SUSPEND, ContractEvent.RESUME, ContractEvent.REVOKE))
MAX_CONTRACT_BYTES = 4 << 20


@dataclass(frozen=True)
class Notice:
    """A party's signed word after signing: suspend, resume or revoke."""

    event: ContractEvent
    party: PartyName
    at_ms: int
    signature: bytes

    def as_json(self) -> dict[str, Json]:
        return {
            "event": self.event.value,
            "party": str(self.party),
            "at_ms": self.at_ms,
            "signature": self.signature.hex(),
        }


@dataclass(frozen=True)
class SignedContract:
    """A contract, signatures by party name, notices in the order they were given."""

    contract: Contract
    signatures: Mapping[PartyName, bytes]
    notices: tuple[Notice, ...] = ()

    def sign(self, party: Party) -> SignedContract:
        """With this party's signature.

        Raises ContractError if it is no party or its keys differ from those in the contract.
        """
        if self.contract.party(party.name) != party.identity:
            raise ContractError("the contract names other keys for this party", where=str(party.name))
        signature = party.sign(self.contract.signed_bytes())
        return replace(self, signatures=MappingProxyType({**self.signatures, party.name: signature}))

    def give_notice(self, party: Party, event: ContractEvent, at_ms: int) -> SignedContract:
        """With one more notice. Raises ContractStateError if the state table does not allow it now."""
        if event not in NOTICE_EVENTS:
            raise ContractStateError(f"{event.value} is not something a party announces")
        self.contract.party(party.name)
        signature = party.sign(_notice_bytes(self.contract, event, party.name, at_ms, len(self.notices)))
        noticed = replace(self, notices=(*self.notices, Notice(event, party.name, at_ms, signature)))
        noticed.state(at_ms)
        return noticed

    def missing_signatures(self) -> tuple[PartyName, ...]:
        return tuple(party.name for party in self.contract.parties if party.name not in self.signatures)

    def check_signatures(self) -> None:
        """Raises ContractSignatureError for a false signature or one of a stranger; missing ones are allowed."""
        names = {party.name: party for party in self.contract.parties}
        for name, signature in self.signatures.items():
            if name not in names:
                raise ContractSignatureError("signed by a stranger", where=str(name))
            if not names[name].has_signed(self.contract.signed_bytes(), signature):
                raise ContractSignatureError(
                    "the signature does not fit the contract", where=str(name), hint="was it edited after signing?"
                )
        for index, notice in enumerate(self.notices):
            message = _notice_bytes(self.contract, notice.event, notice.party, notice.at_ms, index)
            if notice.party not in names or not names[notice.party].has_signed(message, notice.signature):
                raise ContractSignatureError("a notice is not signed by its party", where=f"notices[{index}]")

    def state(self, now_ms: int) -> ContractState:
        """Where the contract stands at `now_ms`, after every signature and notice was checked.

        Raises ContractSignatureError, and ContractStateError for a notice that the table did not allow.
        """
        self.check_signatures()
        state = ContractState.DRAFT
        if self.signatures:
            state = next_state(state, ContractEvent.PROPOSE)
        if not self.missing_signatures():
            state = next_state(state, ContractEvent.LAST_SIGNATURE)
        started, suspended_by = False, None
        for notice in self.notices:
            if not started and state is ContractState.SIGNED_BY_ALL and notice.at_ms >= self.contract.starts_at_ms:
                state, started = next_state(state, ContractEvent.START), True
            state = next_state(state, notice.event)
            if notice.event is ContractEvent.RESUME and notice.party != suspended_by:
                raise ContractStateError("only the party that suspended a contract may resume it")
            suspended_by = notice.party if notice.event is ContractEvent.SUSPEND else None
        if state is ContractState.SIGNED_BY_ALL and now_ms >= self.contract.starts_at_ms:
            state = next_state(state, ContractEvent.START)
        if now_ms >= self.contract.expires_at_ms and state is not ContractState.REVOKED:
            state = next_state(state, ContractEvent.EXPIRE)
        return state

    def require_active(self, now_ms: int) -> None:
        """Raises ContractStateError unless the contract is active at `now_ms`."""
        state = self.state(now_ms)
        if state is not ContractState.ACTIVE:
            missing = ", ".join(self.missing_signatures())
            raise ContractStateError(
                f"the contract is {state.value.replace('_', ' ')}, not active",
                where=self.contract.contract_id,
                hint=f"signatures are missing: {missing}" if missing else None,
            )

    def as_json(self) -> dict[str, Json]:
        return {
            "contract": self.contract.as_json(),
            "contract_hash": str(self.contract.hash),
            "signatures": {str(name): signature.hex() for name, signature in self.signatures.items()},
            "notices": [notice.as_json() for notice in self.notices],
        }

    @classmethod
    def from_json(cls, value: object) -> SignedContract:
        """Parse `as_json()`; the stated hash must be the real one. Signatures are checked by `state`, not here.

        Raises ContractError.
        """
        if not isinstance(value, Mapping) or "contract" not in value:
            raise ContractError("this is no contract file", hint="make one: adyton contract draft FILE")
        contract = Contract.from_json(value["contract"])
        if value.get("contract_hash") != contract.hash:
            hint = "was it edited by hand? `adyton contract rule` changes a draft"
            raise ContractError("the stated hash is not the contract's", hint=hint)
        try:
            signatures = {PartyName(str(k)): bytes.fromhex(v) for k, v in dict(value.get("signatures", {})).items()}
            notices = tuple(
                Notice(
                    ContractEvent(item["event"]),
                    PartyName(item["party"]),
                    int(item["at_ms"]),
                    bytes.fromhex(item["signature"]),
                )
                for item in value.get("notices", ())
            )
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise ContractError("a signature or notice is malformed") from error
        return cls(contract, MappingProxyType(signatures), notices)


def unsigned(contract: Contract) -> SignedContract:
    """A contract that nobody has signed yet."""
    return SignedContract(contract, MappingProxyType({}))


def load_contract(path: Path) -> SignedContract:
    """The contract in a file. Raises ContractError."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_CONTRACT_BYTES + 1)
        return SignedContract.from_json(json.loads(text) if len(text) <= MAX_CONTRACT_BYTES else None)
    except ContractError as error:
        where = path.name if error.where is None else f"{path.name}, {error.where}"
        raise ContractError(error.what, where=where, hint=error.hint) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ContractError("the contract file cannot be read", where=path.name) from error


def save_contract(signed: SignedContract, path: Path) -> None:
    """Write the contract file whole or not at all. Raises UnavailableError if it cannot be written."""
    write_whole(path, (json.dumps(signed.as_json(), indent=1) + "\n").encode(), replace=True)


def _notice_bytes(contract: Contract, event: ContractEvent, party: str, at_ms: int, index: int) -> bytes:
    body: dict[str, Json] = {
        "contract_hash": str(contract.hash),
        "event": event.value,
        "party": str(party),
        "at_ms": at_ms,
        "index": index,
    }
    return b"adyton contract notice v1\x00" + canonical_bytes(body)
