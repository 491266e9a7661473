"""What every engine promises about adapters."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from inferd.engines.base import Engine
from inferd.errors import InvalidRequest, Unavailable
from inferd.messages import Fail, Finish, LoadAdapter, Submit
from tests.engines.engines_under_test import (
    GREEDY,
    HIDDEN,
    Start,
    begun,
    collect,
    generate,
    tokens,
)

pytestmark = pytest.mark.anyio

PROMPT = (5, 9, 11, 2)

MakeAdapter = Callable[..., LoadAdapter]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def adapter(tmp_path: Path) -> MakeAdapter:
    """Writes a random adapter for the tests' Qwen3; keywords go to its config."""
    import torch
    from safetensors.torch import save_file

    def adapter(name: str, *, rank: int = 2, **config: object) -> LoadAdapter:
        folder = tmp_path / name
        folder.mkdir()
        torch.manual_seed(sum(name.encode()))
        at = "base_model.model.model.layers.1.mlp.down_proj"
        tensors = {
            f"{at}.lora_A.weight": torch.randn(rank, 2 * HIDDEN),
            f"{at}.lora_B.weight": 50 * torch.randn(HIDDEN, rank),
        }
        save_file(tensors, folder / "adapter_model.safetensors")
        settings = {
            "peft_type": "LORA",
            "r": rank,
            "lora_alpha": rank,
            "target_modules": ["down_proj"],
            "layers_to_transform": [1],
            **config,
        }
        (folder / "adapter_config.json").write_text(json.dumps(settings))
        return LoadAdapter(name, str(folder))

    return adapter


def request(name: str, adapter: str = "", count: int = 6) -> Submit:
    return Submit(name, PROMPT, count, GREEDY, adapter=adapter)


async def test_is_held_and_changes_what_is_said(engine: Engine, adapter: MakeAdapter) -> None:
    bare = await generate(engine, request("a"))
    info = await engine.load_adapter(adapter("one"))
    assert (info.adapter, info.rank, info.modules) == ("one", 2, ("down_proj",))
    assert info.num_bytes > 0
    assert await generate(engine, request("a", "one")) != bare
    assert await generate(engine, request("a")) == bare
    assert (await engine.stats()).adapters_held == 1
    await engine.drop_adapter("one")
    assert (await engine.stats()).adapters_held == 0


async def test_loading_again_tells_the_same(engine: Engine, adapter: MakeAdapter) -> None:
    load = adapter("one")
    first, second = await asyncio.gather(engine.load_adapter(load), engine.load_adapter(load))
    assert first == second == await engine.load_adapter(load)
    await engine.drop_adapter("one")


async def test_each_gets_its_own_together_as_alone(start: Start, adapter: MakeAdapter) -> None:
    """More adapters than slots, and the bare model among them."""
    engine = await start(max_adapters=2)
    names = ["", "one", "two", "three"]
    for name in names[1:]:
        await engine.load_adapter(adapter(name))
    alone = {name: await generate(engine, request(f"alone-{name}", name)) for name in names}
    assert len({tuple(made) for made in alone.values()}) == 4
    together: list[tuple[str, list[int]]] = []

    async def one(number: int, name: str) -> None:
        together.append((name, await generate(engine, request(f"{name}{number}", name))))

    async with anyio.create_task_group() as group:
        for number in range(24):
            group.start_soon(one, number, names[number % 4])
    assert len(together) == 24
    assert all(made == alone[name] for name, made in together)


async def test_an_unknown_one_is_refused(engine: Engine) -> None:
    [refusal] = await collect(engine, request("a", "nobody"))
    assert isinstance(refusal, Fail)
    assert (refusal.code, refusal.param) == ("invalid", "adapter")
    await engine.drop_adapter("nobody")
    assert await generate(engine, request("a"))


async def test_one_that_does_not_fit_changes_nothing(engine: Engine, adapter: MakeAdapter) -> None:
    with pytest.raises(InvalidRequest, match="128"):
        await engine.load_adapter(adapter("large", rank=128))
    with pytest.raises(InvalidRequest, match=r"(?i)dora"):
        await engine.load_adapter(adapter("dora", use_dora=True))
    with pytest.raises(InvalidRequest, match="adapter_config"):
        await engine.load_adapter(LoadAdapter("none", "/nowhere"))
    assert (await engine.stats()).adapters_held == 0
    for name in ("large", "dora", "none"):
        assert isinstance((await collect(engine, request("a", name)))[-1], Fail)
    assert await generate(engine, request("a"))


async def test_what_runs_ends_before_it_is_gone(engine: Engine, adapter: MakeAdapter) -> None:
    await engine.load_adapter(adapter("one"))
    whole = await generate(engine, request("whole", "one", 100))
    async with begun(engine, request("runs", "one", 100)) as events:
        drop = asyncio.create_task(engine.drop_adapter("one"))
        while (await engine.stats()).running and not drop.done():
            pass
        rest = [event async for event in events]
        assert isinstance(rest[-1], Finish)
        assert tokens(rest) == whole[1:]
    await drop
    assert isinstance((await collect(engine, request("late", "one")))[-1], Fail)


async def test_a_request_after_a_drop_is_refused(engine: Engine, adapter: MakeAdapter) -> None:
    await engine.load_adapter(adapter("one"))
    async with begun(engine, request("runs", "one", 100)):
        drop = asyncio.create_task(engine.drop_adapter("one"))
        await asyncio.sleep(0)
        [refusal] = await collect(engine, request("late", "one"))
        assert isinstance(refusal, Fail)
        assert refusal.param == "adapter"
    await drop


async def test_can_be_dropped_and_loaded_again(engine: Engine, adapter: MakeAdapter) -> None:
    load = adapter("one")
    await engine.load_adapter(load)
    made = await generate(engine, request("a", "one"))
    await asyncio.gather(engine.drop_adapter("one"), engine.load_adapter(load))
    assert await generate(engine, request("a", "one")) == made
    await engine.drop_adapter("one")


async def test_one_that_nobody_waits_for_is_dropped(engine: Engine, adapter: MakeAdapter) -> None:
    load = asyncio.create_task(engine.load_adapter(adapter("one")))
    await asyncio.sleep(0)
    load.cancel()
    await asyncio.wait({load})
    with anyio.fail_after(20):
        while not isinstance((await collect(engine, request("a", "one")))[-1], Fail):
            pass
        await engine.drop_adapter("one")
        while (await engine.stats()).adapters_held:
            pass


async def test_needs_an_engine_that_has_started(start: Start, adapter: MakeAdapter) -> None:
    engine = await start()
    load = adapter("one")
    await engine.load_adapter(load)
    await engine.close()
    with pytest.raises(Unavailable):
        await engine.load_adapter(load)
    await engine.drop_adapter("one")
