"""The auction's side of inference: starts the model process, registers models, makes predictions.

    async with InferenceClient() as inference:
        await inference.register_model("models/pctr/1/", {"models/pctr/1/model.onnx": onnx_bytes})
        await pool.call(handle, "generateBid", arguments, deadline_ms=200, hooks=inference.hooks())

When the process dies it is started again with the same models; requests of that moment get an `error` of type GRPC.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import socket
import tempfile
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

import orjson

from adyton.auction.inference.checksum import model_checksum
from adyton.auction.inference.confinement import DEFAULT_MEMORY_MB, ModelCommand, model_command
from adyton.auction.inference.contract import ErrorType, batch_error_json
from adyton.auction.inference.errors import (
    ChecksumMismatchError,
    InferenceDownError,
    ModelExistsError,
    ModelLoadError,
    ModelNotFoundError,
    ModelStoreError,
)
from adyton.auction.inference.model_process import Operation
from adyton.sandbox.values import HostHook

MAX_MODEL_BYTES = 2 * 1024**3
_LOAD_TIMEOUT_S = 300.0
_MAX_ANSWER_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class _Registered:
    folder: Path
    warm_up: str


class InferenceClient:
    """One model process. An async context manager.

    timeout_s: longest time of one prediction, its wait in the queue included; after it the process is restarted.
    python, memory_mb, threads: as for `confinement.model_command`.
    """

    def __init__(
        self,
        *,
        timeout_s: float = 5.0,
        python: str | None = None,
        memory_mb: int = DEFAULT_MEMORY_MB,
        threads: int = 1,
    ) -> None:
        self._timeout_s = timeout_s
        self._python = python
        self._memory_mb = memory_mb
        self._threads = threads
        self._models: dict[str, _Registered] = {}
        self._paths_json = "[]"
        self._link: _Link | None = None
        self._starting = asyncio.Lock()
        self._folder: Path | None = None
        self.n_restarts = 0

    async def __aenter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="adyton-models-"))
        try:
            self._link = await self._start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the process and forget all models."""
        link, self._link = self._link, None
        if link is not None:
            await link.kill()
        if self._folder is not None:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
            self._folder = None

    async def register_model(
        self,
        model_path: str,
        files: Mapping[str, bytes],
        *,
        warm_up_batch_request_json: str = "",
        checksum: str | None = None,
    ) -> None:
        """Make a model available under `model_path`, after its warm-up batch ran without an error.

        files: path -> content; paths are relative and stay inside the model.
        Raises ModelExistsError, ChecksumMismatchError, ModelLoadError, ModelStoreError, InferenceDownError.
        """
        if model_path in self._models:
            raise ModelExistsError(
                "a model is registered under this path", where=model_path, hint="registered models are immutable"
            )
        if not files:
            raise ModelLoadError("a model needs at least one file", where=model_path)
        if sum(map(len, files.values())) > MAX_MODEL_BYTES:
            raise ModelLoadError(f"the files are larger than {MAX_MODEL_BYTES} bytes", where=model_path)
        if checksum is not None and model_checksum(files) != checksum.lower():
            raise ChecksumMismatchError("the files do not have the checksum of the list", where=model_path)
        if self._folder is None:
            raise InferenceDownError("the inference client is not open")
        folder = self._folder / secrets.token_hex(16)
        registered = _Registered(folder, warm_up_batch_request_json)
        try:
            try:
                await asyncio.to_thread(_write_files, folder, model_path, files)
            except OSError as error:
                raise ModelStoreError(f"the files cannot be written ({error.strerror})", where=model_path) from error
            except ValueError as error:
                raise ModelLoadError("a name that no file can have", where=model_path) from error
            await (await self._running()).load(model_path, registered)
        except BaseException:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            raise
        self._models[model_path] = registered
        self._list_paths()

    async def delete_model(self, model_path: str) -> None:
        """Take a model away. Raises ModelNotFoundError."""
        registered = self._models.pop(model_path, None)
        if registered is None:
            raise ModelNotFoundError("no model is registered under this path", where=model_path)
        self._list_paths()
        with contextlib.suppress(InferenceDownError):
            link = await self._running()
            await link.ask(Operation.DELETE, orjson.dumps({"path": model_path}), self._timeout_s)
        await asyncio.to_thread(shutil.rmtree, registered.folder, ignore_errors=True)

    def get_model_paths(self) -> list[str]:
        """Paths of the registered models, sorted."""
        return sorted(self._models)

    async def predict(self, request_json: str) -> str:
        """The response document to a batch (protected-auction §9); failures are inside it, this never raises."""
        try:
            link = await self._running()
            answer = await link.ask(Operation.PREDICT, request_json.encode(errors="replace"), self._timeout_s)
            return answer.decode()
        except TimeoutError:
            return batch_error_json(ErrorType.GRPC, "DEADLINE_EXCEEDED: The prediction took too long")
        except InferenceDownError:
            return batch_error_json(ErrorType.GRPC, "UNAVAILABLE: The model process ended")

    def hooks(self) -> Mapping[str, HostHook]:
        """Host functions for scripts of kind PREPARE_DATA and GENERATE_BID."""
        return {"runInference": self.predict, "getModelPaths": self._paths_hook}

    async def _paths_hook(self, text: str) -> str:  # noqa: ARG002
        return self._paths_json

    def _list_paths(self) -> None:
        self._paths_json = orjson.dumps(self.get_model_paths()).decode()

    async def _start(self) -> _Link:
        assert self._folder is not None, "only an open client starts processes"
        command = await asyncio.to_thread(
            model_command, self._folder, python=self._python, memory_mb=self._memory_mb, threads=self._threads
        )
        return await _Link.start(command)

    async def _running(self) -> _Link:
        if self._folder is None:
            raise InferenceDownError("the inference client is not open")
        if self._link is not None and self._link.is_alive:
            return self._link
        async with self._starting:
            if self._link is None or not self._link.is_alive:
                if self._link is not None:
                    await self._link.kill()
                self.n_restarts += 1
                link = await self._start()
                self._link = link
                for model_path, registered in self._models.items():
                    # A model that loaded before loads again, or is answered as not found until it is replaced.
                    with contextlib.suppress(ModelLoadError):
                        await link.load(model_path, registered)
            return self._link


class _Link:
    """The process and its pipe; answers come in the order of requests."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._waiting: deque[asyncio.Future[bytes]] = deque()
        self._failed = False
        self._listener = asyncio.create_task(self._listen())

    @classmethod
    async def start(cls, command: ModelCommand) -> _Link:
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                *command.arguments,
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                # Libraries quote inputs in what they print.
                stderr=asyncio.subprocess.DEVNULL,
                env=command.environment,
            )
        except OSError as error:
            ours.close()
            raise InferenceDownError("the model process cannot be started", where=type(error).__name__) from error
        finally:
            theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours)
        return cls(process, reader, writer)

    @property
    def is_alive(self) -> bool:
        return not self._failed and self._process.returncode is None

    async def ask(self, operation: Operation, payload: bytes, timeout_s: float) -> bytes:
        """The answer. Raises InferenceDownError; TimeoutError, after which the process is gone."""
        if self._failed:
            raise InferenceDownError("the model process ended")
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        self._writer.write(len(payload).to_bytes(4, "big") + bytes([operation]) + payload)
        try:
            async with asyncio.timeout(timeout_s):
                # Shielded, so that a caller who gives up does not shift the answers of the others.
                return await asyncio.shield(answer)
        except TimeoutError:
            await self.kill()
            raise

    async def load(self, model_path: str, registered: _Registered) -> None:
        """Load a model in the process. Raises ModelLoadError, InferenceDownError."""
        order = {"path": model_path, "folder": str(registered.folder), "warm_up": registered.warm_up}
        try:
            answer = orjson.loads(await self.ask(Operation.LOAD, orjson.dumps(order), _LOAD_TIMEOUT_S))
        except TimeoutError:
            raise ModelLoadError("the model did not load in time", where=model_path) from None
        if answer:
            raise ModelLoadError(answer["what"], where=model_path, hint=answer["hint"])

    async def kill(self) -> None:
        """End and reap the process."""
        self._fail()
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, 9)
        self._listener.cancel()
        await asyncio.gather(self._listener, return_exceptions=True)
        self._writer.close()
        await asyncio.shield(self._process.wait())

    async def _listen(self) -> None:
        try:
            while True:
                head = await self._reader.readexactly(5)
                length = int.from_bytes(head[:4], "big")
                if length > _MAX_ANSWER_BYTES:
                    return
                payload = await self._reader.readexactly(length)
                answer = self._waiting.popleft()
                if not answer.done():
                    answer.set_result(payload)
        except (asyncio.IncompleteReadError, OSError):
            return
        finally:
            self._fail()

    def _fail(self) -> None:
        self._failed = True
        while self._waiting:
            answer = self._waiting.popleft()
            if not answer.done():
                answer.set_exception(InferenceDownError("the model process ended"))
                answer.exception()  # marks it as seen when the caller has already given up


def _write_files(folder: Path, model_path: str, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        # A folder may be named without its slash.
        inside = name.removeprefix(f"{model_path.rstrip('/')}/") if name != model_path else ""
        relative = PurePosixPath(inside or PurePosixPath(model_path).name)
        if relative.is_absolute() or ".." in relative.parts or not relative.parts:
            raise ModelLoadError("a file of the model would lie outside it", where=model_path)
        target = folder.joinpath(*relative.parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
