"""The user tower as an ONNX graph, built node by node.

torch's own exporters either need another package or are on their way out, and this graph has a dozen kinds of nodes. It
computes what `SideNetwork.forward` computes in evaluation mode, for all members, and puts their vectors side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from adyton.learning.ctr.network import SideNetwork

OPSET = 17
IR_VERSION = 8


def user_tower_onnx(networks: Sequence[SideNetwork], *, scale: float) -> bytes:
    """ONNX bytes: `user_fields` int64[B, F] -> `to_ad` float32[B, D], `to_context` float32[B, D], `bias` float32[B].

    networks: the user sides of all members, D is the sum of their vector widths.   scale: multiplies all outputs.
    """
    graph = _Graph()
    to_ad, to_context, biases = [], [], []
    for network in networks:
        first, second, bias = _side(graph, network)
        to_ad.append(first)
        to_context.append(second)
        biases.append(bias)
    factor = graph.constant(np.float32(scale))
    graph.node("Mul", [graph.node("Concat", to_ad, axis=1), factor], output="to_ad")
    graph.node("Mul", [graph.node("Concat", to_context, axis=1), factor], output="to_context")
    summed = graph.node("Sum", biases)
    graph.node("Mul", [graph.node("Squeeze", [summed, graph.axes(1)]), factor], output="bias")
    width = int(networks[0].offsets.shape[0])
    dim = sum(network.vector_dim for network in networks)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "adyton_user_tower",
            [helper.make_tensor_value_info("user_fields", TensorProto.INT64, ["B", width])],
            [
                helper.make_tensor_value_info("to_ad", TensorProto.FLOAT, ["B", dim]),
                helper.make_tensor_value_info("to_context", TensorProto.FLOAT, ["B", dim]),
                helper.make_tensor_value_info("bias", TensorProto.FLOAT, ["B"]),
            ],
            graph.constants,
        ),
        producer_name="adyton",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(model, full_check=True)
    serialized: bytes = model.SerializeToString()
    return serialized


def _side(graph: _Graph, network: SideNetwork) -> tuple[str, str, str]:
    rows = graph.node("Add", ["user_fields", graph.constant(network.offsets.numpy())])
    embedded = graph.node("Gather", [graph.constant(network.embeddings.detach().numpy()), rows], axis=0)
    linear = graph.node("Gather", [graph.constant(network.weights.detach().numpy()), rows], axis=0)
    if network.has_lists:
        embedded, linear = _pool(graph, network, embedded), _pool(graph, network, linear)
    total = graph.node("ReduceSum", [embedded, graph.axes(1)], keepdims=0)
    squares = graph.node("ReduceSum", [graph.node("Mul", [embedded, embedded]), graph.axes(1)], keepdims=0)
    crossed = graph.node("Sub", [graph.node("Mul", [total, total]), squares])
    doubled = graph.node("ReduceSum", [crossed, graph.axes(1)], keepdims=1)
    pairs = graph.node("Mul", [doubled, graph.constant(np.float32(0.5))])
    h = graph.node("Flatten", [embedded], axis=1)
    for weight, bias in zip(network.hidden_weights, network.hidden_biases, strict=True):
        h = graph.node("MatMul", [h, graph.constant(weight.detach().numpy())])
        h = graph.node("Relu", [graph.node("Add", [h, graph.constant(bias.detach().numpy())])])
    out = graph.node("MatMul", [h, graph.constant(network.out_weight.detach().numpy())])
    out = graph.node("Add", [out, graph.constant(network.out_bias.detach().numpy())])
    d = network.head_dim
    linear_sum = graph.node("ReduceSum", [graph.node("Squeeze", [linear, graph.axes(2)]), graph.axes(1)], keepdims=1)
    bias_out = graph.node("Sum", [linear_sum, pairs, graph.columns(out, 0, 1)])
    bias_out = graph.node("Mul", [bias_out, graph.constant(network.bias_gain.numpy())])
    first = graph.node("Concat", [total, graph.columns(out, 1, 1 + d)], axis=1)
    second = graph.node("Concat", [total, graph.columns(out, 1 + d, 1 + 2 * d)], axis=1)
    for vector, weights in ((first, network.bias_of_first), (second, network.bias_of_second)):
        shifted = graph.node("MatMul", [vector, graph.constant(weights.numpy()[:, None])])
        bias_out = graph.node("Add", [bias_out, shifted])
    return first, second, bias_out


def _pool(graph: _Graph, network: SideNetwork, values: str) -> str:
    parts, start = [], 0
    for slots in network.slots:
        part = graph.columns(values, start, start + slots)
        if slots > 1:
            indices = graph.columns("user_fields", start, start + slots)
            is_filled = graph.node("Greater", [indices, graph.constant(np.int64(0))])
            filled = graph.node("Unsqueeze", [graph.node("Cast", [is_filled], to=TensorProto.FLOAT), graph.axes(2)])
            n_filled = graph.node("ReduceSum", [filled, graph.axes(1)], keepdims=1)
            at_least_one = graph.node("Max", [n_filled, graph.constant(np.float32(1))])
            summed = graph.node("ReduceSum", [graph.node("Mul", [part, filled]), graph.axes(1)], keepdims=1)
            part = graph.node("Div", [summed, at_least_one])
        parts.append(part)
        start += slots
    return graph.node("Concat", parts, axis=1)


class _Graph:
    """Nodes and constants under construction; every name is new."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._numbers = count()

    def constant(self, value: NDArray[np.generic] | np.generic) -> str:
        name = f"c{next(self._numbers)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def axes(self, *values: int) -> str:
        return self.constant(np.asarray(values, np.int64))

    def node(self, kind: str, inputs: Sequence[str], *, output: str | None = None, **attributes: Any) -> str:
        output = output or f"n{next(self._numbers)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def columns(self, value: str, start: int, end: int) -> str:
        return self.node("Slice", [value, self.axes(start), self.axes(end), self.axes(1)])
