"""`inferd.v1.Control`: information, load, aborting and draining."""

from __future__ import annotations

from typing import get_args

import pytest
from grpc import StatusCode

from inferd import __version__
from inferd.engines.base import EngineState
from inferd.lifecycle import STATES, Failure
from inferd.registry import Entry
from inferd.rpc import control
from inferd.rpc.control import is_local
from inferd.rpc.server import MAX_MESSAGE_BYTES
from inferd.web.app import MAX_BODY_BYTES
from inferd_proto.v1 import control_pb2 as pb
from inferd_proto.v1 import inference_pb2
from tests.rpc.rpc_under_test import asking, drained, kinds, refused, rpc

pytestmark = pytest.mark.anyio

LONG = inference_pb2.Stopping(max_tokens=4000)


async def test_the_server_tells_its_limits() -> None:
    async with rpc(max_message_bytes=12_345, limit=7) as server:
        info = await server.control.GetServerInfo(pb.GetServerInfoRequest())
    assert info.version == __version__
    assert (info.limits.message_bytes, info.limits.n, info.limits.sequences) == (12_345, 16, 7)
    assert set(info.formats) == {"json_object", "json_schema", "regex", "choice", "grammar"}


def test_http_and_grpc_take_requests_of_the_same_size() -> None:
    assert MAX_MESSAGE_BYTES == MAX_BODY_BYTES


async def test_models_are_described() -> None:
    async with rpc() as server:
        listed = await server.control.ListModels(pb.ListModelsRequest())
        by_alias = await server.control.GetModelInfo(pb.GetModelInfoRequest(model="other"))
        unknown = await refused(server.control.GetModelInfo(pb.GetModelInfoRequest(model="no")))
    assert list(listed.models) == [by_alias]
    assert by_alias.name == "echo"
    assert list(by_alias.aliases) == ["other"]
    assert by_alias.state == pb.MODEL_STATE_READY
    assert by_alias.engine.max_model_len == 4096
    assert not by_alias.HasField("version")
    assert unknown.code == StatusCode.NOT_FOUND


async def test_models_that_come_and_go_are_listed_with_their_states() -> None:
    async with rpc() as server:
        coming = Entry("coming", "1" * 16, 7, aliases=("soon",))
        failed = Entry("failed", "2" * 16, 8, replaced_by="echo")
        failed.move("failed", Failure("not_found", "There is no such model"))
        for entry in (coming, failed):
            server.service.registry.enter(entry)
        listed = await server.control.ListModels(pb.ListModelsRequest())
    first, second, third = listed.models
    assert first.state == pb.MODEL_STATE_READY
    assert (second.name, second.deploy_id, second.created) == ("coming", "1" * 16, 7)
    assert second.state == pb.MODEL_STATE_INITIALIZING
    assert not second.HasField("failure")
    assert third.state == pb.MODEL_STATE_FAILED
    assert (third.failure, third.replaced_by) == ("There is no such model", "echo")


def test_every_state_has_its_number() -> None:
    assert {*get_args(EngineState), *STATES} - {"running", "deleted"} == control._STATES.keys()


async def test_load_is_what_runs_now() -> None:
    async with rpc(options="delay=0.005") as server:
        request = asking(stopping=LONG, sampling=inference_pb2.Sampling(n=2))
        stream = server.inference.GenerateStream(request)
        await server.running(2)
        busy = await server.control.GetLoad(pb.GetLoadRequest(model="echo"))
        stream.cancel()
        await server.running(0)
        idle = await server.control.GetLoad(pb.GetLoadRequest())
    assert (busy.in_flight, busy.limit, busy.draining) == (2, 64, False)
    assert busy.models[0].running == 2
    assert busy.models[0].kv_blocks_used > 0
    assert idle.models[0].HasField("running")  # a zero that is known
    assert idle.models[0].running == 0


async def test_gauges_nobody_knows_are_absent() -> None:
    async with rpc() as server:
        await server.engine.close()
        load = await server.control.GetLoad(pb.GetLoadRequest())
    assert load.models[0].state == pb.MODEL_STATE_CLOSED
    assert not load.models[0].HasField("running")


async def test_a_caller_aborts_its_own_call() -> None:
    async with rpc(options="delay=0.005") as server:
        stream = server.inference.GenerateStream(
            asking(stopping=LONG), metadata=(("x-request-id", "mine"),)
        )
        await anext(aiter(stream))
        reply = await server.control.Abort(
            pb.AbortRequest(request_id="mine"), metadata=(("x-request-id", "mine"),)
        )
        assert reply.aborted == 1  # the call that asks is none of them
        refusal = await refused(drained(stream))
        assert refusal.code == StatusCode.CANCELLED
        assert refusal.metadata["inferd-error-code"] == "aborted"
        await server.running(0)
        again = await refused(server.control.Abort(pb.AbortRequest(request_id="mine")))
        assert again.code == StatusCode.NOT_FOUND


async def test_nobody_aborts_another_callers_call() -> None:
    async with rpc(keys=["a", "b"], options="delay=0.001") as server:
        stream = server.inference.GenerateStream(
            asking(stopping=inference_pb2.Stopping(max_tokens=50)),
            metadata=(("x-request-id", "mine"), ("x-api-key", "a")),
        )
        first = await anext(aiter(stream))
        refusal = await refused(
            server.control.Abort(pb.AbortRequest(request_id="mine"), metadata=(("x-api-key", "b"),))
        )
        assert refusal.code == StatusCode.NOT_FOUND
        events = [first, *await drained(stream)]
    assert kinds(events)[-1] == "usage"


async def test_draining_tells_its_progress_and_refuses_new_work() -> None:
    async with rpc(options="delay=0.005") as server:
        stream = server.inference.GenerateStream(
            asking(stopping=inference_pb2.Stopping(max_tokens=60))
        )
        await anext(aiter(stream))
        drain = server.control.Drain(pb.DrainRequest())
        first = await anext(aiter(drain))
        assert (first.in_flight, first.done) == (1, False)
        refusal = await refused(server.inference.Generate(asking()))
        assert refusal.code == StatusCode.UNAVAILABLE
        assert kinds(await drained(stream))[-1] == "usage"
        last = (await drained(drain))[-1]
        assert (last.in_flight, last.done) == (0, True)
        again = await drained(server.control.Drain(pb.DrainRequest()))
        assert [each.done for each in again] == [True]
        load = await server.control.GetLoad(pb.GetLoadRequest())
        assert load.draining


@pytest.mark.parametrize(
    ("peer", "local"),
    [
        ("ipv4:127.0.0.1:5000", True),
        ("ipv6:%5B::1%5D:5000", True),
        ("ipv6:[::1]:5000", True),
        ("ipv6:%5B::ffff:127.0.0.1%5D:5000", True),
        ("unix:", True),
        ("ipv4:10.0.0.1:5000", False),
        ("ipv6:%5Bfe80::1%5D:5000", False),
        ("ipv6:%5B::ffff:10.0.0.1%5D:5000", False),
        ("", False),
        ("dns:localhost:1", False),
    ],
)
def test_peers_of_this_machine(peer: str, local: bool) -> None:
    assert is_local(peer) is local
