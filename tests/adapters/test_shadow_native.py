"""What a shadow reports of real models is the difference of their logprobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferd.messages import Caller, Generate, Prompt
from tests.adapters.interleaving import MOST_TOKENS
from tests.adapters.native import PROMPTS, engine, greedy
from tests.adapters.test_shadow import report
from tests.adapters.world import World, world_over

pytestmark = pytest.mark.anyio


async def scored(here: World, model: str, tokens: tuple[int, ...], after: int) -> list[float]:
    """The logprobs of `tokens` behind the first `after`, as a client asks for them."""
    request = Generate(model=model, prompt=tokens, max_tokens=1, prompt_logprobs=0)
    async with here.service.stream(request, Caller(), request_id="r") as outputs:
        [prompt] = [each async for each in outputs if isinstance(each, Prompt)]
    return [each.logprob for each in prompt.logprobs[after:] if each is not None]


async def test_differences_are_those_of_the_logprobs(
    tmp_path: Path, base: Path, sources: list[str]
) -> None:
    async with world_over(tmp_path, await engine(base)) as here:
        one = await here.adapters.load("a", sources[0])
        two = (await here.adapters.shadow("a", sources[1])).shadow
        assert two is not None
        prompt = PROMPTS[0]
        tokens = (*prompt, *await greedy(here, "a", prompt))
        found = await report(here)
        current, candidate = [
            await scored(here, f"a:{each[:8]}", tokens, len(prompt))
            for each in (one.generation, two.generation)
        ]
        changes = [b - a for a, b in zip(current, candidate, strict=True)]
        assert found.tokens == len(changes) == MOST_TOKENS
        assert found.mean == pytest.approx(sum(changes) / len(changes), abs=1e-5)
        assert found.mean_abs == pytest.approx(sum(map(abs, changes)) / len(changes), abs=1e-5)
        assert found.max_abs == pytest.approx(max(map(abs, changes)), abs=1e-5)
        assert found.mean < -0.1  # the candidate finds the current one's choices unlikelier
