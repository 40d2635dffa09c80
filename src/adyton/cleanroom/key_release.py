"""What an owner's broker asks of its owner: which contracts are active, and the data keys of its own sealed tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from adyton.cleanroom.broker import ActiveContracts, DataKeys, ReleaseTerms
from adyton.cleanroom.contract_states import ContractState
from adyton.cleanroom.errors import ContractSignatureError, ContractStateError
from adyton.cleanroom.party import Party
from adyton.cleanroom.sealed_table import Manifest, owner_dek
from adyton.cleanroom.secret_bytes import SecretBytes
from adyton.cleanroom.signed_contract import SignedContract
from adyton.kernel.clock import Clock
from adyton.kernel.ids import ContractHash, PartyName


def active_contracts(contracts: Iterable[SignedContract], owner: PartyName, clock: Clock) -> ActiveContracts:
    """The owner's contracts, each looked up at the moment of a request: signatures, notices and dates are checked."""
    by_hash = {signed.contract.hash: signed for signed in contracts}

    def find(contract_hash: ContractHash) -> ReleaseTerms | None:
        signed = by_hash.get(contract_hash)
        if signed is None or _state(signed, clock.now_ms()) is not ContractState.ACTIVE:
            return None
        contract, rule = signed.contract, signed.contract.binding_rule
        return ReleaseTerms(
            contract_hash=contract.hash,
            measurements=rule.measurements,
            allow_dev=rule.allow_dev,
            expires_at_ms=contract.expires_at_ms,
            dataset_ids=frozenset(terms.dataset_id for terms in contract.datasets if terms.owner == owner),
            key_names={
                terms.dataset_id: key_name(terms.dataset_id, terms.version, terms.ciphertext_sha256)
                for terms in contract.datasets
                if terms.owner == owner
            },
        )

    return find


def data_keys(manifests: Sequence[Manifest], owner: Party) -> DataKeys:
    """Data keys of the owner's tables, unwrapped at each request and not kept.

    A key is found under its dataset's id, version and ciphertext hash together: a contract over another version, or
    over another file that was sealed as the same version, gets none.
    """
    by_name = {key_name(m.dataset_id, m.version, m.ciphertext_sha256): m for m in manifests}

    def find(name: str) -> SecretBytes | None:
        manifest = by_name.get(name)
        return SecretBytes(owner_dek(manifest, owner)) if manifest is not None else None

    return find


def key_name(dataset_id: str, version: int, ciphertext_sha256: str) -> str:
    """What one sealed file's key is called."""
    return f"{dataset_id}:{version}:{ciphertext_sha256}"


def _state(signed: SignedContract, now_ms: int) -> ContractState | None:
    try:
        return signed.state(now_ms)
    except (ContractSignatureError, ContractStateError):
        return None
