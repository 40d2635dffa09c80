"""Edges of the auction's processes under generated input: a value, or the one documented error, and nothing else."""

from __future__ import annotations

import contextlib
import json
import string
import xml.etree.ElementTree as ElementTree

import cbor2
from hypothesis import given, settings
from hypothesis import strategies as st

from adyton.auction.environment import config_from_environment
from adyton.auction.errors import CodeFetchError, ConfigError, DownstreamError
from adyton.auction.kv_cbor import print_cbor_response
from adyton.auction.services.buckets import parse_listing
from adyton.auction.services.untrusted_key_value import values_of_answer
from adyton.protocol.messages import kv_server_v2_pb2 as kv

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
names = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff"), max_size=20
)


@given(st.lists(names, max_size=5), st.text(string.ascii_letters, max_size=8))
def test_a_listing_gives_its_keys_and_the_next_page(keys: list[str], token: str) -> None:
    root = ElementTree.Element("ListBucketResult", xmlns="http://s3.amazonaws.com/doc/2006-03-01/")
    for key in keys:
        ElementTree.SubElement(ElementTree.SubElement(root, "Contents"), "Key").text = key
    ElementTree.SubElement(root, "IsTruncated").text = "true" if token else "false"
    if token:
        ElementTree.SubElement(root, "NextContinuationToken").text = token

    assert parse_listing(ElementTree.tostring(root), "a bucket") == (keys, token)


@given(st.binary(max_size=200) | st.text(alphabet="<>/ListBucketResultContentsKey!&;", max_size=80).map(str.encode))
@settings(max_examples=200)
def test_any_bytes_are_a_listing_or_the_documented_error(text: bytes) -> None:
    with contextlib.suppress(CodeFetchError):
        parse_listing(text, "a bucket")


@given(st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_answer_of_an_untrusted_server_is_values_or_the_documented_error(body: bytes) -> None:
    with contextlib.suppress(DownstreamError):
        values_of_answer(body)


outputs = st.fixed_dictionaries(
    {"id": st.integers(0, 1000)},
    optional={
        "keyGroupOutputs": json_values
        | st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "tags": json_values | st.lists(st.text(max_size=4), max_size=2),
                    "keyValues": json_values
                    | st.dictionaries(st.text(max_size=4), st.fixed_dictionaries({"value": json_values}), max_size=3),
                },
            ),
            max_size=3,
        ),
        "more": json_values,
    },
)


@given(st.lists(outputs, max_size=3))
@settings(max_examples=200)
def test_whatever_scripts_return_the_cbor_answer_has_the_documented_members_only(
    found: list[dict[str, object]],
) -> None:
    response = kv.GetValuesResponse()
    response.compression_groups.add(compression_group_id=2, content=json.dumps(found).encode())

    (group,) = cbor2.loads(print_cbor_response(response))["compressionGroups"]
    printed = cbor2.loads(group["content"])
    assert [set(output) for output in printed] == [{"id", "keyGroupOutputs"}] * len(found)
    assert [output["id"] for output in printed] == [output["id"] for output in found]
    for output in printed:
        for key_group in output["keyGroupOutputs"]:
            assert set(key_group) == {"tags", "keyValues"}
            assert key_group["keyValues"]
            assert all(
                set(value) == {"value"} and type(value["value"]) is str for value in key_group["keyValues"].values()
            )


VARIABLES = (
    "TEST_MODE", "SELLER_ORIGIN_DOMAIN", "BUYER_SERVER_HOSTS", "SELLER_CODE_FETCH_CONFIG", "BUYER_CODE_FETCH_CONFIG",
    "EGRESS_SCHEMA_FETCH_CONFIG", "AUCTION_SERVER_HOST", "BIDDING_SERVER_ADDR", "TEE_KV_SERVER_ADDR", "ROMA_TIMEOUT_MS",
    "SELLER_FRONTEND_PORT", "AUCTION_PORT", "BUYER_FRONTEND_PORT", "BIDDING_PORT", "limited_egress_bits",
    "SCORING_SIGNALS_FETCH_MODE", "PUBLIC_KEY_ENDPOINT", "ADYTON_SNAPSHOT_FOLDER", "INFERENCE_MODEL_BUCKET_NAME",
    "KEY_VALUE_SIGNALS_HOST", "PRIVATE_KEY_CACHE_TTL_SECONDS", "INFERENCE_SIDECAR_RUNTIME_CONFIG",
)  # fmt: skip
texts = (
    st.text(max_size=12)
    | st.sampled_from(["true", "1", "", "REQUIRED", "https://x", "-5", "99999999999999999999"])
    | st.dictionaries(
        st.sampled_from(
            [
                "fetchMode",
                "auctionJsUrl",
                "protectedAppSignalsBiddingJsUrl",
                "auctionJsBucket",
                "urlFetchPeriodMs",
                "num_intraop_threads",
                "enableReportWinUrlGeneration",
                "b",
            ]
        ),
        json_values,
        max_size=3,
    ).map(json.dumps)
)


@given(st.dictionaries(st.sampled_from(VARIABLES), texts, max_size=8))
@settings(max_examples=300)
def test_any_environment_is_a_configuration_or_the_documented_error(environ: dict[str, str]) -> None:
    with contextlib.suppress(ConfigError):
        config_from_environment(environ)
