"""Model runtimes: ONNX, TorchScript, TensorFlow SavedModel. Runs only in the model process.

torch and tensorflow are imported when a model of theirs is loaded, and nowhere else in the auction.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from adyton.auction.inference.contract import ContractError, ErrorType, NamedTensor, Tensor
from adyton.auction.inference.errors import ModelLoadError

_MAX_DESCRIPTION = 500


class Model(Protocol):
    """A loaded model; `run` has no memory of earlier runs."""

    def run(self, tensors: Sequence[NamedTensor]) -> list[NamedTensor]:
        """The outputs. Raises ContractError (MODEL_EXECUTION)."""
        ...


def load_model(folder: Path, model_path: str) -> Model:
    """The model whose files are under `folder`.

    A `saved_model.pb` makes it a TensorFlow SavedModel, a single `.onnx` file ONNX, any other single file TorchScript.
    Raises ModelLoadError.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    onnx_files = [path for path in files if path.suffix == ".onnx"]
    if any(path.name == "saved_model.pb" for path in files):
        return _SavedModel(next(path for path in files if path.name == "saved_model.pb").parent, model_path)
    if len(onnx_files) == 1:
        return _OnnxModel(onnx_files[0], model_path)
    if len(files) == 1:
        return _TorchScriptModel(files[0], model_path)
    raise ModelLoadError(
        f"{len(files)} files are not a model",
        where=model_path,
        hint="one .onnx file, one TorchScript file, or a SavedModel",
    )


class _OnnxModel:
    """Inputs are found by name; a nameless tensor takes the place of the input at its position."""

    def __init__(self, file: Path, model_path: str) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
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

    def __init__(self, file: Path, model_path: str) -> None:
        try:
            import torch
        except ImportError:
            raise ModelLoadError("TorchScript models need torch", where=model_path, hint="pip install torch") from None
        torch.set_num_threads(1)
        self._torch = torch
        try:
            module = torch.jit.load(str(file), map_location="cpu").eval()  # type: ignore[no-untyped-call,unused-ignore]
            frozen = torch.jit.freeze(module)
        except Exception as error:
            raise ModelLoadError(f"not a TorchScript model ({type(error).__name__})", where=model_path) from error
        if any(True for _ in frozen.named_buffers()) or any(True for _ in frozen.named_parameters()):
            raise ModelLoadError("the model keeps state between predictions, so it cannot be frozen", where=model_path)
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
    """Inputs and outputs are found by the names of the serving signature."""

    def __init__(self, folder: Path, model_path: str) -> None:
        try:
            import tensorflow  # type: ignore[import-not-found,import-untyped,unused-ignore]
        except ImportError:
            raise ModelLoadError(
                "TensorFlow SavedModels need tensorflow, which is not installed",
                where=model_path,
                hint="pip install tensorflow-cpu, or export the model to ONNX",
            ) from None
        self._tensorflow = tensorflow
        try:
            self._kept = tensorflow.saved_model.load(str(folder))
            self._serve = self._kept.signatures["serving_default"]
        except Exception as error:
            raise ModelLoadError(f"not a SavedModel ({type(error).__name__})", where=model_path) from error

    def run(self, tensors: Sequence[NamedTensor]) -> list[NamedTensor]:
        prefix = "serving_default_"
        try:
            feeds = {
                tensor.name.removeprefix(prefix).split(":")[0]: self._tensorflow.constant(tensor.values)
                for tensor in tensors
            }
            outputs = self._serve(**feeds)
            return [_named(name, values.numpy()) for name, values in sorted(outputs.items())]
        except Exception as error:
            raise _execution_error(error) from error


def _named(name: str, values: object) -> NamedTensor:
    if not isinstance(values, np.ndarray):
        raise ContractError(ErrorType.OUTPUT_PARSING, "INVALID_ARGUMENT: An output is not a tensor")
    return NamedTensor(name, values)


def _execution_error(error: Exception) -> ContractError:
    if isinstance(error, ContractError):
        return error
    return ContractError(ErrorType.MODEL_EXECUTION, f"INTERNAL: {str(error)[:_MAX_DESCRIPTION]}")
