"""Any interleaving of changes and requests, over the echo engine."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import anyio
from hypothesis import HealthCheck, given, settings

from inferd.adapters.library import generation_of
from tests.adapters.folders import write_adapter
from tests.adapters.interleaving import MOST_TOKENS, Expected, Interleaving, Step, Tokens, steps
from tests.adapters.world import world

PROMPTS: list[Tokens] = [(20, 21, 22), (23, 24)]
SAYS: list[Tokens] = [(5, 6), (7,), (8, 9, 10), (11, 5)]


def cycled(tokens: Tokens) -> Tokens:
    return tuple(itertools.islice(itertools.cycle(tokens), MOST_TOKENS))


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps)
def test_each_request_gets_its_generations_tokens_and_nothing_leaks(steps: list[Step]) -> None:
    """Two slots for four adapters; loads that take a moment."""

    async def run() -> None:
        with tempfile.TemporaryDirectory() as name:
            path = Path(name)
            folders = [write_adapter(path / str(i), says) for i, says in enumerate(SAYS)]
            expected: Expected = {("", prompt): cycled(prompt) for prompt in PROMPTS}
            for folder, says in zip(folders, SAYS, strict=True):
                generation = generation_of(folder)
                expected |= {(generation, prompt): cycled(says) for prompt in PROMPTS}
            spec = {"max_adapters": 2, "max_batch_size": 4}
            async with world(path, "adapter_delay=0.0003", spec, keep_previous=2) as here:
                await Interleaving(here, [str(f) for f in folders], PROMPTS).run(steps, expected)

    anyio.run(run)
