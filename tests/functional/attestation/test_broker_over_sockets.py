"""Two brokers on real sockets, an enclave's side that talks to them, and every way to be refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from adyton.cleanroom.attestation import dev_sim
from adyton.cleanroom.attestation.binding import binding_hash
from adyton.cleanroom.attestation.checks import Platform
from adyton.cleanroom.attestation.errors import (
    BrokerUnavailableError,
    ContractExpiredError,
    ContractNotActiveError,
    DatasetNotOwnedError,
    EvidenceRefusedError,
    KeyRequestError,
    LedgerMovedError,
    LedgerNotContinuedError,
    ReplayedNonceError,
    StaleNonceError,
    UnknownNonceError,
)
from adyton.cleanroom.broker import KeyBroker, KeyRequest, LedgerReport, ReleaseTerms, unwrap_grant
from adyton.cleanroom.broker_client import BrokerClient
from adyton.cleanroom.broker_server import running_broker
from adyton.cleanroom.broker_store import BrokerStore
from adyton.cleanroom.errors import SealBrokenError
from adyton.cleanroom.ledger_claim import LedgerClaim
from adyton.cleanroom.ledger_store import NO_ENTRIES, CounterValue
from adyton.cleanroom.secret_bytes import SecretBytes
from adyton.kernel.audit import verify_chain
from adyton.kernel.clock import ManualClock
from adyton.kernel.ids import ContractHash, DatasetId, PartyName

START_MS = 1_790_000_000_000
CONTRACT = ContractHash("c" * 64)
ADS, FEEDS = DatasetId("ads"), DatasetId("feeds")
CODE = bytes(range(32))
KEYS = {ADS: b"a" * 32, FEEDS: b"f" * 32}


def data_key(name: DatasetId) -> SecretBytes | None:
    return SecretBytes.copy_of(KEYS[name]) if name in KEYS else None


@dataclass
class Room:
    """One broker over HTTP, its clock and its terms, which a test may change."""

    store: BrokerStore
    clock: ManualClock
    terms: ReleaseTerms | None
    client: BrokerClient
    enclave_key: X25519PrivateKey

    def request(self, nonce: bytes, **changed: object) -> KeyRequest:
        public_key = self.enclave_key.public_key().public_bytes_raw()
        binding = binding_hash(nonce, CONTRACT, public_key)
        evidence = dev_sim.make_evidence(CODE, binding, self.clock.now_ms())
        asked = KeyRequest(ADS, Platform.DEV_SIM, evidence, nonce, public_key, CONTRACT)
        return replace(asked, **changed)  # type: ignore[arg-type]

    def claiming(self, claim: LedgerClaim, nonce: bytes | None = None) -> KeyRequest:
        """A request of measured code that says this of its ledger."""
        nonce = nonce or self.client.nonce()
        public_key = self.enclave_key.public_key().public_bytes_raw()
        evidence = dev_sim.make_evidence(
            CODE, binding_hash(nonce, CONTRACT, public_key, claim.statement()), self.clock.now_ms()
        )
        return KeyRequest(ADS, Platform.DEV_SIM, evidence, nonce, public_key, CONTRACT, ledger=claim)

    def settling(self, claim: LedgerClaim) -> LedgerReport:
        asked = self.claiming(claim)
        return LedgerReport(Platform.DEV_SIM, asked.evidence, asked.nonce, asked.public_key, CONTRACT, claim)


def terms(**changed: object) -> ReleaseTerms:
    good = ReleaseTerms(CONTRACT, frozenset({CODE.hex()}), True, START_MS + 86_400_000, frozenset({ADS}))
    return replace(good, **changed)  # type: ignore[arg-type]


@pytest.fixture(params=["http", "unix"])
def room(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Room]:
    store, clock = BrokerStore(tmp_path / "broker.sqlite"), ManualClock(START_MS)
    made: list[Room] = []
    broker = KeyBroker(PartyName("publisher"), store, lambda _: made[0].terms, data_key, clock=clock)
    address = "http://127.0.0.1:0" if request.param == "http" else f"unix:{tmp_path / 'b.sock'}"
    with running_broker(broker, address) as where, BrokerClient(where) as client:
        made.append(Room(store, clock, terms(), client, X25519PrivateKey.generate()))
        yield made[0]
    store.close()


def test_a_measured_enclave_gets_the_key_and_the_log_says_so(room: Room) -> None:
    nonce = room.client.nonce()
    grant = room.client.release(room.request(nonce))

    key = unwrap_grant(room.enclave_key, grant, dataset_id=ADS, contract_hash=CONTRACT, nonce=nonce)
    log = room.client.log()
    assert key == KEYS[ADS]
    assert verify_chain(log) == grant.log_hash
    assert [entry.kind for entry in log] == ["granted"]
    assert log[0].body["development"] is True
    assert KEYS[ADS].hex() not in str(log)


def test_a_grant_opens_for_nobody_else_and_for_nothing_else(room: Room) -> None:
    nonce = room.client.nonce()
    grant = room.client.release(room.request(nonce))

    for private_key, dataset, contract, shown in (
        (X25519PrivateKey.generate(), ADS, CONTRACT, nonce),
        (room.enclave_key, FEEDS, CONTRACT, nonce),
        (room.enclave_key, ADS, ContractHash("d" * 64), nonce),
        (room.enclave_key, ADS, CONTRACT, bytes(32)),
    ):
        with pytest.raises(SealBrokenError):
            unwrap_grant(private_key, grant, dataset_id=dataset, contract_hash=contract, nonce=shown)


def test_a_nonce_works_once_and_a_refused_request_uses_it_up_too(room: Room) -> None:
    nonce = room.client.nonce()
    with pytest.raises(EvidenceRefusedError):
        room.client.release(room.request(nonce, evidence=b"junk"))

    with pytest.raises(ReplayedNonceError):
        room.client.release(room.request(nonce))


def test_a_nonce_nobody_issued_and_one_past_its_minutes_are_refused(room: Room) -> None:
    with pytest.raises(UnknownNonceError):
        room.client.release(room.request(bytes(range(32))))

    nonce = room.client.nonce()
    room.clock.advance_ms(5 * 60_000 + 1)
    with pytest.raises(StaleNonceError):
        room.client.release(room.request(nonce))


def test_contract_and_dataset_must_be_the_owners(room: Room) -> None:
    with pytest.raises(DatasetNotOwnedError):
        room.client.release(room.request(room.client.nonce(), dataset_id=FEEDS))

    room.terms = terms(expires_at_ms=START_MS)
    with pytest.raises(ContractExpiredError):
        room.client.release(room.request(room.client.nonce()))

    room.terms = None
    with pytest.raises(ContractNotActiveError):
        room.client.release(room.request(room.client.nonce()))
    assert [entry.body["error"] for entry in room.client.log()] == [
        "DatasetNotOwnedError",
        "ContractExpiredError",
        "ContractNotActiveError",
    ]


def test_each_lie_in_evidence_is_refused_by_the_check_that_names_it(room: Room) -> None:
    at_ms = room.clock.now_ms()
    public_key = room.enclave_key.public_key().public_bytes_raw()

    def bound(nonce: bytes) -> bytes:
        return binding_hash(nonce, CONTRACT, public_key)

    lies = {
        "measurement": lambda n: dev_sim.make_evidence(bytes(reversed(CODE)), bound(n), at_ms),
        "debug_off": lambda n: dev_sim.make_evidence(CODE, bound(n), at_ms, debug=True),
        "chain": lambda n: dev_sim.make_evidence(CODE, bound(n), at_ms, root=Ed25519PrivateKey.generate()),
        "binding": lambda n: dev_sim.make_evidence(CODE, bound(bytes(32)), at_ms),
        "freshness": lambda n: dev_sim.make_evidence(CODE, bound(n), at_ms - 6 * 60_000),
        "validity": lambda n: dev_sim.make_evidence(CODE, bound(n), at_ms - 4 * 3_600_000),
    }
    for check, lie in lies.items():
        nonce = room.client.nonce()
        with pytest.raises(EvidenceRefusedError) as refused:
            room.client.release(room.request(nonce, evidence=lie(nonce)))
        assert check in refused.value.failed


def test_another_key_than_the_attested_one_is_refused(room: Room) -> None:
    nonce = room.client.nonce()
    stranger = X25519PrivateKey.generate().public_key().public_bytes_raw()

    with pytest.raises(EvidenceRefusedError) as refused:
        room.client.release(room.request(nonce, public_key=stranger))
    assert "binding" in refused.value.failed


def test_development_evidence_is_refused_unless_the_contract_allows_it(room: Room) -> None:
    room.terms = terms(allow_dev=False)

    with pytest.raises(EvidenceRefusedError) as refused:
        room.client.release(room.request(room.client.nonce()))
    assert refused.value.failed == ("development",)


def test_an_unusable_public_key_is_refused_not_crashed_on(room: Room) -> None:
    nonce = room.client.nonce()
    low_order = bytes(32)
    evidence = dev_sim.make_evidence(CODE, binding_hash(nonce, CONTRACT, low_order), room.clock.now_ms())

    with pytest.raises(KeyRequestError):
        room.client.release(room.request(nonce, public_key=low_order, evidence=evidence))


def test_used_nonces_are_remembered_by_a_new_broker_on_the_same_file(room: Room, tmp_path: Path) -> None:
    nonce = room.client.nonce()
    room.client.release(room.request(nonce))
    reopened = BrokerStore(tmp_path / "broker.sqlite")
    broker = KeyBroker(PartyName("publisher"), reopened, lambda _: room.terms, data_key, clock=room.clock)

    with pytest.raises(ReplayedNonceError):
        broker.release(room.request(nonce))
    assert [entry.kind for entry in broker.log()] == ["granted", "refused"]
    reopened.close()


def test_a_broker_that_is_gone_is_unavailable(tmp_path: Path) -> None:
    with BrokerClient(f"unix:{tmp_path / 'nobody.sock'}") as client, pytest.raises(BrokerUnavailableError):
        client.nonce()


FIRST, SECOND = CounterValue(3, "3" * 64), CounterValue(5, "5" * 64)


def test_a_broker_takes_the_first_ledger_it_is_told_of_and_then_only_what_goes_on_from_it(room: Room) -> None:
    assert room.client.challenge()[1] is None
    room.client.release(room.claiming(LedgerClaim(FIRST, NO_ENTRIES, NO_ENTRIES.newest_hash)))
    assert room.client.challenge()[1] == FIRST
    room.client.release(room.claiming(LedgerClaim(FIRST, FIRST, FIRST.newest_hash)))
    room.client.settled(room.settling(LedgerClaim(SECOND, FIRST, FIRST.newest_hash)))
    assert room.client.challenge()[1] == SECOND

    for claim in (
        LedgerClaim(FIRST, SECOND, None),
        LedgerClaim(NO_ENTRIES, SECOND, None),
        LedgerClaim(CounterValue(9, "9" * 64), SECOND, "8" * 64),
        LedgerClaim(CounterValue(4, "4" * 64), SECOND, SECOND.newest_hash),
    ):
        with pytest.raises(LedgerNotContinuedError, match="does not go on from the 5"):
            room.client.release(room.claiming(claim))
        with pytest.raises(LedgerNotContinuedError):
            room.client.settled(room.settling(claim))
    with pytest.raises(LedgerNotContinuedError, match="says nothing"):
        room.client.release(room.request(room.client.nonce()))
    assert room.client.challenge()[1] == SECOND
    kinds = [entry.kind for entry in room.client.log()]
    assert kinds == ["granted", "granted", "settled", *["refused"] * 9]


def test_an_answer_to_an_older_head_is_told_to_ask_again(room: Room) -> None:
    """Nonces saved up before another enclave settled do not bring the older ledger back."""
    saved = room.claiming(LedgerClaim(FIRST, NO_ENTRIES, NO_ENTRIES.newest_hash))
    forked = room.claiming(LedgerClaim(CounterValue(4, "4" * 64), NO_ENTRIES, NO_ENTRIES.newest_hash))
    room.client.release(saved)

    with pytest.raises(LedgerMovedError):
        room.client.release(forked)
    assert room.client.challenge()[1] == FIRST


def test_what_an_enclave_says_of_its_ledger_cannot_be_changed_on_the_way(room: Room) -> None:
    """Whoever runs an enclave on a forged ledger holds the true one, too, and would like to show that."""
    honest = LedgerClaim(SECOND, NO_ENTRIES, NO_ENTRIES.newest_hash)
    forged = room.claiming(LedgerClaim(FIRST, NO_ENTRIES, NO_ENTRIES.newest_hash))
    for changed in (honest, None):
        with pytest.raises(EvidenceRefusedError, match="binding"):
            room.client.release(replace(forged, ledger=changed, nonce=forged.nonce))
        forged = room.claiming(LedgerClaim(FIRST, NO_ENTRIES, NO_ENTRIES.newest_hash))
    with pytest.raises(EvidenceRefusedError, match="binding"):
        room.client.settled(replace(room.settling(honest), ledger=LedgerClaim(FIRST, NO_ENTRIES, None)))
    assert room.client.challenge()[1] is None
