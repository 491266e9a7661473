"""Checkpoints of random weights: our engine runs them, and their logits are like a model's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.models.shapes import QWEN3, SMALL
from benchmarks.models.weights import Init, parameters
from benchmarks.models.write import checkpoint
from benchmarks.verify_numbers.drive import drive
from inferd.engines.base import EngineSpec
from inferd.engines.native.core import create
from inferd.messages import Sampling, Submit
from inferd.text.model import load_text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(SMALL, tmp_path_factory.mktemp("models") / "small")


def test_the_qwen3_shape_has_600_million_parameters() -> None:
    total = sum(torch.Size(each.shape).numel() for each in parameters(QWEN3))
    matrices = QWEN3.layer_parameters + QWEN3.head_parameters
    norms = QWEN3.layers * 2 * (QWEN3.hidden + QWEN3.head_dim) + QWEN3.hidden
    assert total == matrices + norms == 596_049_920


def test_a_tensor_depends_on_seed_and_name() -> None:
    tensor = Init("a", (8, 8), 1.0).tensor(1)
    assert torch.equal(tensor, Init("a", (8, 8), 1.0).tensor(1))
    assert not torch.equal(tensor, Init("b", (8, 8), 1.0).tensor(1))
    assert not torch.equal(tensor, Init("a", (8, 8), 1.0).tensor(2))


def test_a_checkpoint_is_written_once(folder: Path) -> None:
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert checkpoint(SMALL, folder) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    assert [each.name for each in folder.parent.iterdir()] == [folder.name]


def test_the_engine_runs_it_and_it_is_neither_flat_nor_sure(folder: Path) -> None:
    spec = EngineSpec(model=str(folder), kv_cache_bytes=1 << 22, num_threads=1)
    core = create(spec, lambda progress: None)
    try:
        sampling = Sampling(temperature=0.0, logprobs=1)
        transcript = drive(core, [Submit("a", tuple(range(40)), 16, sampling)])["a"]
    finally:
        core.close()
    assert len(set(transcript.tokens)) > 4
    assert all(-6 < score.logprob < -0.05 for score in transcript.logprobs)


def test_every_id_is_text_and_text_is_ids(folder: Path) -> None:
    text = load_text(folder)
    tokenizer = text.tokenizer
    words = tokenizer.decode([0, 300, SMALL.vocabulary - 2], skip_special_tokens=False)
    assert tokenizer.encode(words, add_special_tokens=False) == [0, 300, SMALL.vocabulary - 2]
    assert text.eos_ids == {SMALL.vocabulary - 1}
    assert text.chat is not None
