"""Model runtimes: ONNX, TorchScript, TensorFlow SavedModel. Runs only in the model process.

torch and tensorflow are imported when a model of theirs is loaded, and nowhere else in the auction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from adyton.auction.inference.contract import ContractError, ErrorType, NamedTensor, Tensor
from adyton.auction.inference.errors import ModelLoadError

_MAX_DESCRIPTION = 500
_STATEFUL = "the model keeps state between predictions, so it cannot be frozen"


class Model(Protocol):
    """A loaded model; `run` has no memory of earlier runs."""

    def run(self, tensors: Sequence[NamedTensor]) -> list[NamedTensor]:
        """The outputs. Raises ContractError (MODEL_EXECUTION)."""
        ...


def load_model(folder: Path, model_path: str, *, threads: int = 1) -> Model:
    """The model whose files are under `folder`.

    threads: of one prediction; runtimes with one setting for the whole process take that of the first model.
    A `saved_model.pb` makes it a TensorFlow SavedModel, a single `.onnx` file ONNX, any other single file TorchScript.
    Raises ModelLoadError.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    onnx_files = [path for path in files if path.suffix == ".onnx"]
    if any(path.name == "saved_model.pb" for path in files):
        return _SavedModel(next(path for path in files if path.name == "saved_model.pb").parent, model_path, threads)
    if len(onnx_files) == 1:
        return _OnnxModel(onnx_files[0], model_path, threads)
    if len(files) == 1:
        return _TorchScriptModel(files[0], model_path, threads)
    raise ModelLoadError(
        f"{len(files)} files are not a model",
        where=model_path,
        hint="one .onnx file, one TorchScript file, or a SavedModel",
    )


class _OnnxModel:
    """Inputs are found by name; a nameless tensor takes the place of the input at its position."""

    def __init__(self, file: Path, model_path: str, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ModelLoadError(f"not an ONNX model ({type(error).__name__})", where=model_path) from error
        self._inputs = [found.name for found in self._session.get_inputs()]
        self._outputs = [found.name for found in self._session.get_outputs()]

    def run(self, tensors: Sequence[NamedTensor]) -> list[NamedTensor]:
        feeds: dict[str, Tensor] = {}
        for position, tensor in enumerate(tensors):
            name = tensor.name or (self._inputs[position] if position < len(self._inputs) else "")
            if name not in self._inputs:
                raise ContractError(ErrorType.MODEL_EXECUTION, "INVALID_ARGUMENT: The model has no input of this name")
            feeds[name] = tensor.values
        try:
            outputs = self._session.run(None, feeds)
        except Exception as error:
            raise _execution_error(error) from error
        return [_named(name, values) for name, values in zip(self._outputs, outputs, strict=True)]


class _TorchScriptModel:
    """Inputs are taken by position. Frozen at loading: a model that keeps state cannot be registered."""

    def __init__(self, file: Path, model_path: str, threads: int) -> None:
        try:
            import torch
        except ImportError:
            raise ModelLoadError("TorchScript models need torch", where=model_path, hint="pip install torch") from None
        torch.set_num_threads(threads)
        self._torch = torch
        try:
            module = torch.jit.load(str(file), map_location="cpu").eval()  # type: ignore[no-untyped-call,unused-ignore]
            frozen = torch.jit.freeze(module)
        except Exception as error:
            raise ModelLoadError(f"not a TorchScript model ({type(error).__name__})", where=model_path) from error
        if any(True for _ in frozen.named_buffers()) or any(True for _ in frozen.named_parameters()):
            raise ModelLoadError(_STATEFUL, where=model_path)
        self._module = frozen

    def run(self, tensors: Sequence[NamedTensor]) -> list[NamedTensor]:
        try:
            with self._torch.inference_mode():
                output = self._module(*[self._torch.from_numpy(tensor.values) for tensor in tensors])
            outputs = output if isinstance(output, tuple | list) else [output]
            return [_named("", found.numpy()) for found in outputs]
        except Exception as error:
            raise _execution_error(error) from error


class _SavedModel:
    """The signature `serving_default`, frozen at loading: a model that keeps state cannot be registered.

    Inputs are found by the tensor's name in the graph (`serving_default_x:0`), with or without its `:0`, or by the
    signature's own (`x`). Outputs carry the name in the graph (`StatefulPartitionedCall:0`), as in the reference, and
    are in the order of their names in the signature.
    """

    def __init__(self, folder: Path, model_path: str, threads: int) -> None:
        try:
            import tensorflow  # type: ignore[import-not-found,import-untyped,unused-ignore]
        except ImportError:
            raise ModelLoadError(
                "TensorFlow SavedModels need tensorflow, which is not installed",
                where=model_path,
                hint="pip install tensorflow-cpu, or export the model to ONNX",
            ) from None
        tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
        tensorflow.config.threading.set_inter_op_parallelism_threads(1)
        self._tensorflow = tensorflow
        try:
            from tensorflow.python.framework.convert_to_constants import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
                convert_variables_to_constants_v2,
            )
            from tensorflow.python.saved_model.loader_impl import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
                parse_saved_model,
            )

            signature = parse_saved_model(str(folder)).meta_graphs[0].signature_def["serving_default"]
            loaded = tensorflow.saved_model.load(str(folder))
            serve = loaded.signatures["serving_default"]
            self._inputs = _names_of_inputs({name: info.name for name, info in signature.inputs.items()})
            # The frozen function gives its outputs in the order of their names in the signature.
            self._outputs = [signature.outputs[name].name for name in sorted(signature.outputs)]
        except Exception as error:
            raise ModelLoadError(f"not a SavedModel ({type(error).__name__})", where=model_path) from error
        try:
            self._frozen = convert_variables_to_constants_v2(serve)
            places = [tensor.name.split(":")[0] for tensor in self._frozen.inputs]
            self._places = {name: self._place(name, places) for name in signature.inputs}
            keeps_state = any(_touches_state(node) for node in self._frozen.graph.get_operations())
        except Exception as error:
            # What assigns to a variable cannot become a constant.
            raise ModelLoadError(_STATEFUL, where=model_path, hint=type(error).__name__) from error
        if keeps_state or len(places) != len(signature.inputs):
            raise ModelLoadError(_STATEFUL, where=model_path)

    @staticmethod
    def _place(name: str, places: Sequence[str]) -> int:
        for candidate in (name, f"serving_default_{name}"):
            if candidate in places:
                return places.index(candidate)
        raise ValueError("an input of the signature is not in the graph")

    def run(self, tensors: Sequence[NamedTensor]) -> list[NamedTensor]:
        by_place: dict[int, NamedTensor] = {}
        for tensor in tensors:
            name = self._inputs.get(tensor.name)
            if name is None:
                raise ContractError(ErrorType.MODEL_EXECUTION, "INVALID_ARGUMENT: The model has no input of this name")
            by_place[self._places[name]] = tensor
        if len(by_place) != len(self._places):
            raise ContractError(ErrorType.MODEL_EXECUTION, "INVALID_ARGUMENT: An input of the model is missing")
        try:
            feeds = [self._tensorflow.constant(by_place[place].values) for place in range(len(by_place))]
            outputs = self._frozen(*feeds)
            return [_named(name, values.numpy()) for name, values in zip(self._outputs, outputs, strict=True)]
        except Exception as error:
            raise _execution_error(error) from error


def _names_of_inputs(in_graph: Mapping[str, str]) -> dict[str, str]:
    """Every name that a request may use -> the name in the signature."""
    names = {name: name for name in in_graph}
    for name, full in in_graph.items():
        names[full] = names[full.split(":")[0]] = name
    return names


def _touches_state(node: object) -> bool:
    kind = str(getattr(node, "type", ""))
    return "Variable" in kind or kind in ("VarHandleOp", "MutableHashTableV2", "HashTableV2", "Assign")


def _named(name: str, values: object) -> NamedTensor:
    if not isinstance(values, np.ndarray):
        raise ContractError(ErrorType.OUTPUT_PARSING, "INVALID_ARGUMENT: An output is not a tensor")
    return NamedTensor(name, values)


def _execution_error(error: Exception) -> ContractError:
    if isinstance(error, ContractError):
        return error
    return ContractError(ErrorType.MODEL_EXECUTION, f"INTERNAL: {str(error)[:_MAX_DESCRIPTION]}")
