"""Coordinators over real sockets: who gets a private key and who does not, and services that live on their keys."""

from __future__ import annotations

import asyncio
import base64
import email.utils
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import httpx
import pytest

from adyton.auction.config import parse_config
from adyton.auction.errors import ConfigError
from adyton.auction.keys.attestation import challenge_from_bytes, proof_to_header
from adyton.auction.keys.client import fetch_private_keys
from adyton.auction.keys.errors import KeyServiceAnswerError, KeyServiceDownError
from adyton.auction.keys.rotation import RotationPolicy
from adyton.auction.keys.service import Coordinator, SecondCoordinator, running_key_service
from adyton.auction.keys.store import KeyStore
from adyton.auction.keys.wire import CHALLENGE_PATH, PRIVATE_PATH, PUBLIC_PATH
from adyton.auction.services.process import PartyProcess
from adyton.cleanroom.attestation.expected import Expected
from adyton.cleanroom.attestation.tpm_tools import tools_are_installed
from adyton.cleanroom.broker_store import BrokerStore
from adyton.cleanroom.key_exchange import DevelopmentEvidence
from adyton.cleanroom.tpm_folder import make_tpm_folder
from adyton.flywheel.key_service import (
    BrokerGate,
    EvidenceCaller,
    ReleasePolicy,
    auction_measurement,
    software_tpm_caller,
    software_tpm_measurement,
)
from adyton.kernel.clock import ManualClock
from adyton.kernel.ids import PartyName
from adyton.protocol.keys import PublicKey, parse_public_key_list
from adyton.protocol.messages import bidding_auction_servers_pb2_grpc as ba_grpc
from adyton.protocol.ohttp import Label, encapsulate_request

HOUR_MS = 3_600_000
POLICY = RotationPolicy(n_published=2, publish_ms=10 * HOUR_MS, grace_ms=4 * HOUR_MS, list_age_ms=4 * HOUR_MS)
START_MS = 1_763_838_462_000
EXCHANGE_KEY = bytes(range(32))
ALLOWED = ReleasePolicy(frozenset({auction_measurement().hex()}), allow_dev=True)


@dataclass
class Service:
    url: str
    gate: BrokerGate
    coordinator: Coordinator


@asynccontextmanager
async def service(
    folder: Path,
    clock: ManualClock,
    name: str = "coordinator",
    *,
    policy: ReleasePolicy = ALLOWED,
    second: str | None = None,
    takes_shares: bool = False,
) -> AsyncIterator[Service]:
    memory = BrokerStore(folder / f"{name}.sqlite")
    gate = BrokerGate(PartyName(name), policy, memory, clock=clock)
    coordinator = Coordinator(
        KeyStore(folder / f"{name}.json"),
        gate,
        policy=POLICY,
        second=SecondCoordinator(second, EXCHANGE_KEY) if second is not None else None,
        takes_shares_with=EXCHANGE_KEY if takes_shares else None,
        clock=clock,
    )
    try:
        async with running_key_service(coordinator) as url:
            yield Service(url, gate, coordinator)
    finally:
        memory.close()


def caller(clock: ManualClock, measurement: bytes | None = None) -> EvidenceCaller:
    return EvidenceCaller(DevelopmentEvidence(measurement or auction_measurement()), clock=clock)


def test_the_public_list_is_for_everybody_and_says_how_long_it_may_be_kept(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock(START_MS)
        async with service(tmp_path, clock) as running, httpx.AsyncClient() as client:
            response = await client.get(running.url + PUBLIC_PATH)
            keys = parse_public_key_list(response.content)
            assert len(keys) == POLICY.n_published
            assert response.headers.get_list("date") == [email.utils.formatdate(START_MS / 1000, usegmt=True)]
            assert response.headers["cache-control"] == f"max-age={POLICY.list_age_ms // 1000}"
            assert "material" not in response.text

            clock.advance_ms(9 * HOUR_MS)
            assert await running.coordinator.rotate() == POLICY.n_published
            assert await running.coordinator.rotate() == 0
            later = parse_public_key_list((await client.get(running.url + PUBLIC_PATH)).content)
            assert set(keys) < set(later)
            clock.advance_ms(2 * HOUR_MS)
            last = parse_public_key_list((await client.get(running.url + PUBLIC_PATH)).content)
            assert set(last) == set(later) - set(keys)

    asyncio.run(scenario())


def test_keys_go_to_attested_callers_and_every_release_is_in_the_brokers_log(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock(START_MS)
        async with service(tmp_path, clock) as running:
            keys = await fetch_private_keys([running.url], caller(clock), max_age_s=3600)
            async with httpx.AsyncClient() as client:
                public = parse_public_key_list((await client.get(running.url + PUBLIC_PATH)).content)
            assert {key.public_key for key in keys} == set(public)
            clock.advance_ms(2 * HOUR_MS)
            assert await fetch_private_keys([running.url], caller(clock), max_age_s=3600) == ()
            assert [entry.kind for entry in running.gate.broker.log()] == ["granted", "granted"]
        stored = b"".join(path.read_bytes() for path in tmp_path.glob("coordinator.sqlite*"))
        for key in keys:
            assert key.private not in stored
            assert key.private.hex().encode() not in stored

    asyncio.run(scenario())


def test_without_good_evidence_nothing_is_released(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock(START_MS)
        async with service(tmp_path, clock) as running, httpx.AsyncClient(base_url=running.url) as client:
            path = f"{PRIVATE_PATH}:recent?maxAgeSeconds=1000"

            async def ask(header: str | None, where: str = path) -> tuple[int, str]:
                headers = {} if header is None else {"Authorization": header}
                response = await client.get(where, headers=headers)
                assert "keyMaterial" not in response.text or response.status_code == 200
                return response.status_code, response.json().get("error", "")

            async def challenge() -> object:
                return challenge_from_bytes((await client.post(CHALLENGE_PATH)).content)

            assert await ask(None) == (401, "NotAttestedError")
            assert await ask(None, f"{PRIVATE_PATH}/0011223344556677") == (401, "NotAttestedError")
            assert await ask("Adyton-Evidence AAAA") == (400, "KeyServiceRequestError")

            good = proof_to_header(caller(clock).prove(await challenge()))
            assert (await ask(good))[0] == 200
            assert await ask(good) == (403, "ReplayedNonceError")
            stale = proof_to_header(caller(clock).prove(await challenge()))
            clock.advance_ms(10 * 60_000)
            assert await ask(stale) == (403, "StaleNonceError")
            other_code = caller(clock, bytes(31) + b"\1").prove(await challenge())
            assert await ask(proof_to_header(other_code)) == (403, "EvidenceRefusedError")
            mine, theirs = caller(clock).prove(await challenge()), caller(clock).prove(await challenge())
            swapped = type(mine)(mine.platform, mine.evidence, mine.nonce, theirs.public_key)
            assert await ask(proof_to_header(swapped)) == (403, "EvidenceRefusedError")
            unknown = proof_to_header(caller(clock).prove(await challenge()))
            assert (await ask(unknown, f"{PRIVATE_PATH}/0011223344556677"))[0] == 404
            assert (await ask(None, f"{PRIVATE_PATH}:recent?maxAgeSeconds=x"))[0] == 400
            kinds = [entry.kind for entry in running.gate.broker.log()]
            assert kinds == ["granted", "refused", "refused", "refused", "refused", "granted"]

    asyncio.run(scenario())


def test_development_evidence_is_refused_unless_the_policy_allows_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock(START_MS)
        strict = ReleasePolicy(ALLOWED.measurements)
        async with service(tmp_path, clock, policy=strict) as running:
            with pytest.raises(KeyServiceAnswerError, match="development"):
                await fetch_private_keys([running.url], caller(clock), max_age_s=3600)

    asyncio.run(scenario())


def test_two_coordinators_hold_halves_and_only_together_a_key(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock(START_MS)
        async with service(tmp_path, clock, "second", takes_shares=True) as second:
            async with service(tmp_path, clock, "first", second=second.url) as first:
                keys = await fetch_private_keys([first.url, second.url], caller(clock), max_age_s=3600)
                again = await fetch_private_keys([second.url, first.url], caller(clock), max_age_s=3600)
                assert set(keys) == set(again)
                assert len(keys) == POLICY.n_published
                for alone in (first, second):
                    assert await fetch_private_keys([alone.url], caller(clock), max_age_s=3600) == ()
                with pytest.raises(KeyServiceAnswerError, match="same share"):
                    await fetch_private_keys([first.url, first.url], caller(clock), max_age_s=3600)
                stores = [(tmp_path / f"{name}.json").read_text() for name in ("first", "second")]
                for key in keys:
                    needle = base64.b64encode(key.private).decode()[:40]
                    assert not any(needle in text for text in stores)
                async with httpx.AsyncClient() as client:
                    assert (await client.post(first.url + "/v1/shares", content=b"x")).status_code == 401
                    assert (await client.post(second.url + "/v1/shares", content=b"x")).status_code == 400
            n_before = len(json.loads((tmp_path / "first.json").read_text())["keys"])
        clock.advance_ms(9 * HOUR_MS)
        with pytest.raises(KeyServiceDownError):
            async with service(tmp_path, clock, "first", second=second.url):
                pass
        assert len(json.loads((tmp_path / "first.json").read_text())["keys"]) == n_before, "nothing without the other"

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_service_lives_on_keys_of_two_coordinators_and_follows_their_rotation(
    tmp_path: Path, parts: ModuleType
) -> None:
    async def scenario() -> None:
        clock = ManualClock(START_MS)
        parts.write_files(tmp_path)
        async with (
            service(tmp_path, clock, "second", takes_shares=True) as second,
            service(tmp_path, clock, "first", second=second.url) as first,
        ):
            document = parts.seller_document(tmp_path, {})
            document["test_mode"] = False
            document["keys"] = {
                "coordinators": [first.url, second.url],
                "public_keys": first.url + PUBLIC_PATH,
                "refresh_period_ms": 100,
            }
            with pytest.raises(ConfigError, match="attested"):
                async with PartyProcess(parse_config(document)):
                    pass
            async with (
                PartyProcess(parse_config(document), caller=caller(clock)) as seller,
                grpc.aio.insecure_channel(seller.addresses.grpc) as channel,
                httpx.AsyncClient() as client,
            ):
                stub = ba_grpc.SellerFrontEndStub(channel)

                async def ask(key: object) -> bool:
                    message = parts.client_input({parts.BUYERS[0]: b"\x07"}).SerializeToString()
                    frame = b"\x02" + parts.encode_client_frame(message, size=1024)[1:]
                    ciphertext, context = encapsulate_request(key, frame, Label.SFE_CURRENT)
                    try:
                        reply = await stub.SelectAd(parts.select_ad_request(ciphertext), timeout=20)
                    except grpc.aio.AioRpcError:  # the key is not here yet
                        return False
                    return bool(parts.decrypt(reply, context).is_chaff)

                keys = parse_public_key_list((await client.get(first.url + PUBLIC_PATH)).content)
                assert [await ask(key) for key in keys] == [True, True]
                clock.advance_ms(11 * HOUR_MS)
                await first.coordinator.rotate()
                fresh = parse_public_key_list((await client.get(first.url + PUBLIC_PATH)).content)
                assert not set(fresh) & set(keys)
                for _ in range(200):
                    if await ask(fresh[0]):
                        break
                    await asyncio.sleep(0.05)
                assert [await ask(key) for key in (*fresh, *keys)] == [True] * 4, "old keys still open requests"

    asyncio.run(scenario())


RUN = "import sys; from adyton.cli.auction import auction; auction(sys.argv[1:])"


@pytest.mark.slow
def test_coordinators_and_a_service_as_commands(tmp_path: Path, parts: ModuleType) -> None:
    started: list[subprocess.Popen[str]] = []

    def command(*arguments: str) -> dict[str, Any]:
        process = subprocess.Popen([sys.executable, "-c", RUN, *arguments], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line
        return dict(json.loads(line))

    def run(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", RUN, *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    async def ask(address: str, key: PublicKey) -> bool:
        message = parts.client_input({parts.BUYERS[0]: b"\x07"}).SerializeToString()
        frame = b"\x02" + parts.encode_client_frame(message, size=1024)[1:]
        ciphertext, context = encapsulate_request(key, frame, Label.SFE_CURRENT)
        async with grpc.aio.insecure_channel(address) as channel:
            reply = await ba_grpc.SellerFrontEndStub(channel).SelectAd(parts.select_ad_request(ciphertext), timeout=20)
        return bool(parts.decrypt(reply, context).is_chaff)

    secret = str(tmp_path / "exchange")
    run("keys", "exchange-key", secret)
    measurement = run("keys", "measure")
    common = ("--measurement", measurement, "--allow-dev", "--exchange-key", secret, "--listen", "127.0.0.1:0")

    def coordinator(name: str, *more: str) -> dict[str, Any]:
        stores = ("--store", str(tmp_path / f"{name}.json"), "--broker-store", str(tmp_path / f"{name}.sqlite"))
        return command("keys", "serve", "--name", name, *stores, *common, *more)

    try:
        second = coordinator("second", "--take-shares")
        first = coordinator("first", "--share-with", second["http"])
        parts.write_files(tmp_path)
        document = parts.seller_document(tmp_path, {})
        document["test_mode"] = False
        document["keys"] = {"coordinators": [first["http"], second["http"]], "public_keys": first["public_keys"]}
        (tmp_path / "seller.config.json").write_text(json.dumps(document))
        config = str(tmp_path / "seller.config.json")
        ready = command("serve", "--config", config, "--evidence", "dev-sim")
        keys = parse_public_key_list(httpx.get(first["public_keys"]).content)
        assert asyncio.run(ask(ready["processes"][parts.SELLER]["grpc"], keys[0]))
        refused = subprocess.run(
            [sys.executable, "-c", RUN, "serve", "--config", config], capture_output=True, text=True
        )
        assert refused.returncode != 0
        assert "attested services only" in refused.stderr
    finally:
        for process in started:
            process.terminate()
        codes = [process.wait(timeout=30) for process in started]
        for process in started:
            assert process.stdout is not None
            process.stdout.close()
    assert codes == [0, 0, 0]


@pytest.mark.skipif(not tools_are_installed(), reason="swtpm or tpm2-tools are not installed")
def test_a_software_tpm_proves_the_code_that_was_measured_into_it(tmp_path: Path) -> None:
    anchor = make_tpm_folder(tmp_path / "tpm", tmp_path / "counter")
    clock = ManualClock(START_MS)
    allowed = ReleasePolicy(frozenset({software_tpm_measurement().hex()}), allow_dev=True)
    others = ReleasePolicy(frozenset({auction_measurement().hex()}), allow_dev=True)

    async def scenario(caller: EvidenceCaller) -> None:
        for policy, anchors, is_released in (
            (allowed, (anchor.read_bytes(),), True),
            (allowed, (), False),
            (others, (anchor.read_bytes(),), False),
        ):
            folder = tmp_path / str(len(list(tmp_path.iterdir())))
            folder.mkdir()
            memory = BrokerStore(folder / "broker.sqlite")
            gate = BrokerGate(
                PartyName("c"), policy, memory, clock=clock, reference=Expected(at_ms=0, trust_anchors=anchors)
            )
            coordinator = Coordinator(KeyStore(folder / "keys.json"), gate, policy=POLICY, clock=clock)
            async with running_key_service(coordinator) as url:
                if is_released:
                    assert len(await fetch_private_keys([url], caller, max_age_s=10_000)) == 2
                else:
                    with pytest.raises(KeyServiceAnswerError, match="403"):
                        await fetch_private_keys([url], caller, max_age_s=10_000)
            memory.close()

    with software_tpm_caller(tmp_path / "tpm") as caller:
        asyncio.run(scenario(caller))
