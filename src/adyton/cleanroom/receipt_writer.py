"""Writing the receipt: inside the enclave, with its attested key, after everything was settled and sealed."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from adyton.cleanroom.attestation.binding import binding_hash
from adyton.cleanroom.attestation.expected import Expected
from adyton.cleanroom.attestation.verify import require, verify
from adyton.cleanroom.broker import KeyGrant
from adyton.cleanroom.contract import Contract, DatasetTerms, Output
from adyton.cleanroom.gate import GateCheck
from adyton.cleanroom.hardening import Measure
from adyton.cleanroom.job import JobSpec
from adyton.cleanroom.key_exchange import EnclaveKeys, EvidenceMaker
from adyton.cleanroom.ledger_store import CounterValue, StateRecord
from adyton.cleanroom.receipt import RECEIPT_FORMAT, Receipt, receipt_nonce, signed_bytes
from adyton.cleanroom.sealed_table import Manifest
from adyton.kernel.canonical import Json, canonical_bytes
from adyton.kernel.ids import DatasetId


@dataclass(frozen=True)
class SealedOutput:
    """One box: `file` is the name it gets in the output folder."""

    output: Output
    recipient: str
    file: str
    box: bytes


@dataclass(frozen=True)
class RunFacts:
    """What happened in one run. `terms`: of each version that was joined; `appended`: manifests of later versions."""

    contract: Contract
    job: JobSpec
    terms: Sequence[DatasetTerms]
    grants: Sequence[KeyGrant]
    hardening: Sequence[Measure]
    spent: Sequence[Json]
    ledger_head: CounterValue
    checks: Sequence[GateCheck]
    outputs: Sequence[SealedOutput]
    started_at_ms: int
    finished_at_ms: int
    appended: Mapping[DatasetId, Manifest] = field(default_factory=dict)
    state: StateRecord | None = None


def write_receipt(facts: RunFacts, keys: EnclaveKeys, maker: EvidenceMaker) -> Receipt:
    """The signed receipt. Raises EvidenceRefusedError if this enclave's own evidence would not satisfy the contract."""
    contract, job_json = facts.contract, facts.job.as_json()
    job_hash = hashlib.sha256(canonical_bytes(job_json)).hexdigest()
    nonce = receipt_nonce([grant.nonce for grant in facts.grants], job_hash)
    binding = binding_hash(nonce, contract.hash, keys.signing_public)
    evidence = maker.evidence(binding, facts.finished_at_ms)
    rule = contract.binding_rule
    expected = Expected(
        at_ms=facts.finished_at_ms,
        nonce=nonce,
        binding=binding,
        allowed_measurements=rule.measurements,
        allow_dev=rule.allow_dev,
        trust_anchors=maker.trust_anchors,
    )
    verdict = require(verify(maker.platform, evidence, expected=expected))
    body: dict[str, Json] = {
        "format": RECEIPT_FORMAT,
        "contract_id": contract.contract_id,
        "contract_hash": str(contract.hash),
        "job": job_json,
        "platform": maker.platform.value,
        "development": maker.platform.is_development,
        "measurement": verdict.measurement,
        "evidence": base64.b64encode(evidence).decode(),
        "evidence_at_ms": facts.finished_at_ms,
        "checks": [check.as_json() for check in verdict.complete],
        "signing_public": keys.signing_public.hex(),
        "started_at_ms": facts.started_at_ms,
        "finished_at_ms": facts.finished_at_ms,
        "inputs": [_input(one, facts.appended.get(one.dataset_id)) for one in facts.terms],
        "grants": [_grant(grant) for grant in facts.grants],
        "hardening": [measure.as_json() for measure in facts.hardening],
        "ledger": list(facts.spent),
        "ledger_head": facts.ledger_head.as_json(),
        "gate": [check.as_json() for check in facts.checks],
        "outputs": [_output(one) for one in facts.outputs],
    }
    if facts.state is not None:
        state = facts.state
        body["state"] = {"lineage": state.lineage, "sequence": state.sequence, "sha256": state.sha256}
    return Receipt(body, keys.sign(signed_bytes(body)))


def _input(terms: DatasetTerms, manifest: Manifest | None) -> dict[str, Json]:
    # An appended version is not in the contract: its manifest, which its owner signed, vouches for it.
    return {
        "dataset_id": str(terms.dataset_id),
        "version": terms.version,
        "owner": str(terms.owner),
        "rows": terms.rows,
        "ciphertext_sha256": terms.ciphertext_sha256,
        **({"manifest": manifest.as_json()} if manifest is not None else {}),
    }


def _grant(grant: KeyGrant) -> dict[str, Json]:
    return {
        "owner": str(grant.owner),
        "dataset_id": str(grant.dataset_id),
        "nonce": grant.nonce.hex(),
        "log_hash": grant.log_hash,
    }


def _output(sealed: SealedOutput) -> dict[str, Json]:
    return {
        "output": sealed.output.value,
        "recipient": sealed.recipient,
        "file": sealed.file,
        "bytes": len(sealed.box),
        "sha256": hashlib.sha256(sealed.box).hexdigest(),
    }
