"""`Control.LoadLora`, `UnloadLora`, `ListLoras`, and metadata that name what answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode

from inferd.sources import PathPolicy
from inferd_proto.kserve import inference_pb2 as kserve
from inferd_proto.v1 import control_pb2 as pb
from inferd_proto.v1 import inference_pb2
from tests.adapters.world import World, world
from tests.rpc.rpc_under_test import Rpc, asking, listening, refused
from tests.serving import serving

pytestmark = pytest.mark.anyio

EVERYWHERE = PathPolicy(everywhere=True)


@dataclass
class Both:
    world: World
    rpc: Rpc

    async def load(self, name: str, *says: int, **fields: Any) -> pb.Lora:
        request = pb.LoadLoraRequest(name=name, source=self.world.folder(*says), **fields)
        return await self.rpc.control.LoadLora(request)

    async def listed(self, **fields: Any) -> list[pb.Lora]:
        return list((await self.rpc.control.ListLoras(pb.ListLorasRequest(**fields))).loras)


@asynccontextmanager
async def both(path: Path, paths: PathPolicy = EVERYWHERE) -> AsyncIterator[Both]:
    async with world(path) as w, listening(w.service, paths=paths) as rpc:
        yield Both(w, rpc)


async def test_an_adapter_is_loaded_listed_and_unloaded(tmp_path: Path) -> None:
    async with both(tmp_path) as b:
        loaded = await b.load("pirate", 5, 6)
        assert (loaded.name, loaded.base) == ("pirate", "echo")
        assert loaded.state == pb.LORA_STATE_ACTIVE
        assert (loaded.rank, list(loaded.modules)) == (4, ["q_proj"])
        assert not loaded.HasField("revision")
        assert not loaded.HasField("canary")
        assert await b.listed() == [loaded] == await b.listed(base="echo")
        assert await b.listed(base="another") == []
        info = await b.rpc.control.GetModelInfo(pb.GetModelInfoRequest(model="pirate"))
        assert (info.name, info.version) == ("pirate", loaded.generation)
        ready = kserve.ModelReadyRequest(name="pirate")
        assert (await b.rpc.kserve.ModelReady(ready)).ready
        left = await b.rpc.control.UnloadLora(pb.UnloadLoraRequest(name="pirate", wait=True))
        assert not left.HasField("lora")
        assert await b.listed() == []


async def test_loading_again_is_no_conflict_and_replacing_is_asked_for(tmp_path: Path) -> None:
    async with both(tmp_path) as b:
        first = await b.load("pirate", 5)
        assert (await b.load("pirate", 5)).generation == first.generation
        conflict = await refused(b.load("pirate", 6))
        assert conflict.code == StatusCode.ALREADY_EXISTS
        replaced = await b.load("pirate", 6, replace=True)
        assert list(replaced.previous) == [first.generation]


async def test_what_drains_is_shown_and_ends_at_its_deadline(tmp_path: Path) -> None:
    async with both(tmp_path) as b:
        await b.load("pirate", 5)
        request = asking(model="pirate", stopping=inference_pb2.Stopping(max_tokens=4000))
        stream = aiter(b.rpc.inference.GenerateStream(request))
        await anext(stream)
        left = await b.rpc.control.UnloadLora(pb.UnloadLoraRequest(name="pirate"))
        assert (left.lora.state, left.lora.in_flight) == (pb.LORA_STATE_DRAINING, 1)
        ending = pb.UnloadLoraRequest(name="pirate", deadline_seconds=0, wait=True)
        await b.rpc.control.UnloadLora(ending)
        *_, last = [event async for event in stream]
        assert last.failed.code == "adapter_unloaded"


async def test_refusals(tmp_path: Path) -> None:
    async with both(tmp_path, PathPolicy()) as b:
        control = b.rpc.control
        forbidden = await refused(b.load("pirate", 5))
        assert forbidden.code == StatusCode.PERMISSION_DENIED
        assert forbidden.metadata["inferd-error-param"] == "source"
        nameless = await refused(control.LoadLora(pb.LoadLoraRequest(source="a/b")))
        assert (nameless.code, nameless.metadata["inferd-error-param"]) == (
            StatusCode.INVALID_ARGUMENT,
            "name",
        )
        unknown = await refused(control.UnloadLora(pb.UnloadLoraRequest(name="pirate")))
        assert unknown.code == StatusCode.NOT_FOUND
        for seconds in (-1.0, float("nan"), float("inf")):
            wrong = pb.UnloadLoraRequest(name="pirate", deadline_seconds=seconds)
            assert (await refused(control.UnloadLora(wrong))).code == StatusCode.INVALID_ARGUMENT


async def test_an_adapter_that_does_not_fit(tmp_path: Path) -> None:
    async with both(tmp_path) as b:
        source = b.world.folder(5, use_dora=True)
        request = pb.LoadLoraRequest(name="pirate", source=source)
        wrong = await refused(b.rpc.control.LoadLora(request))
        assert wrong.code == StatusCode.INVALID_ARGUMENT
        assert "DoRA" in wrong.details
        assert await b.listed() == []


async def test_a_server_without_adapters_says_so() -> None:
    async with serving() as setup, listening(setup.service) as rpc:
        answer = await refused(rpc.control.ListLoras(pb.ListLorasRequest()))
        assert answer.code == StatusCode.INVALID_ARGUMENT
        assert "no adapters" in answer.details


async def test_metadata_name_the_generation(tmp_path: Path) -> None:
    async with both(tmp_path) as b:
        generation = (await b.load("pirate", 5)).generation
        infer = kserve.ModelInferRequest(model_name="pirate")
        text = infer.inputs.add(name="text_input", datatype="BYTES", shape=[1])
        text.contents.bytes_contents.append(b"Hello")
        for model, expected in (("pirate", generation), ("echo", None)):
            infer.model_name = model
            calls: list[Any] = [
                b.rpc.inference.Generate(asking(model=model)),
                b.rpc.inference.GenerateStream(asking(model=model)),
                b.rpc.kserve.ModelInfer(infer),
            ]
            for call in calls:
                metadata = dict(await call.initial_metadata())
                assert metadata.get("x-inferd-adapter") == expected
