"""Engines of every kind, for the tests of what every engine promises."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from inferd.engines import catalog
from inferd.engines.base import Engine, EngineSpec
from inferd.engines.host import HostEngine
from inferd.engines.local import LocalEngine
from tests.engines.engines_under_test import HIDDEN, MAX_LEN, VOCAB, Make, Start

KINDS = [(name, place) for name in ("echo", "native") for place in ("local", "child")]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen3 of a few kilobytes."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=VOCAB,
        hidden_size=HIDDEN,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=MAX_LEN,
    )
    folder = tmp_path_factory.mktemp("qwen3")
    Qwen3ForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(params=KINDS, ids="-".join, scope="module")
def kind(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Which core, and where it runs."""
    found: tuple[str, str] = request.param
    return found


@pytest.fixture(scope="module")
def make(kind: tuple[str, str], request: pytest.FixtureRequest) -> Make:
    """Makes an engine of the kind under test, not started; keywords override its spec."""
    name, place = kind
    if name == "echo":
        model = f"echo:vocab_size={VOCAB},delay=0.001"
    else:
        model = str(request.getfixturevalue("checkpoint"))

    def make(**overrides: object) -> Engine:
        fields: dict[str, object] = {
            "engine": name,
            "model": model,
            "device": "cpu",
            "dtype": "float32",
            "max_model_len": MAX_LEN,
            "max_batch_size": 8,
            "max_batch_tokens": 64,
            "kv_cache_bytes": 1 << 20,
            "num_threads": 1,
        }
        spec = EngineSpec(**{**fields, **overrides})  # type: ignore[arg-type]
        return HostEngine(spec) if place == "child" else LocalEngine(catalog.find(name), spec)

    return make


@pytest.fixture(scope="module")
async def engine(make: Make) -> AsyncIterator[Engine]:
    """A running engine that tests share; they leave it idle."""
    engine = make()
    await engine.start(lambda progress: None)
    yield engine
    await engine.close()


@pytest.fixture
async def start(make: Make) -> AsyncIterator[Start]:
    """Starts an engine for one test; keywords override its spec."""
    async with AsyncExitStack() as stack:

        async def start(**overrides: object) -> Engine:
            engine = make(**overrides)
            stack.push_async_callback(engine.close)
            await engine.start(lambda progress: None)
            return engine

        yield start
