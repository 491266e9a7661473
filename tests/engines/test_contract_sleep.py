"""What every engine promises about sleeping and waking."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import cast

import pytest

from inferd.engines.base import Engine
from inferd.errors import EngineError, StartError, Unavailable
from inferd.messages import Fail, LoadAdapter, SleepLevel, Submit
from tests.engines.engines_under_test import GREEDY, HIDDEN, Start, begun, collect, generate

pytestmark = pytest.mark.anyio

REQUEST = Submit("a", (5, 9, 11, 2), 8, GREEDY)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=[1, 2], ids=["level 1", "level 2"])
def level(request: pytest.FixtureRequest) -> SleepLevel:
    return cast(SleepLevel, request.param)


@pytest.fixture
def adapter(tmp_path: Path) -> LoadAdapter:
    import torch
    from safetensors.torch import save_file

    at = "base_model.model.model.layers.1.mlp.down_proj"
    a, b = torch.ones(2, 2 * HIDDEN), torch.arange(2.0 * HIDDEN).reshape(HIDDEN, 2)
    tensors = {f"{at}.lora_A.weight": a, f"{at}.lora_B.weight": b}
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["down_proj"]}
    config["layers_to_transform"] = [1]
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    return LoadAdapter("one", str(tmp_path))


def state_of(engine: Engine) -> str:
    return engine.state


async def test_says_the_same_after_it_slept(engine: Engine, level: SleepLevel) -> None:
    before = await generate(engine, REQUEST)
    awake = (await engine.stats()).memory
    asleep = await engine.sleep(level)
    assert state_of(engine) == "asleep"
    assert asleep.kv_cache == 0
    assert (asleep.weights == awake.weights) == (level == 1 or awake.weights == 0)
    with pytest.raises(Unavailable):
        await collect(engine, REQUEST)
    woken = await engine.wake()
    assert (woken.weights, woken.kv_cache) == (awake.weights, awake.kv_cache)
    assert state_of(engine) == "ready"
    assert await generate(engine, REQUEST) == before


async def test_holds_its_adapters_in_its_sleep(
    engine: Engine, level: SleepLevel, adapter: LoadAdapter
) -> None:
    await engine.load_adapter(adapter)
    submit = Submit("a", (5, 9, 11, 2), 8, GREEDY, adapter="one")
    before = await generate(engine, submit)
    await engine.sleep(level)
    with pytest.raises(Unavailable):
        await engine.load_adapter(adapter)
    await engine.wake()
    assert await generate(engine, submit) == before
    await engine.drop_adapter("one")


async def test_forgets_an_adapter_that_is_dropped_in_its_sleep(
    engine: Engine, level: SleepLevel, adapter: LoadAdapter
) -> None:
    await engine.load_adapter(adapter)
    await engine.sleep(level)
    await engine.drop_adapter("one")
    await engine.wake()
    [refusal] = await collect(engine, Submit("a", (5, 9), 8, GREEDY, adapter="one"))
    assert isinstance(refusal, Fail)


async def test_does_not_sleep_while_a_stream_is_open(engine: Engine, level: SleepLevel) -> None:
    async with begun(engine, Submit("runs", (1, 2), 100, GREEDY)):
        with pytest.raises(EngineError):
            await engine.sleep(level)
        assert state_of(engine) == "ready"
    await engine.sleep(level)  # at once: its end is awaited
    assert state_of(engine) == "asleep"
    await engine.wake()


async def test_sleeps_deeper_but_not_lighter(engine: Engine) -> None:
    light = await engine.sleep(1)
    assert await engine.sleep(1) == light
    deep = await engine.sleep(2)
    assert deep.weights == 0
    assert await engine.sleep(1) == deep
    await engine.wake()
    assert await generate(engine, REQUEST)


async def test_many_wake_it_once(engine: Engine, level: SleepLevel) -> None:
    await engine.sleep(level)
    memories = await asyncio.gather(*(engine.wake() for _ in range(5)))
    assert len(set(map(str, memories))) == 1
    assert await generate(engine, REQUEST)


async def test_waking_what_is_awake_changes_nothing(engine: Engine) -> None:
    memory = await engine.wake()
    assert memory.weights == engine.info.memory.weights


async def test_can_be_closed_in_its_sleep(start: Start, level: SleepLevel) -> None:
    engine = await start()
    await engine.sleep(level)
    await engine.close()
    assert state_of(engine) == "closed"
    with pytest.raises(EngineError):
        await engine.sleep(level)
    with pytest.raises(StartError):
        await engine.wake()
