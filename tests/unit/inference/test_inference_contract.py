"""The JSON contract of §9: what is accepted, and how each kind of bad input is answered."""

from __future__ import annotations

import numpy as np
import orjson
import pytest

from adyton.auction.inference.checksum import model_checksum
from adyton.auction.inference.contract import (
    ContractError,
    DataType,
    ErrorType,
    FailedRequest,
    ModelRequest,
    NamedTensor,
    parse_batch,
    success_entry,
)
from adyton.auction.inference.errors import ModelListError
from adyton.auction.inference.model_list import parse_model_list
from adyton.auction.inference.model_process import ModelTable


def tensor(**changes: object) -> dict[str, object]:
    good = {"tensor_name": "x", "data_type": "DOUBLE", "tensor_shape": [1, 2], "tensor_content": ["3.14", "-1e3"]}
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def one(**changes: object) -> ModelRequest | FailedRequest:
    (entry,) = parse_batch(orjson.dumps({"request": [{"model_path": "m/", "tensors": [tensor(**changes)]}]}))
    return entry


def test_numbers_are_strings_and_keep_their_shape() -> None:
    request = one()

    assert isinstance(request, ModelRequest)
    assert request.model_path == "m/"
    assert request.tensors[0].name == "x"
    assert request.tensors[0].values.tolist() == [[3.14, -1000.0]]


@pytest.mark.parametrize("data_type", list(DataType))
def test_every_data_type_goes_in_and_out(data_type: DataType) -> None:
    request = one(data_type=data_type.value, tensor_content=["1", "-2"])
    assert isinstance(request, ModelRequest)
    (out,) = success_entry("m/", request.tensors)["tensors"]  # type: ignore[misc,attr-defined]

    assert request.tensors[0].values.dtype == data_type.dtype
    assert (out["data_type"], out["tensor_shape"]) == (data_type.value, [1, 2])
    assert out["tensor_content"].tolist() == [1, -2]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tensor_content": [3.14, "1"]}, "All numbers within the tensor_content must be enclosed in quotes"),
        ({"tensor_content": ["1"]}, "2 elements"),
        ({"tensor_content": ["x", "1"]}, "converting"),
        ({"tensor_content": ["1_0", "1"]}, "converting"),
        ({"data_type": "INT8", "tensor_content": ["128", "0"]}, "converting"),
        ({"data_type": "INT64", "tensor_content": ["9223372036854775808", "0"]}, "converting"),
        ({"data_type": "INT32", "tensor_content": ["1.5", "0"]}, "converting"),
        ({"data_type": "STRING"}, "data_type"),
        ({"data_type": None}, "data_type"),
        ({"tensor_shape": [0, 2]}, "greater than 0"),
        ({"tensor_shape": [-1, -2]}, "greater than 0"),
        ({"tensor_shape": "2"}, "tensor_shape"),
        ({"tensor_shape": [1 << 40, 1 << 40]}, "too large"),
        ({"tensor_content": None}, "tensor_content"),
        ({"tensor_name": 5}, "tensor_name"),
    ],
)
def test_a_bad_tensor_is_an_input_parsing_error_of_its_model(changes: dict[str, object], words: str) -> None:
    content = {"tensor_name": "x", "data_type": "DOUBLE", "tensor_shape": [1, 2], "tensor_content": ["1", "2"]}
    entry = {name: value for name, value in {**content, **changes}.items() if value is not None}
    (request,) = parse_batch(orjson.dumps({"request": [{"model_path": "m/", "tensors": [entry]}]}))

    assert isinstance(request, FailedRequest)
    assert request.model_path == "m/"
    assert request.error.kind is ErrorType.INPUT_PARSING
    assert words in request.error.description


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{", b"{}", b'{"request":{}}', b'{"request":[]}', b'{"request":[{}]}', b'{"request":[5]}']
)
def test_an_unreadable_batch_is_one_error_without_model_path(text: bytes) -> None:
    response = orjson.loads(ModelTable().predict(text))["response"]

    assert len(response) == 1
    assert set(response[0]) == {"error"}
    assert response[0]["error"]["error_type"] == "INPUT_PARSING"


@pytest.mark.parametrize("values", [np.array([True]), np.array([np.nan]), np.array(["text"])])
def test_outputs_that_json_cannot_carry_are_output_parsing_errors(values: np.ndarray) -> None:
    with pytest.raises(ContractError) as caught:
        success_entry("m/", [NamedTensor("y", values)])

    assert caught.value.kind is ErrorType.OUTPUT_PARSING


def test_the_checksum_is_over_hex_digests_in_the_order_of_paths() -> None:
    # sha256("a") + sha256("b"), each in hex, hashed again; computed with coreutils' sha256sum.
    expected = "62af5c3cb8da3e4f25061e829ebeea5c7513c54949115b1acc225930a90154da"

    assert model_checksum({"m/2": b"b", "m/1": b"a"}) == expected
    assert model_checksum({"m/1": b"b", "m/2": b"a"}) != expected


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"model_path": ""},
        {"model_path": "m/", "checksum": 5},
        {"model_path": "m/", "eviction_grace_period_in_ms": -1},
        {"model_path": "m/", "eviction_grace_period_in_ms": True},
        {"model_path": "m/", "warm_up_batch_request_json": {}},
        {"model_path": "m/", "unknown": 1},
        "m/",
    ],
)
def test_a_bad_entry_of_a_model_list_is_refused(entry: object) -> None:
    with pytest.raises(ModelListError):
        parse_model_list(orjson.dumps({"model_metadata": [entry]}))


def test_a_model_list_may_not_name_a_path_twice() -> None:
    with pytest.raises(ModelListError):
        parse_model_list(orjson.dumps({"model_metadata": [{"model_path": "m/"}, {"model_path": "m/"}]}))
