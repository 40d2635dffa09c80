"""Versions that an owner appends to a dataset after the contract was signed, and the key of what runs remember.

A contract names one version of each table by its hash. Where it says `appends`, later versions belong to the dataset
too: the owner seals them under the next version numbers, with the same columns, and signs each manifest. A key is asked
for under `DATASET@vN`, which is no dataset's id.

What incremental runs remember (`join_state`) is sealed under a key that nobody has alone: each owner's broker gives a
share of it, under `@state`, to attested code of an active contract only, as it gives a table's key.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from adyton.cleanroom.contract import Contract, DatasetTerms
from adyton.cleanroom.party import Party
from adyton.cleanroom.sealed_table import Manifest, manifest_path, sealed_path
from adyton.kernel.ids import ContractHash, DatasetId

STATE_ID: Final = DatasetId("@state")
_SHARE_DOMAIN = b"adyton state share v1\x00"


def batch_id(dataset_id: str, version: int) -> DatasetId:
    """What an appended version is called where keys are asked for and inputs are listed."""
    return DatasetId(f"{dataset_id}@v{version}")


def dataset_of(some_id: str) -> DatasetId:
    """The dataset of a batch's id, or of a dataset's own."""
    return DatasetId(some_id.partition("@v")[0])


def sealed_files(contract: Contract, folder: Path) -> dict[str, tuple[Path, Path]]:
    """Sealed file and manifest of every dataset, and of the versions appended to it that lie in `folder`."""
    found = {}
    for terms in contract.datasets:
        own = (terms.dataset_id, terms.version)
        found[str(terms.dataset_id)] = (sealed_path(folder, *own), manifest_path(folder, *own))
        for version in _versions(folder, terms) if terms.appends else ():
            pair = (sealed_path(folder, terms.dataset_id, version), manifest_path(folder, terms.dataset_id, version))
            found[str(batch_id(terms.dataset_id, version))] = pair
    return found


def _versions(folder: Path, terms: DatasetTerms) -> Iterator[int]:
    # The manifest is written last: where it lies, the sealed file is whole.
    for path in folder.glob(f"{terms.dataset_id}.v*.manifest.json"):
        number = path.name.removeprefix(f"{terms.dataset_id}.v").removesuffix(".manifest.json")
        if number.isascii() and number.isdigit() and int(number) > terms.version:
            yield int(number)


def is_appended(manifest: Manifest, terms: DatasetTerms) -> bool:
    """Whether the manifest describes a later version of the contract's dataset; its signature is checked apart."""
    same = (manifest.dataset_id, manifest.owner, manifest.columns) == (terms.dataset_id, terms.owner, terms.columns)
    return terms.appends and same and manifest.version > terms.version


def state_key_name(contract_hash: ContractHash) -> str:
    """Under which name an owner keeps its share of a contract's state key."""
    return f"{STATE_ID}:{contract_hash}"


def state_share(owner: Party, name: str) -> bytes:
    """32 bytes, the same each time for this owner and name; derived from the owner's receiving key."""
    secret = owner.receiving_private.private_bytes_raw()
    return HKDF(SHA256(), 32, salt=None, info=_SHARE_DOMAIN + name.encode()).derive(secret)
