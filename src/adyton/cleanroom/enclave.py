"""The enclave: from sealed tables and a signed contract to sealed outputs and a receipt. No plaintext leaves it.

    1 contract    signatures and dates; job inside the contract; guarantees for users on single users' columns only
    2 keys        fresh key pairs; nonce, evidence, grant from every owner's broker
    3 tables      ciphertext against contract and manifest, opened in memory
    4 ledger      everything that noise will cover is reserved with every owner, before anything is computed
    5 work        join, features, templates, attacks (`workload`)
    6 gate        every check of every output; one failure stops all
    7 settle      reservations become spending; every owner's broker is told where the ledger stands
    8 seal        each output to each recipient; receipt signed with the attested key

Nothing but the ledger is written or sent before 8, so a job that dies earlier released nothing and
`LedgerStore.settle_crashed` gives its reservations back. A refusal by the gate is settled as spent: it was computed
from what the noise already paid for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from adyton.cleanroom.appended import STATE_ID, dataset_of
from adyton.cleanroom.broker import KeyGrant
from adyton.cleanroom.engine import load_libraries
from adyton.cleanroom.errors import TemplateRefusedError
from adyton.cleanroom.gate import GateLimits, require_all
from adyton.cleanroom.hardening import Measure
from adyton.cleanroom.job import JobSpec, Progress
from adyton.cleanroom.joined_view import short_name
from adyton.cleanroom.key_exchange import EnclaveKeys, EvidenceMaker, fetch_key, tell_settled
from adyton.cleanroom.ledger_store import LedgerStore
from adyton.cleanroom.measurement import code_measurement
from adyton.cleanroom.opened_inputs import ChosenTable, OpenedTable, SealedInput, choose_tables
from adyton.cleanroom.receipt import Receipt
from adyton.cleanroom.receipt_writer import RunFacts, SealedOutput, write_receipt
from adyton.cleanroom.reservations import reserve
from adyton.cleanroom.sealed_box import seal_box
from adyton.cleanroom.sealed_table import OpenTable, open_table
from adyton.cleanroom.signed_contract import SignedContract
from adyton.cleanroom.single_users import check_single_users
from adyton.cleanroom.state_store import StateOrigin, StateStore
from adyton.cleanroom.workload import MadeOutput, Workload, WorkResult, needed_columns
from adyton.kernel.chance import RandomSource
from adyton.kernel.clock import Clock
from adyton.kernel.errors import BadInputError
from adyton.kernel.ids import DatasetId


@dataclass(frozen=True)
class EnclaveResult:
    """What leaves the enclave, all at once."""

    receipt: Receipt
    outputs: tuple[SealedOutput, ...]


@dataclass(frozen=True)
class Enclave:
    """Everything a job needs from outside.

    inputs: by dataset id, appended versions by `DATASET@vN`.   brokers: address by owner's name.
    random: of keys.   noise: of privacy noise.
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
        return self.run_and_keep(job, progress)[0]

    def run_and_keep(self, job: JobSpec, progress: Progress) -> tuple[EnclaveResult, WorkResult]:
        """`run`, and what a stream goes on with: the model and the state stay in this process's memory."""
        contract, started_at_ms = self.signed.contract, self.clock.now_ms()
        self.signed.require_active(started_at_ms)
        job.check_against(contract)
        check_single_users(contract, job)
        if not self.noise.is_secure and not contract.binding_rule.allow_dev:
            # Whoever knows the noise subtracts it.
            raise TemplateRefusedError(
                "fixed noise protects nobody, and not every owner allows development runs", where=contract.contract_id
            )
        if job.continues:
            raise BadInputError("a batch is scored by its stream", where="continues")
        with self.ledger.job_lock(str(job.job_id)), ExitStack() as secrets:
            keys = EnclaveKeys(self.random)
            progress(0.02, "asking brokers for keys")
            grants: list[KeyGrant] = []
            states = self._states(job, keys, secrets, grants) if job.incremental else None
            past = states.newest() if states is not None else None
            dataset_ids = (job.base, *job.partners)
            chosen = choose_tables(contract, dataset_ids, self.inputs, past.versions if past else {})
            tables = self.open_tables(job, chosen, keys, grants, past.versions if past else {})
            keys.forget_receiving()
            held = reserve(self.ledger, contract, job, [contract.dataset(d) for d in dataset_ids])
            try:
                work = Workload(contract, job, tables, held, self.random, self.noise, self.limits, self.threads, past)
                result = work.run(progress)
                require_all(result.checks)
            except BaseException:
                held.abandon()
                raise
            held.settle()
            # Nothing is read any more: with the files go their keys, which pyarrow zeroes when it frees them.
            del work, tables
            kept = None
            if states is not None:
                assert result.state is not None, "an incremental run leaves a state"
                progress(0.93, "sealing what the next run needs")
                kept = states.keep(result.state, self.random)
            progress(0.94, "telling brokers where the ledger stands")
            # Before anything leaves: with the outputs in hand, whoever runs this could put an older ledger back.
            owners = sorted({str(contract.dataset(d).owner) for d in dataset_ids})
            tell_settled(owners, contract, self.brokers, keys, self.maker, self.clock, self.ledger)
            progress(0.95, "sealing outputs")
            outputs = self.seal_outputs(result.made, job, keys)
            facts = RunFacts(
                contract=contract,
                job=job,
                terms=[one.terms for one in chosen],
                grants=grants,
                hardening=self.hardening,
                spent=held.as_json(self.noise.is_secure),
                ledger_head=self.ledger.head(),
                checks=result.checks,
                outputs=outputs,
                started_at_ms=started_at_ms,
                finished_at_ms=self.clock.now_ms(),
                appended={one.terms.dataset_id: one.manifest for one in chosen if one.is_appended},
                state=kept,
            )
            made = self.result_of(facts, keys)
        progress(1.0, "done")
        return made, result

    def result_of(self, facts: RunFacts, keys: EnclaveKeys) -> EnclaveResult:
        """Outputs with the receipt that vouches for them."""
        return EnclaveResult(write_receipt(facts, keys, self.maker), tuple(facts.outputs))

    def _states(self, job: JobSpec, keys: EnclaveKeys, secrets: ExitStack, grants: list[KeyGrant]) -> StateStore:
        """What earlier runs of the same shape left, under the key that every owner gives a share of."""
        contract = self.signed.contract
        used = [contract.dataset(d) for d in (job.base, *job.partners)]
        shares = []
        for owner in sorted({one.owner for one in used}):
            asked = replace(next(one for one in used if one.owner == owner), dataset_id=STATE_ID)
            share, grant = fetch_key(asked, contract, self.brokers, keys, self.maker, self.clock, self.ledger)
            secrets.enter_context(share)
            shares.append(share)
            grants.append(grant)
        lineage = job.lineage(contract.hash)
        secrets.enter_context(self.ledger.job_lock(f"state-{lineage}"))
        origin = StateOrigin(contract.hash, code_measurement().hex(), lineage)
        return StateStore(self.ledger.folder, self.ledger, origin, shares)

    def open_tables(
        self,
        job: JobSpec,
        chosen: Sequence[ChosenTable],
        keys: EnclaveKeys,
        grants: list[KeyGrant],
        since: Mapping[str, int],
    ) -> list[OpenedTable]:
        """Every dataset of the job with its chosen versions opened; adds the grants of their keys to `grants`."""
        contract = self.signed.contract
        needed = needed_columns(contract, job)
        terms = [contract.dataset(d) for d in (job.base, *job.partners)]
        opening: dict[DatasetId, Future[OpenTable]] = {}
        # Keys are wiped as soon as the files are open; what opens pages of them is Arrow's, and zeroed with them.
        with ExitStack() as wiped, ThreadPoolExecutor(self.threads) as pool:
            for choice in chosen:
                dek, grant = fetch_key(choice.terms, contract, self.brokers, keys, self.maker, self.clock, self.ledger)
                grants.append(grant)
                wiped.enter_context(dek)
                # Opening hashes the whole file, which goes on while the next key is asked for.
                opening[choice.terms.dataset_id] = pool.submit(open_table, choice.sealed, choice.manifest, dek.data)
            load_libraries(job.engine)
            opened = {dataset_id: waiting.result() for dataset_id, waiting in opening.items()}
        tables = []
        for one in terms:
            mine = [c.terms for c in chosen if dataset_of(c.terms.dataset_id) == one.dataset_id]
            newest = mine[-1].version if mine else since[one.dataset_id]
            files, name = [opened[term.dataset_id] for term in mine], short_name(one, terms)
            tables.append(OpenedTable(one.dataset_id, name, one, needed[one.dataset_id], files, newest))
        return tables

    def seal_outputs(self, made: Sequence[MadeOutput], job: JobSpec, keys: EnclaveKeys) -> tuple[SealedOutput, ...]:
        """Each output sealed to each of its recipients."""
        contract = self.signed.contract
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
