"""Verification tokens and enrolment files under generated input: what was written, or the one documented error."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from adyton.device.auction import context_from_bytes, context_to_bytes
from adyton.device.delegation import Grant, open_token, sign_token
from adyton.device.enrolment import Enrolment, parse_enrolment
from adyton.device.errors import DelegationError, DeviceStoreError, EnrolmentFileError
from adyton.protocol.hpke import public_of
from adyton.protocol.ohttp import ClientContext, Label

SIGNER = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
VERIFIER = SIGNER.public_key().public_bytes_raw()
names = st.text(min_size=1, max_size=12)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**40) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def encoded(*parts: bytes) -> str:
    return ".".join(base64.urlsafe_b64encode(part).decode() for part in parts)


@given(names, names, names, st.integers(0, 2**50), st.integers(0, 2**11), st.integers(1, 255))
def test_a_token_says_what_was_signed_and_any_change_is_refused(
    ad_tech: str, partner: str, package: str, not_after_ms: int, place: int, change: int
) -> None:
    grant = Grant(ad_tech, partner, package, not_after_ms)
    token = sign_token(grant, bytes(range(32)))
    claims, signature = (base64.urlsafe_b64decode(part) for part in token.split("."))

    assert open_token(token, VERIFIER) == grant
    whole = bytearray(claims + signature)
    whole[place % len(whole)] ^= change
    for bad in (
        encoded(whole[: len(claims)], whole[len(claims) :]),
        encoded(claims),
        encoded(claims, b""),
        token + ".",
    ):
        with pytest.raises(DelegationError):
            open_token(bad, VERIFIER)


@given(st.text(max_size=60) | st.tuples(st.binary(max_size=40), st.binary(max_size=70)).map(lambda p: encoded(*p)))
def test_any_text_is_no_token(text: str) -> None:
    with pytest.raises(DelegationError):
        open_token(text, VERIFIER)


@given(json_values | st.fixed_dictionaries({"ad_tech": json_values, "partner": names, "package": names}))
def test_signed_claims_of_another_form_are_refused(claims: Any) -> None:
    text = json.dumps(claims).encode()

    with pytest.raises(DelegationError):
        open_token(encoded(text, SIGNER.sign(text)), VERIFIER)


ad_techs = st.fixed_dictionaries(
    {"domain": names | json_values},
    optional={"protected_signals": st.booleans() | json_values, "verification_key": st.text(max_size=50) | json_values},
)
apps = st.fixed_dictionaries({"package": names | json_values}, optional={"uid": json_values, "ad_techs": json_values})


@given(
    st.binary(max_size=60)
    | st.fixed_dictionaries(
        {"ad_techs": st.lists(ad_techs, max_size=3)}, optional={"apps": st.lists(apps, max_size=2), "x": json_values}
    ).map(lambda tree: json.dumps(tree).encode())
)
@settings(max_examples=200)
def test_any_bytes_are_a_registry_or_the_documented_error(text: bytes) -> None:
    with contextlib.suppress(EnrolmentFileError):
        assert isinstance(parse_enrolment(text), Enrolment)


@given(st.sampled_from(Label), st.binary(min_size=32, max_size=32), st.text(max_size=20), st.binary(max_size=60))
def test_a_kept_context_is_read_back_and_anything_else_is_refused(
    label: Label, secret: bytes, seller: str, junk: bytes
) -> None:
    context = ClientContext(label, public_of(bytes(31) + b"\x01"), secret)

    assert context_from_bytes(context_to_bytes(context, seller)) == (context, seller)
    with pytest.raises(DeviceStoreError):
        context_from_bytes(junk)
