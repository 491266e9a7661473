"""Health and reflection, as probes and tools ask for them."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc import StatusCode
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from inferd.admission import Admission
from inferd.lifecycle import Failure, State
from inferd.metrics import Metrics
from inferd.registry import Entry, Registry
from inferd.rpc.server import SERVICES
from inferd.service import Service
from tests.rpc.rpc_under_test import Rpc, drained, listening, refused, rpc

pytestmark = pytest.mark.anyio

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


def about(service: str = "") -> health_pb2.HealthCheckRequest:
    return health_pb2.HealthCheckRequest(service=service)


async def checked(server: Rpc, service: str = "") -> int:
    status: int = (await server.health.Check(about(service))).status
    return status


async def test_health_follows_the_model() -> None:
    async with rpc() as server:
        assert [await checked(server, name) for name in ("", "echo", "other")] == [SERVING] * 3
        await server.engine.close()
        assert [await checked(server, name) for name in ("", "echo")] == [NOT_SERVING] * 2


async def test_health_knows_no_other_name() -> None:
    async with rpc() as server:
        refusal = await refused(server.health.Check(about("nobody")))
        watched = server.health.Watch(about("nobody"))
        assert (await anext(aiter(watched))).status == UNKNOWN
        watched.cancel()
    assert refusal.code == StatusCode.NOT_FOUND


async def test_a_server_without_models_is_not_serving() -> None:
    service = Service(Registry(), Admission(), Metrics())
    async with listening(service) as server:
        assert await checked(server) == NOT_SERVING
        assert await checked(server, "echo") == NOT_SERVING


async def test_a_model_beside_the_required_one_answers_for_itself_alone() -> None:
    async with rpc() as server:
        beside = Entry("beside", "0" * 16, 1)
        server.service.registry.enter(beside)
        watched = aiter(server.health.Watch(about("beside")))
        assert (await anext(watched)).status == NOT_SERVING
        assert await checked(server) == SERVING
        beside.deployment = server.service.registry.resolve("echo")
        states: tuple[State, ...] = ("downloading", "deploying", "running")
        for state in states:
            beside.move(state)
        assert (await anext(watched)).status == SERVING
        beside.move("failed", Failure("crashed", "It ended"))
        assert (await anext(watched)).status == NOT_SERVING
        server.service.registry.remove(beside)
        assert (await anext(watched)).status == UNKNOWN
        assert await checked(server) == SERVING


async def test_watching_tells_each_change() -> None:
    async with rpc() as server:
        watched = aiter(server.health.Watch(about()))
        assert (await anext(watched)).status == SERVING
        server.service.admission.begin_drain()
        assert (await anext(watched)).status == NOT_SERVING


async def test_watching_ends_with_the_server() -> None:
    async with rpc() as server:
        watched = server.health.Watch(about("echo"))
        assert (await anext(aiter(watched))).status == SERVING
        await server.server.stop(30)
        assert await drained(watched) == []


async def test_all_are_listed() -> None:
    async with rpc() as server:
        listed = await server.health.List(health_pb2.HealthListRequest())
    assert {name: each.status for name, each in listed.statuses.items()} == {
        "": SERVING,
        "echo": SERVING,
    }


async def test_probes_need_no_key() -> None:
    async with rpc(keys=["secret"]) as server:
        assert await checked(server, "echo") == SERVING
        watched = server.health.Watch(about())
        assert (await anext(aiter(watched))).status == SERVING
        watched.cancel()


def reflected(port: int) -> tuple[list[str], Any]:
    """The services' names and an answer, by a client that has none of the generated code."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        pool = DescriptorPool(database)
        method = pool.FindServiceByName("inferd.v1.Inference").methods_by_name["Generate"]
        asked, answered = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
        call = channel.unary_unary(
            "/inferd.v1.Inference/Generate", asked.SerializeToString, answered.FromString
        )
        request = asked(model="echo", text="Hello", stopping={"max_tokens": 2})
        return list(database.get_services()), call(request)


async def test_a_tool_can_call_what_reflection_tells() -> None:
    async with rpc() as server:
        services, answer = await asyncio.to_thread(reflected, server.port)
    assert set(services) == set(SERVICES)
    assert answer.choices[0].text == "He"


async def test_a_malformed_reflection_request() -> None:
    async with rpc() as server:
        path = f"/{SERVICES[-1]}/ServerReflectionInfo"
        refusal = await refused(drained(server.raw.stream_stream(path)(iter([b"\xff"]))))
    assert refusal.code == StatusCode.INVALID_ARGUMENT
