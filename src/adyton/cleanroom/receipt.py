"""The receipt of one run: what was agreed, what ran, what went in, what it cost, what came out; signed.

The enclave makes an Ed25519 key for the receipt and its boxes. Evidence in the receipt binds that key to the contract,
with a nonce made from all brokers' nonces, so it is as fresh as they were. `verify_receipt` works offline and believes
nothing that it can compute again. A receipt from a development platform proves the protocol, and says so.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adyton.cleanroom.appended import dataset_of
from adyton.cleanroom.attestation.binding import binding_hash
from adyton.cleanroom.attestation.checks import Platform, Verdict
from adyton.cleanroom.attestation.expected import Expected
from adyton.cleanroom.attestation.verify import verify
from adyton.cleanroom.contract import Contract
from adyton.cleanroom.errors import ReceiptRefusedError
from adyton.cleanroom.gate import required_checks
from adyton.cleanroom.job import JobSpec
from adyton.cleanroom.opened_inputs import appended_terms
from adyton.cleanroom.party import signature_holds
from adyton.cleanroom.reservations import planned_spending
from adyton.cleanroom.sealed_table import Manifest
from adyton.kernel.canonical import Json, canonical_bytes
from adyton.kernel.errors import AdytonError, BadInputError
from adyton.kernel.ids import ContractHash
from adyton.kernel.ledger import ZERO_LOSS, Account, PrivacyLoss

RECEIPT_FORMAT = "adyton-receipt/1"
MAX_RECEIPT_BYTES = 4 << 20


@dataclass(frozen=True)
class Receipt:
    """`body` is what is signed: canonical JSON values. `signature` is 64 bytes."""

    body: Mapping[str, Json]
    signature: bytes

    @property
    def is_development(self) -> bool:
        return self.body.get("development") is not False

    def as_json(self) -> dict[str, Json]:
        return {**self.body, "signature": self.signature.hex()}

    def hash(self) -> str:
        """Hex SHA-256 of the signed bytes."""
        return hashlib.sha256(signed_bytes(self.body)).hexdigest()

    @classmethod
    def from_json(cls, value: object) -> Receipt:
        """Parse `as_json()`. Raises BadInputError."""
        if not isinstance(value, Mapping) or value.get("format") != RECEIPT_FORMAT:
            raise BadInputError(f"this is no receipt (wanted format {RECEIPT_FORMAT})")
        try:
            signature = bytes.fromhex(str(value["signature"]))
        except (KeyError, ValueError) as error:
            raise BadInputError("the receipt has no readable signature") from error
        return cls({k: v for k, v in value.items() if k != "signature"}, signature)


@dataclass(frozen=True)
class ReceiptCheck:
    """One re-computed fact."""

    name: str
    passed: bool
    found: str

    def as_json(self) -> dict[str, Json]:
        return {"name": self.name, "passed": self.passed, "found": self.found}


@dataclass(frozen=True)
class ReceiptVerdict:
    """All checks of a receipt, and the verdict on its evidence."""

    checks: tuple[ReceiptCheck, ...]
    evidence: Verdict
    is_development: bool

    @property
    def holds(self) -> bool:
        return all(check.passed for check in self.checks)

    def as_json(self) -> dict[str, Json]:
        return {
            "holds": self.holds,
            "development": self.is_development,
            "checks": [check.as_json() for check in self.checks],
            "evidence": self.evidence.as_json(),
        }


def signed_bytes(body: Mapping[str, Json]) -> bytes:
    """What the enclave signs."""
    return b"adyton receipt v1\x00" + canonical_bytes(dict(body))


def receipt_nonce(broker_nonces: Sequence[bytes], job_hash: str) -> bytes:
    """32 bytes that evidence in a receipt answers to: nobody can have made it before the brokers' nonces."""
    digest = hashlib.sha256(b"adyton receipt nonce v1\x00" + job_hash.encode())
    for nonce in broker_nonces:
        digest.update(len(nonce).to_bytes(4, "big") + nonce)
    return digest.digest()


def load_receipt(path: Path) -> Receipt:
    """The receipt in a file. Raises BadInputError."""
    try:
        if path.stat().st_size > MAX_RECEIPT_BYTES:
            raise BadInputError("the receipt is larger than 4 MiB", where=path.name)
        return Receipt.from_json(json.loads(path.read_text()))
    except (OSError, ValueError, RecursionError) as error:
        raise BadInputError("the receipt cannot be read", where=path.name) from error


def verify_receipt(
    receipt: Receipt,
    contract: Contract,
    boxes: Mapping[str, bytes] | None = None,
    *,
    trust_anchors: Sequence[bytes] = (),
) -> ReceiptVerdict:
    """Every fact of a receipt that can be computed again, offline.

    contract: the contract that the verifier signed.   boxes: by file name, the sealed outputs to compare, if at hand.
    trust_anchors: for platforms without a pinned root, as `Expected.trust_anchors`: a TPM's attestation key.
    Raises BadInputError if a field is missing or malformed.
    """
    try:
        return _verify(receipt, contract, boxes, tuple(trust_anchors))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInputError(f"a field of the receipt is missing or malformed ({type(error).__name__})") from error


def require_receipt(verdict: ReceiptVerdict) -> ReceiptVerdict:
    """The verdict, if it holds. Raises ReceiptRefusedError naming what does not."""
    failed = [check for check in verdict.checks if not check.passed]
    if failed:
        raise ReceiptRefusedError("; ".join(f"{c.name}: {c.found}" for c in failed), where="receipt")
    return verdict


def _verify(
    receipt: Receipt, contract: Contract, boxes: Mapping[str, bytes] | None, trust_anchors: tuple[bytes, ...]
) -> ReceiptVerdict:
    body = json.loads(canonical_bytes(dict(receipt.body)))
    public = bytes.fromhex(body["signing_public"])
    checks: list[ReceiptCheck] = []

    def add(name: str, passed: bool, found: str) -> None:
        checks.append(ReceiptCheck(name, passed, found))

    add(
        "signature",
        signature_holds(public, signed_bytes(receipt.body), receipt.signature),
        "Ed25519 by the key in the evidence",
    )
    own = body["contract_hash"] == contract.hash
    of = f"contract {body['contract_hash'][:16]}"
    add("contract", own, of if own else f"{of}, compared with another one, {contract.hash[:16]}")
    job_hash = hashlib.sha256(canonical_bytes(body["job"])).hexdigest()
    nonce = receipt_nonce([bytes.fromhex(grant["nonce"]) for grant in body["grants"]], job_hash)
    rule = contract.binding_rule
    verdict = verify(
        Platform(body["platform"]),
        base64.b64decode(body["evidence"], validate=True),
        expected=Expected(
            at_ms=body["evidence_at_ms"],
            nonce=nonce,
            binding=binding_hash(nonce, ContractHash(contract.hash), public),
            allowed_measurements=rule.measurements,
            allow_dev=rule.allow_dev,
            trust_anchors=trust_anchors,
        ),
    )
    add("evidence", verdict.holds, ", ".join(verdict.failed) or f"{len(verdict.complete)} checks on {verdict.platform}")
    add(
        "development",
        body["development"] == verdict.platform.is_development,
        "DEVELOPMENT platform, protects nothing" if verdict.platform.is_development else "not a development platform",
    )
    add("measurement", body["measurement"] == verdict.measurement, f"code {str(verdict.measurement)[:16]}")
    during = contract.starts_at_ms <= body["evidence_at_ms"] < contract.expires_at_ms
    add("time", during, "within the contract" if during else "outside the contract")
    if body["contract_hash"] != contract.hash:
        # What follows compares the run with its contract, and this is another one.
        return ReceiptVerdict(tuple(checks), verdict, verdict.platform.is_development)
    add(*_inputs(body["inputs"], body["grants"], contract))
    job = JobSpec.from_json(body["job"])
    add(*_job(job, body["inputs"], contract))
    add(*_spending(body["ledger"], job, contract))
    add(*_gate(body["gate"], job))
    add(*_recipients(body["outputs"], job, contract))
    if boxes is not None:
        add(*_boxes(body["outputs"], boxes))
    return ReceiptVerdict(tuple(checks), verdict, verdict.platform.is_development)


def _inputs(inputs: list[dict[str, Json]], grants: list[dict[str, Json]], contract: Contract) -> tuple[str, bool, str]:
    granted = {(str(g["dataset_id"]), str(g["owner"])) for g in grants}
    for item in inputs:
        if isinstance(item.get("manifest"), Mapping):
            try:
                terms = appended_terms(contract, Manifest.from_json(item["manifest"]), str(item["dataset_id"]))
            except AdytonError as error:
                return "inputs", False, error.what
            if terms.dataset_id != item["dataset_id"]:
                return "inputs", False, f"the manifest of {item['dataset_id']} is of another version"
        else:
            terms = contract.dataset(str(item["dataset_id"]))
        wanted = (terms.ciphertext_sha256, terms.version, terms.rows)
        if (item["ciphertext_sha256"], item["version"], item["rows"]) != wanted:
            return "inputs", False, f"{terms.dataset_id} is not the table of the contract"
        if (str(terms.dataset_id), str(terms.owner)) not in granted:
            return "inputs", False, f"no key grant of {terms.owner} for {terms.dataset_id}"
    return "inputs", bool(inputs), f"{len(inputs)} tables, each as in the contract and released by its owner"


def _job(job: JobSpec, inputs: list[dict[str, Json]], contract: Contract) -> tuple[str, bool, str]:
    try:
        job.check_against(contract)
    except AdytonError as error:
        return "job", False, error.what
    named, used = {str(d) for d in (job.base, *job.partners)}, {dataset_of(str(i["dataset_id"])) for i in inputs}
    if job.incremental and str(job.base) in used:
        # Tables of earlier runs are in their receipts.
        named &= used
    words = ", ".join(sorted(template.value for template in job.templates))
    return "job", named == used, words if named == used else "the inputs are not the job's datasets"


def _spending(entries: list[dict[str, Json]], job: JobSpec, contract: Contract) -> tuple[str, bool, str]:
    budgets, most = contract.budgets(), ZERO_LOSS.epsilon
    spent: dict[tuple[Account, str], PrivacyLoss] = {}
    for entry in entries:
        account = Account(str(entry["owner"]), str(entry["population"]))
        spent[account, str(entry.get("purpose"))] = PrivacyLoss.of(str(entry["epsilon"]), str(entry["delta"]))
    accounts = {contract.dataset(dataset).account() for dataset in (job.base, *job.partners)}
    planned = {(account, one.purpose): one.loss for account in accounts for one in planned_spending(job)}
    if spent != planned or len(entries) != len(planned):
        return "ledger", False, f"{len(entries)} entries, and not what the job's noised outputs cost"
    for account in accounts:
        used = sum((loss for (whose, _), loss in spent.items() if whose == account), ZERO_LOSS)
        if account not in budgets or not used.fits_in(budgets[account]):
            return "ledger", False, f"{account.owner} has no budget for that"
        most = max(most, used.epsilon)
    if any(entry.get("noise_is_secure") is not True for entry in entries):
        allowed = contract.binding_rule.allow_dev
        return "ledger", allowed, "FIXED NOISE that protects nobody: its epsilon is no guarantee"
    return "ledger", True, f"epsilon {float(most):g} per user, {len(entries)} entries, within each owner's budget"


def _gate(checks: list[dict[str, Json]], job: JobSpec) -> tuple[str, bool, str]:
    failed = [f"{c['output']} {c['name']}" for c in checks if c["passed"] is not True]
    made = {(str(c["output"]), str(c["name"])) for c in checks}
    needed = {(output.value, name) for output in job.outputs for name in required_checks(output)}
    missing = [f"{output} {name} missing" for output, name in sorted(needed - made)]
    return "gate", not failed and not missing, ", ".join(failed + missing) or f"{len(checks)} checks, all passed"


def _recipients(outputs: list[dict[str, Json]], job: JobSpec, contract: Contract) -> tuple[str, bool, str]:
    due = {(o.value, str(name)) for o in job.outputs for name in contract.recipients(o)}
    boxes = [(str(o["output"]), str(o["recipient"])) for o in outputs]
    odd = sorted(due.symmetric_difference(boxes))
    if odd or len(boxes) != len(due):
        return "recipients", False, ", ".join(f"{output} to {who}" for output, who in odd) or "a box is there twice"
    return "recipients", True, f"{len(outputs)} boxes, each to a recipient of the contract"


def _boxes(outputs: list[dict[str, Json]], boxes: Mapping[str, bytes]) -> tuple[str, bool, str]:
    for output in outputs:
        data = boxes.get(str(output["file"]))
        if data is not None and hashlib.sha256(data).hexdigest() != output["sha256"]:
            return "outputs", False, f"{output['file']} differs from what the enclave sealed"
    compared = sum(str(output["file"]) in boxes for output in outputs)
    return "outputs", True, f"{compared} of {len(outputs)} boxes compared"
