"""A tiny real model, and requests to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inferd.engines import catalog
from inferd.engines.base import EngineSpec
from inferd.engines.local import LocalEngine
from inferd.messages import Caller, Chunk, Generate
from tests.adapters.interleaving import MOST_TOKENS, Tokens
from tests.adapters.world import GatedEngine, World

PROMPTS: list[Tokens] = [tuple(range(20, 34)), (*range(20, 28), 60, 61, 62)]
BLOCK_SIZE = 4
BLOCK_BYTES = 2 * 3 * 3 * 10 * 4 * BLOCK_SIZE  # K and V, layers, heads, their width, float32


async def engine(base: Path, **spec: Any) -> GatedEngine:
    """A native engine, started."""
    fields: dict[str, Any] = {"device": "cpu", "dtype": "float32", "num_threads": 1}
    fields |= {"model": str(base), "block_size": BLOCK_SIZE, "max_model_len": 64}
    whole = EngineSpec(**fields | spec)
    made = GatedEngine(LocalEngine(catalog.find("native"), whole))
    await made.start(lambda progress: None)
    return made


async def greedy(here: World, model: str, prompt: Tokens) -> Tokens:
    request = Generate(
        model=model, prompt=prompt, max_tokens=MOST_TOKENS, temperature=0.0, ignore_eos=True
    )
    async with here.service.stream(request, Caller(), request_id="r") as outputs:
        chunks = [each async for each in outputs if isinstance(each, Chunk)]
    return tuple(token for chunk in chunks for token in chunk.token_ids)
