"""A tiny model and adapters for it, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from inferd.engines.native.decoder import Decoder, load_decoder
from tests.engines.native import tiny


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama's checkpoint."""
    return tiny.write_checkpoint("llama", tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def model(folder: Path) -> Decoder:
    device = torch.device("cpu")
    return load_decoder(folder, dtype=None, device=device, on_progress=lambda done, total: None)
