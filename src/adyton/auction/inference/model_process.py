"""The process that loads and runs models; `confinement` has its command line.

Frames on stdin and stdout, `u32 length | u8 operation | payload`; one answer for each request, in order:

    PREDICT   payload = request JSON                       -> PREDICT   response JSON
    LOAD      payload = JSON {path, folder, warm_up}       -> LOAD      JSON {} or {what, hint}
    DELETE    payload = JSON {path}                        -> DELETE    JSON {}
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import BinaryIO

import orjson

from adyton.auction.inference.contract import (
    ContractError,
    ErrorType,
    FailedRequest,
    ModelRequest,
    error_entry,
    not_found,
    parse_batch,
    response_json,
    success_entry,
)
from adyton.auction.inference.errors import ModelLoadError
from adyton.auction.inference.models import Model, load_model

_OPEN_FILES = 256
# Libraries try out whether they can write a temporary file, and give up where they cannot.
_FILE_BYTES = 1024 * 1024


class Operation(IntEnum):
    """Second field of a frame."""

    PREDICT = 1
    LOAD = 2
    DELETE = 3


class ModelTable:
    """The loaded models by path. threads: of one prediction."""

    def __init__(self, *, threads: int = 1) -> None:
        self._models: dict[str, Model] = {}
        self._threads = threads

    def load(self, path: str, folder: Path, warm_up: str) -> None:
        """Load a model and run its warm-up batch. Raises ModelLoadError; then nothing is registered."""
        try:
            model = load_model(folder, path, threads=self._threads)
        except ModelLoadError:
            raise
        except Exception as error:
            # A runtime that cannot be imported, say: this model's failure, and not the end of the others.
            raise ModelLoadError(f"the model cannot be loaded ({type(error).__name__})", where=path) from error
        self._models[path] = model
        if warm_up:
            response = orjson.loads(self.predict(warm_up.encode()))["response"]
            if any("error" in entry for entry in response):
                del self._models[path]
                raise ModelLoadError("the warm-up batch failed", where=path, hint="check warm_up_batch_request_json")

    def delete(self, path: str) -> None:
        """Forget a model."""
        self._models.pop(path, None)

    def predict(self, text: bytes) -> bytes:
        """The response to a batch; every failure is inside it."""
        try:
            requests = parse_batch(text)
        except ContractError as error:
            return response_json([error_entry(error, None)])
        entries: list[dict[str, object]] = []
        for request in requests:
            try:
                entries.append(self._entry(request))
            except ContractError as error:
                entries.append(error_entry(error, request.model_path))
            except Exception as error:  # noqa: BLE001 - one model's failure must not reach the others
                unknown = ContractError(ErrorType.UNKNOWN, f"INTERNAL: {type(error).__name__}")
                entries.append(error_entry(unknown, request.model_path))
        return response_json(entries)

    def _entry(self, request: ModelRequest | FailedRequest) -> dict[str, object]:
        if isinstance(request, FailedRequest):
            raise request.error
        model = self._models.get(request.model_path)
        if model is None:
            raise not_found(request.model_path)
        return success_entry(request.model_path, model.run(request.tensors))


def serve(source: BinaryIO, sink: BinaryIO, *, threads: int = 1) -> None:
    """Answer frames until the source ends."""
    table = ModelTable(threads=threads)
    while True:
        head = source.read(5)
        if len(head) < 5:
            return
        payload = source.read(int.from_bytes(head[:4], "big"))
        answer = _answer(table, Operation(head[4]), payload)
        sink.write(len(answer).to_bytes(4, "big") + head[4:5] + answer)
        sink.flush()


def _answer(table: ModelTable, operation: Operation, payload: bytes) -> bytes:
    if operation is Operation.PREDICT:
        return table.predict(payload)
    order = orjson.loads(payload)
    if operation is Operation.DELETE:
        table.delete(order["path"])
        return b"{}"
    try:
        table.load(order["path"], Path(order["folder"]), order["warm_up"])
    except ModelLoadError as error:
        return orjson.dumps({"what": error.what, "hint": error.hint})
    return b"{}"


def main(arguments: Sequence[str]) -> None:
    """Serve on the standard streams; prints of libraries must not get between frames.

    arguments: the limit on memory in MiB, the threads of one prediction.
    """
    memory_bytes = int(arguments[0]) * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_BYTES, _FILE_BYTES))
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, sink, threads=int(arguments[1]))
