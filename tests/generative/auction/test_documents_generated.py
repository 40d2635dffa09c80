"""Documents of keys, models and lookups, spoiled in one place or replaced by any bytes: a value, or the one error.

What a document holds is secret in most of these, so no error may quote it either.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adyton.auction.errors import ConfigError, DownstreamError, RequestError
from adyton.auction.inference.errors import ModelListError
from adyton.auction.inference.model_list import parse_model_list
from adyton.auction.keys.attestation import (
    SCHEME,
    Admission,
    Proof,
    challenge_from_bytes,
    proof_from_header,
    proof_to_header,
)
from adyton.auction.keys.errors import KeyServiceAnswerError, KeyServiceRequestError, NotAttestedError
from adyton.auction.keys.exchange import open_share, seal_share
from adyton.auction.keys.rotation import KeyShare, KeyType, RotationPolicy, make_shares
from adyton.auction.keys.store import share_from_json, share_to_json
from adyton.auction.keys.tink import key_of_keyset, private_keyset
from adyton.auction.keys.wire import keys_to_json, shares_from_bytes
from adyton.auction.kv_messages import scoring_signals_of_reply
from adyton.auction.seller.scoring import read_scoring_signals
from adyton.auction.services.key_source import parse_private_keys
from adyton.auction.services.kv_wire import frame_response, unframe_response
from adyton.auction.split_keys import join_shares, split_key
from adyton.kernel.chance import InsecureFixedRandom
from adyton.kernel.errors import AdytonError
from adyton.protocol.keys import PrivateKey
from adyton.protocol.messages import kv_server_v2_pb2 as kv

SECRET = bytes(range(32, 64))
HOUR_MS = 3_600_000
SHARE: KeyShare = make_shares(
    (),
    RotationPolicy(n_published=1, publish_ms=HOUR_MS, grace_ms=HOUR_MS, list_age_ms=HOUR_MS),
    0,
    key_type=KeyType.SPLIT,
    source=InsecureFixedRandom(1),
)[1]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64) | st.floats(allow_nan=False) | st.text(max_size=8)
    | st.binary(max_size=40).map(lambda data: base64.b64encode(data).decode()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def places(tree: Any) -> list[tuple[Any, ...]]:
    """The path of every value inside a JSON document, its own first."""
    found: list[tuple[Any, ...]] = [()]
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        found += [(key, *rest) for rest in places(value)]
    return found


@st.composite
def spoiled(draw: st.DrawFn, document: Any) -> bytes:
    """`document` with one value replaced or gone, or any bytes instead."""
    if draw(st.integers(0, 4)) == 0:
        return draw(st.binary(max_size=60))
    tree = copy.deepcopy(document)
    *path, last = draw(st.sampled_from(places(tree)[1:]))
    parent = tree
    for step in path:
        parent = parent[step]
    if draw(st.booleans()):
        parent[last] = draw(json_values)
    else:
        del parent[last]
    return json.dumps(tree).encode()


CHALLENGE = {"nonce": "AAAA", "policy": "p"}
KEY_FILE = {"keys": [{"id": "4000000000000000", "private": base64.b64encode(SECRET).decode()}]}
MODELS = {"model_metadata": [{"model_path": "m/", "checksum": "ab", "eviction_grace_period_in_ms": 5}]}
ADMISSION = Admission(SECRET, b"grant")
ANSWER = keys_to_json([SHARE], ADMISSION, encryption_uri="adyton-broker://a", source=InsecureFixedRandom(2))
PARSERS: list[tuple[Any, Callable[[bytes], object], type[AdytonError]]] = [
    (CHALLENGE, challenge_from_bytes, KeyServiceAnswerError),
    (KEY_FILE, parse_private_keys, ConfigError),
    (MODELS, parse_model_list, ModelListError),
    (ANSWER, lambda body: shares_from_bytes(body, SECRET), KeyServiceAnswerError),
]


@pytest.mark.parametrize(("document", "parse", "error"), PARSERS)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_a_spoiled_document_is_a_value_or_the_documented_error(
    document: Any, parse: Callable[[bytes], object], error: type[AdytonError], data: st.DataObject
) -> None:
    assert parse(json.dumps(document).encode())
    told = ""
    try:
        parse(data.draw(spoiled(document)))
    except error as caught:
        told = str(caught)
    assert not any(base64.b64encode(secret).decode()[:20] in told for secret in (SECRET, SHARE.material))


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_spoiled_proof_is_a_proof_or_one_of_two_errors(data: st.DataObject) -> None:
    proof = Proof("dev-sim", b"evidence", bytes(32), bytes(range(32)), (b"certificate",))
    document = json.loads(base64.b64decode(proof_to_header(proof).removeprefix(f"{SCHEME} ")))
    body = data.draw(spoiled(document))

    assert proof_from_header(proof_to_header(proof)) == proof
    for header in (f"{SCHEME} {base64.b64encode(body).decode()}", body.decode("latin-1")):
        with contextlib.suppress(KeyServiceRequestError, NotAttestedError):
            assert isinstance(proof_from_header(header), Proof)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_share_is_what_was_stored_or_refused(data: st.DataObject) -> None:
    document = share_to_json(SHARE)

    assert share_from_json(document) == SHARE
    with contextlib.suppress(ValueError, KeyError, TypeError):
        tree = json.loads(data.draw(spoiled(document)))
        if isinstance(tree, dict):
            assert isinstance(share_from_json(tree), KeyShare)


@given(st.binary(max_size=200), st.binary(min_size=1, max_size=100), st.integers(0, 2**60))
def test_what_one_coordinator_seals_the_other_opens_and_nothing_else(body: bytes, material: bytes, at_ms: int) -> None:
    share = replace(SHARE, material=material, created_at_ms=at_ms)

    assert open_share(seal_share(share, SECRET, InsecureFixedRandom(at_ms)), SECRET) == share
    with pytest.raises(KeyServiceRequestError):
        open_share(body, SECRET)


@given(st.binary(min_size=32, max_size=32), st.integers(0, 255), st.data())
@settings(max_examples=100, deadline=None)
def test_a_keyset_gives_its_key_and_any_change_a_key_or_the_documented_error(
    private: bytes, key_id: int, data: st.DataObject
) -> None:
    key = PrivateKey.from_private(key_id, private)
    keyset = private_keyset(key)
    first, second = split_key(keyset, InsecureFixedRandom(key_id))

    assert key_of_keyset(join_shares(first, second), key_id=key_id) == key
    place = data.draw(st.integers(0, len(keyset) - 1))
    changed = keyset[:place] + bytes([data.draw(st.integers(0, 255))]) + keyset[place + 1 :]
    for body in (changed, keyset[:place], data.draw(st.binary(max_size=120)), first):
        with contextlib.suppress(KeyServiceAnswerError):
            assert isinstance(key_of_keyset(body, key_id=key_id), PrivateKey)


@given(
    json_values | st.lists(st.fixed_dictionaries({"keyGroupOutputs": json_values}), max_size=2), st.binary(max_size=40)
)
@settings(max_examples=200)
def test_any_reply_of_a_key_value_service_is_scoring_signals_or_the_documented_error(value: Any, junk: bytes) -> None:
    for content in (json.dumps(value).encode(), junk):
        response = kv.GetValuesResponse()
        response.compression_groups.add(compression_group_id=0, content=content)
        with contextlib.suppress(DownstreamError):
            text = scoring_signals_of_reply(response)
            assert text == "" or json.loads(text)["renderUrls"]


@given(json_values | st.fixed_dictionaries({"renderUrls": json_values}), st.text(max_size=40))
def test_any_scoring_signals_are_read_or_refused(value: Any, junk: str) -> None:
    for text in (json.dumps(value), junk):
        with contextlib.suppress(RequestError):
            assert isinstance(read_scoring_signals(text), dict | None)


@given(st.binary(max_size=80), st.text(max_size=40))
def test_a_framed_answer_is_read_back_and_any_bytes_are_an_answer_or_the_documented_error(
    junk: bytes, ads: str
) -> None:
    response = kv.GetValuesResponse()
    response.single_partition.string_output = ads

    assert unframe_response(frame_response(response, "message/ad-auction-trusted-signals-request+proto")) == response
    with contextlib.suppress(RequestError):
        assert isinstance(unframe_response(junk), kv.GetValuesResponse)
