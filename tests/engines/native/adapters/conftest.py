"""A tiny model and adapters for it, made once."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch

from inferd.engines.native.decoder import Decoder, load_decoder
from tests.engines.native import tiny
from tests.engines.native.adapters import made
from tests.engines.native.adapters.cores import Expected, ask, load, make, tokens_of


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama's checkpoint."""
    return tiny.write_checkpoint("llama", tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def model(folder: Path) -> Decoder:
    device = torch.device("cpu")
    return load_decoder(folder, dtype=None, device=device, on_progress=lambda done, total: None)


@pytest.fixture(scope="session")
def adapters(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Six generations of equal size, whose greedy answers differ."""
    home = tmp_path_factory.mktemp("adapters")
    return {
        f"g{n}": made.write_adapter(
            folder, home / f"g{n}", seed=n, std=0.3, r=4, target_modules=["q_proj", "down_proj"]
        )
        for n in range(6)
    }


@pytest.fixture(scope="module")
def expected(model: Decoder, adapters: dict[str, Path]) -> Expected:
    """Greedy tokens of an adapter by itself, in an engine of its own."""

    @cache
    def answer(prompt: tuple[int, ...], adapter: str) -> list[int]:
        core = make(model, prefix_cache=False)
        if adapter:
            load(core, adapters, adapter)
        return tokens_of(core, ask("a", adapter, prompt, 12))

    return answer
