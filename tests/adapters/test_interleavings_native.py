"""Any interleaving of changes and requests, over a real model with two slots for four adapters
and a KV cache that does not hold all that runs."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings

from inferd.adapters.library import generation_of
from inferd.engines import catalog
from inferd.engines.base import EngineSpec
from inferd.engines.local import LocalEngine
from inferd.messages import Caller, Chunk, Generate
from tests.adapters.interleaving import MOST_TOKENS, Expected, Interleaving, Step, Tokens, steps
from tests.adapters.world import GatedEngine, World, world_over
from tests.engines.native import tiny
from tests.engines.native.adapters import made

PROMPTS: list[Tokens] = [tuple(range(20, 34)), (*range(20, 28), 60, 61, 62)]
BLOCK_SIZE = 4
BLOCK_BYTES = 2 * 3 * 3 * 10 * 4 * BLOCK_SIZE  # K and V, layers, heads, their width, float32


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_checkpoint("llama", tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def sources(base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Folders of four adapters by peft."""
    home = tmp_path_factory.mktemp("adapters")
    return [
        str(made.write_adapter(base, home / str(n), seed=n, std=0.3, **config))
        for n, config in enumerate(made.EIGHT[:4])
    ]


async def engine(base: Path, **spec: Any) -> GatedEngine:
    """A native engine, started."""
    fields: dict[str, Any] = {"device": "cpu", "dtype": "float32", "num_threads": 1}
    fields |= {"model": str(base), "block_size": BLOCK_SIZE, "max_model_len": 64}
    whole = EngineSpec(**fields | spec)
    made = GatedEngine(LocalEngine(catalog.find("native"), whole))
    await made.start(lambda progress: None)
    return made


@pytest.fixture(scope="module")
def expected(base: Path, sources: list[str]) -> Expected:
    """What each generation says alone: nothing else runs, is cached or was loaded before."""
    found: Expected = {}

    async def alone(source: str | None) -> None:
        with tempfile.TemporaryDirectory() as name:
            one = await engine(base, prefix_cache=False, max_adapters=1)
            async with world_over(Path(name), one) as here:
                if source is not None:
                    await here.adapters.load("a", source)
                generation = generation_of(Path(source)) if source is not None else ""
                for prompt in PROMPTS:
                    model = "a" if source is not None else "echo"
                    found[generation, prompt] = await greedy(here, model, prompt)

    for source in (None, *sources):
        anyio.run(alone, source)
    return found


async def greedy(here: World, model: str, prompt: Tokens) -> Tokens:
    request = Generate(
        model=model, prompt=prompt, max_tokens=MOST_TOKENS, temperature=0.0, ignore_eos=True
    )
    async with here.service.stream(request, Caller(), request_id="r") as outputs:
        chunks = [each async for each in outputs if isinstance(each, Chunk)]
    return tuple(token for chunk in chunks for token in chunk.token_ids)


def test_generations_differ(expected: Expected) -> None:
    assert len(set(expected.values())) == len(expected) == 10


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=steps)
def test_each_request_gets_its_generations_tokens_and_nothing_leaks(
    steps: list[Step], base: Path, sources: list[str], expected: Expected
) -> None:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as name:
            tight = {"max_adapters": 2, "max_batch_size": 4, "kv_cache_bytes": 24 * BLOCK_BYTES}
            one = await engine(base, **tight)
            async with world_over(Path(name), one, keep_previous=2) as here:
                await Interleaving(here, sources, PROMPTS).run(steps, expected)

    anyio.run(run)
