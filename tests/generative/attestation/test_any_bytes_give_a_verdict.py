"""Never a crash: whatever the bytes, the answer is a verdict, and it does not hold."""

from __future__ import annotations

import base64
import contextlib
import json
from dataclasses import replace
from pathlib import Path

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adyton.cleanroom.attestation import dev_sim
from adyton.cleanroom.attestation.checks import Platform
from adyton.cleanroom.attestation.document_time import document_time_ms
from adyton.cleanroom.attestation.errors import EvidenceFormatError
from adyton.cleanroom.attestation.expected import Expected
from adyton.cleanroom.attestation.verify import verify

DATA = Path(__file__).parents[2] / "vectors" / "attestation" / "data"
VCEK = (DATA / "snp-vcek.der").read_bytes()
ANCHOR = json.dumps({"keys": [{"kty": "RSA", "kid": "k", "n": "AQAB", "e": "AQAB"}]}).encode()
SEEDS = {
    Platform.NITRO: (DATA / "nitro-document.bin").read_bytes(),
    Platform.SEV_SNP: (DATA / "snp-report.bin").read_bytes(),
    Platform.TDX: (DATA / "tdx-quote-v4.bin").read_bytes(),
    Platform.SGX: (DATA / "tdx-quote-v4.bin").read_bytes(),
    Platform.TPM: (DATA / "tpm-evidence.json").read_bytes(),
    Platform.DEV_TPM: (DATA / "tpm-evidence.json").read_bytes(),
    Platform.DEV_SIM: dev_sim.make_evidence(bytes(range(32)), b"bound to this", 1_700_000_000_000),
    Platform.CONFIDENTIAL_SPACE: b".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
        for part in ({"alg": "RS256", "kid": "k"}, {"iat": 1, "exp": 2, "eat_nonce": "n"}, "sig")
    ),
}
EXPECTED = Expected(
    at_ms=1_700_000_000_000,
    nonce=b"a nonce that nobody has",
    allowed_measurements=frozenset({"00" * 31 + "01"}),
    allow_dev=True,
    certificates=(VCEK,),
    trust_anchors=(ANCHOR,),
    audience="me",
)
PLATFORMS = st.sampled_from(list(Platform))


def is_refused(platform: Platform, evidence: bytes) -> None:
    verdict = verify(platform, evidence, expected=EXPECTED)
    assert not verdict.holds
    assert not verdict.holds_as_asked
    with contextlib.suppress(EvidenceFormatError):
        document_time_ms(platform, evidence, EXPECTED)


@given(PLATFORMS, st.binary(max_size=2000))
@settings(deadline=None, max_examples=120)
def test_random_bytes(platform: Platform, evidence: bytes) -> None:
    is_refused(platform, evidence)


@given(PLATFORMS, st.lists(st.tuples(st.integers(0, 8000), st.binary(max_size=12)), min_size=1, max_size=6), st.data())
@settings(deadline=None, max_examples=60)
def test_genuine_evidence_with_pieces_written_over_it(
    platform: Platform, edits: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    evidence = bytearray(SEEDS[platform])
    for at, piece in edits:
        at %= len(evidence) + 1
        cut = data.draw(st.integers(0, 12))
        evidence[at : at + cut] = piece
    is_refused(platform, bytes(evidence))


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.binary(max_size=100) | st.text(max_size=20) | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=12) | st.integers(), inner, max_size=5)
    ),
    max_leaves=20,
)
_NITRO_FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "module_id": st.text(max_size=5) | _VALUES,
        "digest": st.just("SHA384") | _VALUES,
        "timestamp": st.integers(1, 1 << 41) | _VALUES,
        "pcrs": st.dictionaries(st.integers(-1, 33), st.binary(min_size=48, max_size=48), min_size=3) | _VALUES,
        "certificate": st.just(VCEK) | _VALUES,
        "cabundle": st.just([VCEK]) | _VALUES,
        "nonce": _VALUES,
    },
)


@given(_NITRO_FIELDS, st.binary(min_size=96, max_size=96))
@settings(deadline=None, max_examples=100)
def test_nitro_documents_with_any_fields(fields: dict[str, object], signature: bytes) -> None:
    try:
        message = cbor2.dumps([cbor2.dumps({1: -35}), {}, cbor2.dumps(fields), signature])
    except (ValueError, cbor2.CBOREncodeError):
        return  # a text or number that CBOR cannot carry
    is_refused(Platform.NITRO, message)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=12), inner, max_size=5),
    max_leaves=20,
)
_CLAIMS = st.fixed_dictionaries(
    {"iat": st.integers(1, 1 << 31), "exp": st.integers(1, 1 << 31)},
    optional={
        "nbf": _JSON,
        "eat_nonce": _JSON,
        "aud": _JSON,
        "dbgstat": _JSON,
        "submods": _JSON
        | st.fixed_dictionaries(
            {"container": st.just({"image_digest": "sha256:" + "ab" * 32})}, optional={"confidential_space": _JSON}
        ),
    },
)
_HEADERS = st.fixed_dictionaries(
    {"alg": st.sampled_from(["RS256", "none", "HS256"]) | _JSON}, optional={"kid": st.just("k") | _JSON, "x5c": _JSON}
)


@given(_HEADERS, _CLAIMS, st.binary(max_size=300))
@settings(deadline=None, max_examples=100)
def test_tokens_with_any_claims(header: dict[str, object], claims: dict[str, object], signature: bytes) -> None:
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    is_refused(Platform.CONFIDENTIAL_SPACE, b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts))


@given(_JSON, st.sampled_from([Platform.TPM, Platform.DEV_TPM, Platform.DEV_SIM]))
@settings(deadline=None, max_examples=60)
def test_json_of_any_shape(value: object, platform: Platform) -> None:
    for evidence in (value, {"tpm_quote": value}, {"certificate": value, "report": value, "signature": value}):
        is_refused(platform, json.dumps(evidence, sort_keys=True, separators=(",", ":")).encode())


@given(st.binary(max_size=400))
@settings(deadline=None, max_examples=60)
def test_certificates_of_any_bytes(data: bytes) -> None:
    for certificate in (data, VCEK[: len(data)] + data + VCEK[2 * len(data) :]):
        expected = replace(
            EXPECTED, certificates=(certificate,), revocation_lists=(data,), trust_anchors=(certificate,)
        )
        for platform in Platform:
            assert not verify(platform, SEEDS[platform], expected=expected).holds


def test_nothing_at_all_is_refused_on_each_platform() -> None:
    for platform in Platform:
        is_refused(platform, b"")


@pytest.mark.parametrize("deep", [b"\x81" * 30_000, b"[" * 8000, b'{"tpm_quote":' * 4000, b"\xd9\xd9\xf7" * 9000])
def test_deep_nesting_is_refused(deep: bytes) -> None:
    for platform in Platform:
        is_refused(platform, deep)
