"""Tensors and settings under llama.cpp's names."""

from __future__ import annotations

import pytest

from benchmarks.models.shapes import SMALL
from benchmarks.models.weights import parameters
from benchmarks.peers.gguf_names import settings, tensor_name


def test_every_tensor_has_a_name_of_its_own() -> None:
    names = [tensor_name(each.name) for each in parameters(SMALL)]
    assert len(set(names)) == len(names) == 2 + 11 * SMALL.layers
    assert tensor_name("model.layers.3.self_attn.k_norm.weight") == "blk.3.attn_k_norm.weight"
    assert tensor_name("model.embed_tokens.weight") == "token_embd.weight"


@pytest.mark.parametrize("name", ["lm_head.weight", "model.layers.0.self_attn.q_proj.bias"])
def test_other_tensors_have_none(name: str) -> None:
    with pytest.raises(KeyError):
        tensor_name(name)


def test_integers_stay_integers() -> None:
    found = settings(SMALL.config())
    assert found["qwen3.attention.head_count_kv"] == SMALL.kv_heads
    assert isinstance(found["qwen3.rope.freq_base"], float)
    assert isinstance(found["qwen3.block_count"], int)
