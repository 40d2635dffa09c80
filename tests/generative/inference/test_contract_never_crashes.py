"""Any bytes give a response of the contract's shape."""

from __future__ import annotations

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from adyton.auction.inference.model_process import ModelTable

words = st.sampled_from(["request", "model_path", "tensors", "tensor_name", "data_type", "tensor_shape", "INT8", "1"])
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
    max_leaves=10,
)
batches = st.one_of(
    st.binary(max_size=40),
    anything.map(orjson.dumps),
    st.lists(anything, max_size=3).map(lambda entries: orjson.dumps({"request": entries})),
    st.lists(anything, max_size=3).map(
        lambda tensors: orjson.dumps({"request": [{"model_path": "m", "tensors": tensors}]})
    ),
)


@settings(max_examples=150, deadline=None)
@given(batches)
def test_any_bytes_get_an_answer_of_the_contract(text: bytes) -> None:
    response = orjson.loads(ModelTable().predict(text))["response"]

    assert response
    for entry in response:
        assert set(entry) <= {"model_path", "error"}
        assert entry["error"]["error_type"] in {"INPUT_PARSING", "MODEL_NOT_FOUND"}
