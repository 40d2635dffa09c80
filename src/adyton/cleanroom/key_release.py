"""What an owner's broker asks of its owner: which contracts are active, and the data keys of its own sealed tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from adyton.cleanroom.appended import STATE_ID, batch_id, is_appended, state_key_name, state_share
from adyton.cleanroom.broker import ActiveContracts, DataKeys, ReleaseTerms
from adyton.cleanroom.contract_states import ContractState
from adyton.cleanroom.errors import ContractSignatureError, ContractStateError, SealBrokenError
from adyton.cleanroom.party import Party, PartyIdentity
from adyton.cleanroom.sealed_table import Manifest, load_manifest, owner_dek
from adyton.cleanroom.secret_bytes import SecretBytes
from adyton.cleanroom.signed_contract import SignedContract
from adyton.kernel.clock import Clock
from adyton.kernel.errors import BadInputError
from adyton.kernel.ids import ContractHash, PartyName


def active_contracts(
    contracts: Iterable[SignedContract],
    owner: PartyName,
    clock: Clock,
    manifests: Callable[[], Iterable[Manifest]] = tuple,
) -> ActiveContracts:
    """The owner's contracts, each looked up at the moment of a request: signatures, notices and dates are checked.

    manifests: the owner's sealed tables at that moment; versions appended to a contract's datasets are among them.
    """
    by_hash = {signed.contract.hash: signed for signed in contracts}

    def find(contract_hash: ContractHash) -> ReleaseTerms | None:
        signed = by_hash.get(contract_hash)
        if signed is None or _state(signed, clock.now_ms()) is not ContractState.ACTIVE:
            return None
        contract, rule = signed.contract, signed.contract.binding_rule
        names = {}
        for terms in contract.datasets:
            if terms.owner != owner:
                continue
            names[terms.dataset_id] = key_name(terms.dataset_id, terms.version, terms.ciphertext_sha256)
            if not terms.appends:
                continue
            names[STATE_ID] = state_key_name(contract.hash)
            for manifest in manifests():
                if is_appended(manifest, terms):
                    batch = batch_id(manifest.dataset_id, manifest.version)
                    names[batch] = key_name(manifest.dataset_id, manifest.version, manifest.ciphertext_sha256)
        return ReleaseTerms(
            contract_hash=contract.hash,
            measurements=rule.measurements,
            allow_dev=rule.allow_dev,
            expires_at_ms=contract.expires_at_ms,
            dataset_ids=frozenset(names),
            key_names=names,
        )

    return find


def data_keys(manifests: Iterable[Manifest] | Callable[[], Iterable[Manifest]], owner: Party) -> DataKeys:
    """Data keys of the owner's tables, unwrapped at each request and not kept; and its share of a contract's state key.

    A key is found under its dataset's id, version and ciphertext hash together: a contract over another version, or
    over another file that was sealed as the same version, gets none.
    """
    given = tuple(manifests) if not callable(manifests) else None

    def find(name: str) -> SecretBytes | None:
        if name.startswith(STATE_ID):
            return SecretBytes(state_share(owner, name))
        # A callable tells what lies there at this moment: tables that were appended meanwhile are among them.
        known = manifests() if callable(manifests) else given or ()
        by_name = {key_name(m.dataset_id, m.version, m.ciphertext_sha256): m for m in known}
        manifest = by_name.get(name)
        return SecretBytes(owner_dek(manifest, owner)) if manifest is not None else None

    return find


class OwnedManifests:
    """An owner's sealed tables in a folder, as they lie there at the moment of asking; others' are passed over."""

    def __init__(self, folder: Path, owner: PartyIdentity) -> None:
        self._folder, self._owner = folder, owner
        self._checked: dict[tuple[str, int], Manifest | None] = {}

    def now(self) -> list[Manifest]:
        """Each manifest that the owner signed; one that was looked at before is not read again unless it changed."""
        found = []
        for path in sorted(self._folder.glob("*.manifest.json")):
            known = (path.name, path.stat().st_mtime_ns)
            if known not in self._checked:
                self._checked[known] = self._owned(path)
            if (manifest := self._checked[known]) is not None:
                found.append(manifest)
        return found

    def _owned(self, path: Path) -> Manifest | None:
        try:
            manifest = load_manifest(path)
            manifest.check_signature(self._owner)
        except (BadInputError, SealBrokenError):
            return None
        return manifest


def key_name(dataset_id: str, version: int, ciphertext_sha256: str) -> str:
    """What one sealed file's key is called."""
    return f"{dataset_id}:{version}:{ciphertext_sha256}"


def _state(signed: SignedContract, now_ms: int) -> ContractState | None:
    try:
        return signed.state(now_ms)
    except (ContractSignatureError, ContractStateError):
        return None
