"""Requests to the key/value service, its replies, its checks, and the encrypted and JSON forms."""

from __future__ import annotations

import json

import pytest

from adyton.auction.errors import DownstreamError, RequestError, UnsupportedError
from adyton.auction.json_values import from_value, to_value
from adyton.auction.kv_messages import (
    CBOR_CONTENT_TYPE,
    JSON_CONTENT_TYPE,
    PROTO_CONTENT_TYPE,
    ads_of_reply,
    check_request,
    execution_metadata,
    lookup_request,
    retrieval_request,
    scoring_request,
    scoring_signals_of_reply,
    udf_arguments,
)
from adyton.auction.services.kv_wire import (
    frame_request,
    frame_response,
    known_content_type,
    parse_json_request,
    print_json_response,
    unframe_request,
    unframe_response,
)
from adyton.protocol.messages import kv_server_v2_pb2 as kv


def test_retrieval_request_has_four_untagged_arguments() -> None:
    request = retrieval_request(
        prepared=b'{"ad_id1":1}', device_metadata={"X-BnA-Client-IP": "1.2.3.4"}, buyer_signals="{}", ad_render_ids=()
    )
    hybrid = retrieval_request(prepared=b"1", device_metadata={}, buyer_signals="", ad_render_ids=["a", "b"])

    assert request.client_version == "Retrieval.20231018"
    assert udf_arguments(request.partitions[0]) == ['{"ad_id1":1}', {"X-BnA-Client-IP": "1.2.3.4"}, "{}", None]
    assert not request.partitions[0].arguments[3].HasField("data")
    assert udf_arguments(hybrid.partitions[0]) == ["1", {}, "", ["a", "b"]]
    assert execution_metadata(request, request.partitions[0]) == {
        "requestMetadata": {"is_pas": "true"},
        "udfInterfaceVersion": 1,
    }


def test_lookup_request_has_the_ids_as_its_one_argument() -> None:
    assert udf_arguments(lookup_request(["a"]).partitions[0]) == [["a"]]


def test_scoring_request_has_one_tagged_partition_for_each_url() -> None:
    request = scoring_request(["u0", "u1"], client_type=1, experiment_group_id=None)

    assert request.client_version == "Bna.PA.Seller.20240930"
    assert request.metadata.fields["client_type"].string_value == "1"
    assert request.metadata.fields["experiment_group_id"].string_value == ""
    assert [(p.id, p.compression_group_id) for p in request.partitions] == [(0, 0), (1, 1)]
    assert udf_arguments(request.partitions[1]) == [{"tags": ["renderUrls"], "data": ["u1"]}]


def group(*partitions: object) -> kv.GetValuesResponse:
    return kv.GetValuesResponse(compression_groups=[{"content": json.dumps(list(partitions)).encode()}])


def outputs(**values: object) -> dict[str, object]:
    pairs = {key: {"value": value} for key, value in values.items()}
    return {"id": 0, "keyGroupOutputs": [{"tags": ["renderUrls"], "keyValues": pairs}]}


def test_scoring_reply_is_flattened_with_json_inside_and_the_first_value() -> None:
    response = group(outputs(u0='{"ok":1}', u1="text", u2="{broken"), outputs(u0="late", u3="[2]"))
    other = {"id": 1, "keyGroupOutputs": [{"tags": ["other"], "keyValues": {"u9": {"value": "x"}}}]}

    assert json.loads(scoring_signals_of_reply(response)) == {
        "renderUrls": {"u0": {"ok": 1}, "u1": "text", "u2": "{broken", "u3": [2]}
    }
    assert scoring_signals_of_reply(group(other)) == ""
    assert scoring_signals_of_reply(kv.GetValuesResponse()) == ""


@pytest.mark.parametrize("content", [b"x", b"{}", b"[1]", b'[{"keyGroupOutputs":[{}]}]'])
def test_scoring_reply_of_another_shape_is_the_services_fault(content: bytes) -> None:
    if content == b"{}":
        assert scoring_signals_of_reply(kv.GetValuesResponse(compression_groups=[{"content": content}])) == ""
        return
    with pytest.raises(DownstreamError):
        scoring_signals_of_reply(kv.GetValuesResponse(compression_groups=[{"content": content}]))


def test_requests_are_checked_as_documented() -> None:
    with pytest.raises(DownstreamError, match="At least 1 partition is required"):
        check_request(kv.GetValuesRequest())
    several = lookup_request(["a"])
    several.partitions.add(id=1)
    with pytest.raises(UnsupportedError, match=r"^This use case only accepts single partitions, but multiple"):
        check_request(several)
    twice = scoring_request(["u0", "u1"], client_type=1)
    twice.partitions[1].id = twice.partitions[1].compression_group_id = 0
    with pytest.raises(RequestError, match=r"^Each partition must have a unique <id, compression_group_id> tuple"):
        check_request(twice)
    check_request(scoring_request(["u0", "u1"], client_type=1))


def test_a_failed_script_means_no_ads() -> None:
    assert ads_of_reply(kv.GetValuesResponse(single_partition={"status": {"code": 13}})) == ""


@pytest.mark.parametrize("content_type", [PROTO_CONTENT_TYPE])
def test_encrypted_form_is_padded_and_reads_back(content_type: str) -> None:
    for n_ids in (1, 300):
        request = lookup_request([f"ad-{i}" for i in range(n_ids)])
        frame = frame_request(request)
        assert len(frame) >= 512
        assert len(frame) & (len(frame) - 1) == 0
        assert unframe_request(frame, content_type) == request
    response = kv.GetValuesResponse(single_partition={"string_output": "x" * 100})
    frame = frame_response(response, content_type)
    assert len(frame) == 128
    assert unframe_response(frame) == response


def test_json_form_is_the_documented_one() -> None:
    body = (
        b'{"metadata":{"is_pas":"true"},"partitions":[{"id":0,"arguments":[{"data":"{\\"ad_id1\\":1}"},'
        b'{"data":{"X-BnA-Client-IP":"1.2.3.4"}},{"data":"{}"},{"data":[]}]}]}'
    )
    request = parse_json_request(body)
    response = kv.GetValuesResponse(single_partition={"string_output": '{"a":1}'})

    assert udf_arguments(request.partitions[0]) == ['{"ad_id1":1}', {"X-BnA-Client-IP": "1.2.3.4"}, "{}", []]
    assert json.loads(print_json_response(response)) == {"singlePartition": {"stringOutput": '{"a":1}'}}
    with pytest.raises(RequestError):
        parse_json_request(b'{"partitionz":[]}')


@pytest.mark.parametrize("named", ["", "text/plain", "application/json", "message/ad-auction-trusted-signals-request+"])
def test_an_unknown_content_type_is_the_default_of_its_call(named: str) -> None:
    for default in (JSON_CONTENT_TYPE, CBOR_CONTENT_TYPE):
        assert known_content_type(named, default=default) == default


@pytest.mark.parametrize("known", [PROTO_CONTENT_TYPE, JSON_CONTENT_TYPE, CBOR_CONTENT_TYPE])
def test_a_known_content_type_is_taken_in_any_case_of_letters(known: str) -> None:
    assert known_content_type(f" {known.upper()}", default="other") == known


def test_broken_frames_and_bodies_are_one_error() -> None:
    for frame in (b"", b"\x00\x00\x00\x00\x09x", b"\x20\x00\x00\x00\x00", b"\x00\x00\x00\x00\x01\xff"):
        with pytest.raises(RequestError):
            unframe_request(frame, PROTO_CONTENT_TYPE)
    with pytest.raises(RequestError):
        unframe_request(frame_request(lookup_request(["a"])), JSON_CONTENT_TYPE)


def test_json_values_survive_and_what_json_lacks_is_refused() -> None:
    value = {"a": [1, -2.5, True, None, "x", {"b": []}]}

    assert from_value(to_value(value)) == value
    for bad in (float("nan"), float("inf"), {1, 2}, b"x"):
        with pytest.raises(RequestError):
            to_value(bad)
    deep: object = 1
    for _ in range(200):
        deep = [deep]
    with pytest.raises(RequestError):
        to_value(deep)
