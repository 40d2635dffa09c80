"""Inference beside bidding: the process of this party's own models, or another party process over gRPC (§9)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import orjson

from adyton.auction.config import InferenceConfig
from adyton.auction.errors import ConfigError, DownstreamError
from adyton.auction.services.clients import open_channel
from adyton.protocol.messages import inference_pb2, inference_pb2_grpc
from adyton.sandbox.values import HostHook


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


@asynccontextmanager
async def open_inference(config: InferenceConfig | None, address: str | None) -> AsyncIterator[InferenceSide]:
    """The side that the configuration asks for, until the block ends. An address wins over a section."""
    if address is not None:
        channel = open_channel(address)
        remote = RemoteInference(channel)
        try:
            yield InferenceSide({"runInference": remote.run_inference, "getModelPaths": remote.get_model_paths})
        finally:
            await channel.close(None)
        return
    if config is None:
        raise ConfigError("neither an inference section nor an address", where="inference")
    raise ConfigError("models in this process are not supported by this version", where="inference")
    yield InferenceSide({})
