"""Adapters over a base whose weights are in int8: they add to its layers' outputs as to any."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from inferd.engines.native.decoder import Decoder, load_decoder
from inferd.messages import AdapterFailed, AdapterInfo
from inferd.peft_files import TENSORS
from tests.engines.native.adapters import made
from tests.engines.native.adapters.cores import Expected, ask, load, make, tokens_of

CPU = torch.device("cpu")
PROMPTS = ((5, 6, 7), (9,), (3, 2, 1, 8))


@pytest.fixture(scope="module")
def int8(folder: Path) -> Decoder:
    return load_decoder(
        folder, dtype=None, device=CPU, on_progress=lambda done, total: None, quantization="int8"
    )


def test_their_tokens_are_mostly_those_over_floats(
    int8: Decoder, adapters: dict[str, Path], expected: Expected
) -> None:
    core = make(int8)
    load(core, adapters, *adapters)
    same = own = 0
    for name in adapters:
        for prompt in PROMPTS:
            [found] = tokens_of(core, ask(name, name, prompt, 1))
            same += found == expected(prompt, name)[0]
            own += found != expected(prompt, "")[0]
    assert same >= 15  # of 18
    assert own >= 12


def test_alone_and_in_company(int8: Decoder, adapters: dict[str, Path]) -> None:
    """An adapter's rows change nobody else's."""
    core, other = make(int8), make(int8)
    load(core, adapters, "g0", "g1")
    for prompt in PROMPTS:
        assert tokens_of(core, ask("a", "", prompt)) == tokens_of(other, ask("a", "", prompt))


def test_copies_of_the_base_are_compared_as_the_base_is_kept(
    int8: Decoder, folder: Path, tmp_path: Path
) -> None:
    good = made.write_adapter(
        folder, tmp_path / "good", r=3, target_modules=["embed_tokens", "lm_head", "up_proj"]
    )
    core = make(int8)
    [news] = load(core, {"good": good}, "good")
    assert isinstance(news, AdapterInfo)
    tensors = load_file(good / TENSORS)
    [head] = [name for name in tensors if name.endswith("lm_head.base_layer.weight")]
    tensors[head] = tensors[head] * 1.01
    save_file(tensors, good / TENSORS)
    [news] = load(core, {"bad": good}, "bad")
    assert isinstance(news, AdapterFailed)
    assert "differs from the base's" in news.message
