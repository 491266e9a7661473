"""A tiny model and adapters for it, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engines.native import tiny
from tests.engines.native.adapters import made


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_checkpoint("llama", tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def sources(base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Folders of four adapters by peft."""
    home = tmp_path_factory.mktemp("adapters")
    return [
        str(made.write_adapter(base, home / str(n), seed=n, std=0.3, **config))
        for n, config in enumerate(made.EIGHT[:4])
    ]
