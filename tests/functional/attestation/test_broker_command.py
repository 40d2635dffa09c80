"""`adyton broker serve` as a process of its own: key file, contract and manifests in, a data key out over HTTP."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from adyton.cleanroom.attestation import dev_sim
from adyton.cleanroom.attestation.binding import binding_hash
from adyton.cleanroom.attestation.checks import Platform
from adyton.cleanroom.attestation.errors import ContractNotActiveError
from adyton.cleanroom.broker import KeyRequest, unwrap_grant
from adyton.cleanroom.broker_client import BrokerClient
from adyton.cleanroom.contract import Contract, DatasetTerms, OwnerRule, Template
from adyton.cleanroom.contract_states import ContractEvent
from adyton.cleanroom.party import Party, save_party
from adyton.cleanroom.sealed_table import manifest_path, owner_dek, seal_batches
from adyton.cleanroom.signed_contract import save_contract, unsigned
from adyton.cleanroom.table_columns import TableColumn, arrow_schema
from adyton.cli.broker import broker as broker_command
from adyton.kernel.clock import SystemClock
from adyton.kernel.ids import DatasetId
from adyton.kernel.ledger import PrivacyLoss
from adyton.learning.schema import Column, Kind, Role

CODE = bytes(range(32))
SERVE = "from adyton.cli.broker import broker; broker(prog_name='broker')"


@pytest.mark.slow
def test_a_served_broker_releases_until_its_owner_suspends_the_contract(tmp_path: Path) -> None:
    now = SystemClock().now_ms()
    owner, other = Party.create("publisher"), Party.create("advertiser")
    key_file = save_party(owner, tmp_path, b"a passphrase", scrypt_n=1 << 10)
    columns = (TableColumn(Column("user", Role.USER_ID, Kind.CATEGORY), "int64", nullable=False),)
    table = pa.record_batch([pa.array([1, 2, 3], pa.int64())], schema=arrow_schema(columns))
    manifest = seal_batches(iter([table]), tmp_path, columns, dataset_id="feeds", version=1, owner=owner)
    terms = DatasetTerms(DatasetId("feeds"), 1, owner.name, "readers", columns, "user", 3, manifest.ciphertext_sha256)
    rule = OwnerRule(
        owner.name,
        "readers",
        PrivacyLoss.of(1),
        frozenset({CODE.hex()}),
        frozenset({Template.AGGREGATE}),
        allow_dev=True,
    )
    contract = Contract("c1", (owner.identity, other.identity), (terms,), (rule,), (), now - 1000, now + 3_600_000)
    signed = unsigned(contract).sign(owner).sign(other)
    contract_file = tmp_path / "contract.json"
    save_contract(signed, contract_file)

    command = [
        *(sys.executable, "-c", SERVE, "serve", "--key", str(key_file), "--contract", str(contract_file)),
        *("--manifest", str(manifest_path(tmp_path, "feeds", 1)), "--store", str(tmp_path / "broker.sqlite")),
    ]
    environment = {**os.environ, "ADYTON_PASSPHRASE": "a passphrase"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            enclave = X25519PrivateKey.generate()

            def request(nonce: bytes) -> KeyRequest:
                public = enclave.public_key().public_bytes_raw()
                binding = binding_hash(nonce, contract.hash, public)
                evidence = dev_sim.make_evidence(CODE, binding, SystemClock().now_ms())
                return KeyRequest(terms.dataset_id, Platform.DEV_SIM, evidence, nonce, public, contract.hash)

            with BrokerClient(address) as client:
                nonce = client.nonce()
                grant = client.release(request(nonce))
                key = unwrap_grant(
                    enclave, grant, dataset_id=terms.dataset_id, contract_hash=contract.hash, nonce=nonce
                )
                assert key == owner_dek(manifest, owner)

                time.sleep(0.01)
                save_contract(signed.give_notice(owner, ContractEvent.SUSPEND, SystemClock().now_ms()), contract_file)
                with pytest.raises(ContractNotActiveError):
                    client.release(request(client.nonce()))
            log = CliRunner().invoke(broker_command, ["log", address])
            assert [line.split()[1] for line in log.stdout.splitlines()] == ["granted", "refused"]
            assert "ContractNotActiveError" in log.stdout
        finally:
            process.terminate()
            process.wait(20)
