"""Any interleaving of changes and requests, over a real model with two slots for four adapters
and a KV cache that does not hold all that runs."""

from __future__ import annotations

import tempfile
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, given, settings

from inferd.adapters.library import generation_of
from tests.adapters.interleaving import Expected, Interleaving, Step, steps
from tests.adapters.native import BLOCK_BYTES, PROMPTS, engine, greedy
from tests.adapters.world import world_over


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
