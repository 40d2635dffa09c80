"""Inference beside bidding: the process of this party's own models, or another party process over gRPC (§9)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import orjson

from adyton.auction.config import InferenceConfig
from adyton.auction.errors import DownstreamError
from adyton.auction.inference.client import InferenceClient
from adyton.auction.inference.errors import ModelExistsError, ModelNotFoundError
from adyton.auction.inference.model_list import ModelListFollower
from adyton.auction.services.clients import open_channel
from adyton.auction.services.model_buckets import open_model_bucket
from adyton.kernel.clock import Clock
from adyton.kernel.errors import AdytonError, BadInputError, UnavailableError
from adyton.protocol.messages import inference_pb2, inference_pb2_grpc
from adyton.sandbox.values import HostHook

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True)
class InferenceSide:
    """Host functions for scripts, and the gRPC service where the models are in this process's charge."""

    hooks: Mapping[str, HostHook]
    servicer: inference_pb2_grpc.InferenceServiceServicer | None = None

    def add_to_server(self, server: grpc.aio.Server) -> str:
        """Put the service on `server`; gives back its full name."""
        assert self.servicer is not None, "only a side with models has a service"
        inference_pb2_grpc.add_InferenceServiceServicer_to_server(self.servicer, server)  # type: ignore[no-untyped-call]
        return inference_pb2.DESCRIPTOR.services_by_name["InferenceService"].full_name


class RemoteInference:
    """The inference service of the same party in another process."""

    def __init__(self, channel: grpc.aio.Channel, *, timeout_s: float = 10.0) -> None:
        self._stub = inference_pb2_grpc.InferenceServiceStub(channel)  # type: ignore[no-untyped-call]
        self._timeout_s = timeout_s

    async def run_inference(self, text: str) -> str:
        """The JSON batch of answers; raises DownstreamError."""
        try:
            reply = await self._stub.Predict(inference_pb2.PredictRequest(input=text.encode()), timeout=self._timeout_s)
        except grpc.aio.AioRpcError as error:
            raise DownstreamError("inference failed", code=error.code().name) from error
        return bytes(reply.output).decode()

    async def get_model_paths(self, _: str) -> str:
        """JSON array of the registered paths; raises DownstreamError."""
        try:
            reply = await self._stub.GetModelPaths(inference_pb2.GetModelPathsRequest(), timeout=self._timeout_s)
        except grpc.aio.AioRpcError as error:
            raise DownstreamError("inference failed", code=error.code().name) from error
        return orjson.dumps([spec.model_path for spec in reply.model_specs]).decode()


class InferenceServicer(inference_pb2_grpc.InferenceServiceServicer):
    """The sidecar's gRPC service over the model process."""

    def __init__(self, client: InferenceClient) -> None:
        self._client = client

    async def Predict(  # noqa: N802
        self, request: inference_pb2.PredictRequest, context: Context
    ) -> inference_pb2.PredictResponse:
        """The JSON batch of answers; failures of models are inside it."""
        return await self._predicted(request, context)

    async def PredictBatch(  # noqa: N802
        self, request: inference_pb2.PredictBatchRequest, context: Context
    ) -> inference_pb2.PredictBatchResponse:
        """Several predictions, answered in their order; each is a JSON batch of its own."""
        replies = [await self._predicted(one, context) for one in request.predict_requests]
        return inference_pb2.PredictBatchResponse(predict_responses=replies)

    async def _predicted(
        self, request: inference_pb2.PredictRequest, context: Context
    ) -> inference_pb2.PredictResponse:
        if request.WhichOneof("input_data") != "input":
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "send the JSON batch in `input`")
        text = request.input.decode("utf-8", "replace")
        return inference_pb2.PredictResponse(output=(await self._client.predict(text)).encode())

    async def RegisterModel(  # noqa: N802
        self, request: inference_pb2.RegisterModelRequest, context: Context
    ) -> inference_pb2.RegisterModelResponse:
        """Registers an immutable model."""
        try:
            await self._client.register_model(
                request.model_spec.model_path,
                dict(request.model_files),
                warm_up_batch_request_json=request.warm_up_batch_request_json,
            )
        except ModelExistsError as error:
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, error.what)
        except BadInputError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.what)
        except UnavailableError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, error.what)
        return inference_pb2.RegisterModelResponse()

    async def DeleteModel(  # noqa: N802
        self, request: inference_pb2.DeleteModelRequest, context: Context
    ) -> inference_pb2.DeleteModelResponse:
        """Takes a model away."""
        try:
            await self._client.delete_model(request.model_spec.model_path)
        except ModelNotFoundError as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, error.what)
        return inference_pb2.DeleteModelResponse()

    async def GetModelPaths(  # noqa: N802
        self,
        request: inference_pb2.GetModelPathsRequest,  # noqa: ARG002
        context: Context,  # noqa: ARG002
    ) -> inference_pb2.GetModelPathsResponse:
        """The registered paths, sorted."""
        specs = [inference_pb2.ModelSpec(model_path=path) for path in self._client.get_model_paths()]
        return inference_pb2.GetModelPathsResponse(model_specs=specs)


@asynccontextmanager
async def open_inference(
    config: InferenceConfig | None, address: str | None, *, clock: Clock, fetch_timeout_s: float
) -> AsyncIterator[InferenceSide]:
    """The side that the configuration asks for, until the block ends.

    With both a section and an address the models of this process are served to others and scripts use the address.
    fetch_timeout_s: of each request to a bucket.
    Raises ModelListError or CodeFetchError if there is a bucket whose list cannot be used.
    """
    async with AsyncExitStack() as stack:
        servicer: InferenceServicer | None = None
        hooks: Mapping[str, HostHook] = {}
        if config is not None:
            client = await stack.enter_async_context(
                InferenceClient(
                    timeout_s=config.timeout_ms / 1000,
                    python=config.python,
                    memory_mb=config.memory_mb,
                    threads=config.threads,
                )
            )
            if config.models is not None:
                bucket = open_model_bucket(config.models, config.model_list, timeout_s=fetch_timeout_s)
                follower = ModelListFollower(client, bucket, clock)
                try:
                    await follower.sync()
                except AdytonError as error:
                    raise error.inside(config.models) from error.__cause__
                task = asyncio.create_task(follower.run(config.fetch_period_ms))
                stack.push_async_callback(_cancelled, task)
            servicer, hooks = InferenceServicer(client), client.hooks()
        if address is not None:
            channel = open_channel(address)
            stack.push_async_callback(channel.close, None)
            remote = RemoteInference(channel)
            hooks = {"runInference": remote.run_inference, "getModelPaths": remote.get_model_paths}
        yield InferenceSide(hooks, servicer)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
