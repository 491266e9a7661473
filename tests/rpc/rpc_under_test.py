"""A gRPC server over the echo engine, and clients of it, in one event loop."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2_grpc

from inferd.auth import Auth
from inferd.engines.base import Engine
from inferd.rpc.server import RpcServer
from inferd.service import Service
from inferd.sources import PathPolicy
from inferd_proto.kserve.inference_pb2_grpc import GRPCInferenceServiceStub
from inferd_proto.v1 import inference_pb2 as pb
from inferd_proto.v1.control_pb2_grpc import ControlStub
from inferd_proto.v1.inference_pb2_grpc import InferenceStub
from tests.serving import serving


@dataclass
class Rpc:
    """A running server and stubs on one channel to it."""

    service: Service
    server: RpcServer
    port: int
    channel: aio.Channel

    def __post_init__(self) -> None:
        self.raw: Any = self.channel  # for methods by path, with bytes
        self.inference = InferenceStub(self.channel)
        self.control = ControlStub(self.channel)
        self.kserve = GRPCInferenceServiceStub(self.channel)
        self.health: Any = health_pb2_grpc.HealthStub(self.channel)  # type: ignore[no-untyped-call]

    async def running(self, count: int) -> None:
        """Wait until so many sequences run."""
        while (await self.engine.stats()).running != count:
            pass

    @property
    def engine(self) -> Engine:
        return self.service.registry.resolve("echo").engine

    def over(self, channel: aio.Channel) -> Rpc:
        """The same server over another channel."""
        return Rpc(self.service, self.server, self.port, channel)

    async def events(self, request: pb.GenerateRequest) -> list[pb.GenerateEvent]:
        return [event async for event in self.inference.GenerateStream(request)]


@asynccontextmanager
async def listening(
    service: Service,
    *,
    keys: Sequence[str] = (),
    paths: PathPolicy = PathPolicy(),  # noqa: B008 (frozen)
    max_message_bytes: int = 2**20,
) -> AsyncIterator[Rpc]:
    """A server over `service`."""
    server = RpcServer(service, Auth(keys), paths=paths, max_message_bytes=max_message_bytes)
    port = server.bind("127.0.0.1", 0)
    await server.start()
    try:
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Rpc(service, server, port, channel)
    finally:
        await server.stop(0)


@asynccontextmanager
async def rpc(
    *, keys: Sequence[str] = (), max_message_bytes: int = 2**20, **options: Any
) -> AsyncIterator[Rpc]:
    """A server over `serving(**options)`, which checks that nothing is left at the end."""
    async with serving(**options) as setup:
        limits: Any = {"keys": keys, "max_message_bytes": max_message_bytes}
        async with listening(setup.service, **limits) as server:
            yield server


def asking(text: str = "Hello world", **fields: Any) -> pb.GenerateRequest:
    """A request for eight tokens."""
    fields.setdefault("stopping", pb.Stopping(max_tokens=8))
    return pb.GenerateRequest(model=fields.pop("model", "echo"), text=text, **fields)


def kinds(events: Sequence[pb.GenerateEvent]) -> list[str | None]:
    return [event.WhichOneof("event") for event in events]


@dataclass
class Refusal:
    """A call's status."""

    code: StatusCode
    details: str
    metadata: dict[str, str]


async def refused(call: Awaitable[Any]) -> Refusal:
    """The status with which `call` fails."""
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    error = caught.value
    metadata = {key: str(value) for key, value in error.trailing_metadata()}
    return Refusal(error.code(), error.details() or "", metadata)


async def drained(stream: AsyncIterable[Any]) -> list[Any]:
    """All that a stream brings."""
    return [each async for each in stream]
