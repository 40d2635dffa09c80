"""The enclave: from sealed tables and a signed contract to sealed outputs and a receipt. No plaintext leaves it.

    1 contract    signatures and dates; job inside the contract
    2 keys        fresh key pairs; nonce, evidence, grant from every owner's broker
    3 tables      ciphertext against contract and manifest, opened in memory
    4 ledger      everything that noise will cover is reserved with every owner, before anything is computed
    5 work        join, features, templates, attacks (`workload`)
    6 gate        every check of every output; one failure stops all
    7 settle      reservations become spending
    8 seal        each output to each recipient; receipt signed with the attested key

Nothing is written or sent before 8, so a job that dies earlier released nothing and `LedgerStore.settle_crashed` gives
its reservations back. A refusal by the gate is settled as spent: it was computed from what the noise already paid for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from adyton.cleanroom.broker import KeyGrant
from adyton.cleanroom.contract import Contract, DatasetTerms
from adyton.cleanroom.errors import SealBrokenError
from adyton.cleanroom.gate import GateLimits, require_all
from adyton.cleanroom.hardening import Measure
from adyton.cleanroom.job import JobSpec, Progress
from adyton.cleanroom.join import PartyTable
from adyton.cleanroom.joined_view import short_name
from adyton.cleanroom.key_exchange import EnclaveKeys, EvidenceMaker, fetch_key
from adyton.cleanroom.ledger_store import LedgerStore
from adyton.cleanroom.receipt import Receipt
from adyton.cleanroom.receipt_writer import RunFacts, SealedOutput, write_receipt
from adyton.cleanroom.reservations import reserve
from adyton.cleanroom.sealed_box import seal_box
from adyton.cleanroom.sealed_table import Manifest, load_manifest, open_table
from adyton.cleanroom.secret_bytes import SecretBytes
from adyton.cleanroom.signed_contract import SignedContract
from adyton.cleanroom.table_columns import table_schema
from adyton.cleanroom.workload import MadeOutput, Workload, needed_columns
from adyton.kernel.chance import RandomSource
from adyton.kernel.clock import Clock
from adyton.kernel.ids import DatasetId


@dataclass(frozen=True)
class SealedInput:
    """Where a sealed table and its manifest lie."""

    sealed: Path
    manifest: Path


@dataclass(frozen=True)
class EnclaveResult:
    """What leaves the enclave, all at once."""

    receipt: Receipt
    outputs: tuple[SealedOutput, ...]


@dataclass(frozen=True)
class Enclave:
    """Everything a job needs from outside.

    inputs: by dataset id.   brokers: address by owner's name.   random: of keys.   noise: of privacy noise.
    """

    signed: SignedContract
    inputs: Mapping[str, SealedInput]
    brokers: Mapping[str, str]
    ledger: LedgerStore
    maker: EvidenceMaker
    hardening: Sequence[Measure]
    clock: Clock
    random: RandomSource
    noise: RandomSource
    limits: GateLimits = field(default_factory=GateLimits)
    threads: int = 2

    def run(self, job: JobSpec, progress: Progress) -> EnclaveResult:
        """Run one job. Raises what its parts raise; then nothing was released."""
        contract, started_at_ms = self.signed.contract, self.clock.now_ms()
        self.signed.require_active(started_at_ms)
        job.check_against(contract)
        with self.ledger.job_lock(str(job.job_id)):
            keys = EnclaveKeys(self.random)
            terms = [contract.dataset(d) for d in (job.base, *job.partners)]
            progress(0.02, "asking brokers for keys")
            tables, grants = self._open(terms, keys, needed_columns(contract, job))
            held = reserve(self.ledger, contract, job, terms)
            try:
                work = Workload(contract, job, tables, held, self.random, self.noise, self.limits, self.threads)
                made, checks = work.run(progress)
                require_all(checks)
            except BaseException:
                held.abandon()
                raise
            held.settle()
            progress(0.95, "sealing outputs")
            outputs = self._seal(made, contract, job, keys)
            facts = RunFacts(
                contract=contract,
                job=job,
                terms=terms,
                grants=grants,
                hardening=self.hardening,
                spent=held.as_json(self.noise.is_secure),
                ledger_head=self.ledger.head(),
                checks=checks,
                outputs=outputs,
                started_at_ms=started_at_ms,
                finished_at_ms=self.clock.now_ms(),
            )
            receipt = write_receipt(facts, keys, self.maker)
        progress(1.0, "done")
        return EnclaveResult(receipt, outputs)

    def _open(
        self, terms: Sequence[DatasetTerms], keys: EnclaveKeys, needed: Mapping[DatasetId, tuple[str, ...]] | None
    ) -> tuple[list[PartyTable], list[KeyGrant]]:
        opened: list[tuple[Path, Manifest, SecretBytes]] = []
        grants: list[KeyGrant] = []

        def read(index: int) -> PartyTable:
            sealed, manifest, dek = opened[index]
            one = terms[index]
            table = open_table(sealed, manifest, dek.data).read(needed[one.dataset_id] if needed else None)
            if needed is not None:
                # Ids are only hashed and scanned from here on: as codes, each distinct one is there once.
                place = table.column_names.index(one.join_column)
                ids = table.column(place).cast(pa.string()).dictionary_encode()
                table = table.set_column(place, one.join_column, ids)
            return PartyTable(one.dataset_id, short_name(one, terms), table, table_schema(one.columns))

        # Keys are wiped when the tables are read, and when one of the brokers refuses.
        with ExitStack() as secrets:
            for one in terms:
                files = self._checked_files(one)
                manifest = load_manifest(files.manifest)
                dek, grant = fetch_key(one, self.signed.contract, self.brokers, keys, self.maker, self.clock)
                secrets.enter_context(dek)
                opened.append((files.sealed, manifest, dek))
                grants.append(grant)
            keys.forget_receiving()
            # Decoding a column of ids is one thread's work, so tables are decoded side by side.
            with ThreadPoolExecutor(self.threads) as pool:
                return list(pool.map(read, range(len(terms)))), grants

    def _checked_files(self, terms: DatasetTerms) -> SealedInput:
        """The files of a dataset whose manifest says what the contract says. Raises SealBrokenError."""
        where = str(terms.dataset_id)
        if where not in self.inputs:
            raise SealBrokenError("no sealed file was given for this dataset", where=where)
        files = self.inputs[where]
        manifest = load_manifest(files.manifest)
        manifest.check_signature(self.signed.contract.party(terms.owner))
        if manifest.ciphertext_sha256 != terms.ciphertext_sha256:
            raise SealBrokenError(
                "the table is not the one that the contract names",
                where=where,
                hint="was it sealed again after signing? sign a new contract over the new table",
            )
        stated = (manifest.dataset_id, manifest.version, manifest.columns, manifest.rows)
        if stated != (terms.dataset_id, terms.version, terms.columns, terms.rows):
            raise SealBrokenError("the manifest describes another table than the contract", where=where)
        return files

    def _seal(
        self, made: Sequence[MadeOutput], contract: Contract, job: JobSpec, keys: EnclaveKeys
    ) -> tuple[SealedOutput, ...]:
        outputs = []
        for one in made:
            output = one.candidate.output
            for recipient in contract.recipients(output):
                box = seal_box(
                    one.content,
                    name=output.value,
                    recipient=contract.party(recipient),
                    context={"contract_hash": str(contract.hash), "job_id": str(job.job_id)},
                    signer=keys,
                    random=self.random,
                )
                outputs.append(SealedOutput(output, str(recipient), f"{output.value}.{recipient}.box", box))
        return tuple(outputs)
