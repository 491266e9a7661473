"""What is counted of a step, checked by hand."""

from __future__ import annotations

import pytest

from benchmarks.gpu import counting
from benchmarks.gpu.shapes import LLAMA_8B, QWEN_06B, TINY_LLAMA
from benchmarks.models.shapes import QWEN3


def test_the_large_model_has_its_eight_billion_parameters() -> None:
    embedding = counting.head_parameters(LLAMA_8B)  # not tied: twice
    norms = 65 * 4096
    assert counting.layer_parameters(LLAMA_8B) + 2 * embedding + norms == 8_030_261_248


def test_the_small_model_is_the_one_that_other_benchmarks_write() -> None:
    assert counting.layer_parameters(QWEN_06B) == QWEN3.layer_parameters
    assert counting.head_parameters(QWEN_06B) == QWEN3.head_parameters


def test_a_token_of_context_takes_128_kib() -> None:
    assert counting.kv_bytes(LLAMA_8B) == 128 << 10


def test_bytes_of_a_step() -> None:
    # 1 layer: q 32 x 32, k and v 16 x 32 each, o 32 x 32, three of 48 x 32; head 96 x 32
    layers = 1024 + 512 + 512 + 1024 + 3 * 1536
    assert counting.layer_parameters(TINY_LLAMA) == layers
    cache = 2 * 16 * 4  # of a token: keys and values of one head
    expected = (layers + 96 * 32) * 4 + 3 * 32 * 4 + 3 * 11 * cache + 2 * 3 * 96 * 4
    assert counting.decode_bytes(TINY_LLAMA, 3, 10, itemsize=4) == expected


def test_weights_are_read_once_however_many_sequences_there_are() -> None:
    one, two = (counting.decode_bytes(LLAMA_8B, batch, 100) for batch in (1, 2))
    assert two - one < one / 100


def test_operations_of_a_prompt() -> None:
    layers = counting.layer_parameters(TINY_LLAMA)
    attention = 4 * 32 * (1 + 2 + 3 + 4)
    assert counting.prefill_operations(TINY_LLAMA, 4) == 2 * layers * 4 + 2 * 96 * 32 + attention


def test_an_adapter_has_two_factors_for_each_projection() -> None:
    sides = (32 + 32) + 2 * (32 + 16) + (32 + 32) + 3 * (32 + 48)
    assert counting.adapter_bytes(TINY_LLAMA, 5) == 5 * sides * 2


@pytest.mark.parametrize("batch", [1, 64])
def test_one_sequence_decodes_at_most_at_284_tokens_a_second(batch: int) -> None:
    seconds = counting.decode_bytes(LLAMA_8B, batch, 1088) / 4.3e12
    assert batch / seconds == pytest.approx({1: 284, 64: 11_367}[batch], rel=1e-3)
