"""What the reference of sampling is made of: noise, filters, chunks."""

from __future__ import annotations

import math

import pytest
import torch

from inferd_kernels.sampling.chunks import row_chunks
from inferd_kernels.sampling.noise import seed_tensor, streams, uniform
from inferd_kernels.sampling.reference import keep_min_p, keep_top_k, keep_top_p
from tests.kernels.sampling_cases import logits_of, mix, python_gumbel


def test_long_rows_go_through_one_by_one() -> None:
    assert len(list(row_chunks(logits_of(6, 5, vocab=150_000)))) == 5


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1, 2**63, 2**64 - 1])
def test_noise_is_the_documented_hash(seed: int) -> None:
    signed = seed - 2**64 if seed >= 2**63 else seed
    seeds = seed_tensor([seed], torch.device("cpu"))
    assert seeds.tolist() == [signed]
    noise = -(-(-uniform(streams(seeds, torch.tensor([7])), torch.arange(50))).log1p()).log()
    assert noise.tolist() == pytest.approx([python_gumbel(seed, 7, t) for t in range(50)], abs=1e-9)


def test_splitmix64_known_value() -> None:
    # The first output of SplitMix64 seeded with 0, from Vigna's splitmix64.c.
    assert mix(0x9E3779B97F4A7C15) == 0xE220A8397B1DCDAF


def test_ties_at_a_border_stay() -> None:
    x = torch.tensor([[0.0, -1.0, -1.0, -2.0]])
    assert keep_top_k(x, [2]).tolist() == [[True, True, True, False]]
    assert keep_top_p(x, [0.6]).tolist() == [[True, True, True, False]]
    assert keep_min_p(x, [math.exp(-1.0) * 0.999]).tolist() == [[True, True, True, False]]


def test_nucleus_larger_than_the_first_guess() -> None:
    x = logits_of(2, 2, vocab=6000, scale=0.01)
    x -= x.amax(-1, keepdim=True)
    kept = keep_top_p(x, [0.8, 0.01]).sum(-1).tolist()
    mass = (x.softmax(-1) * keep_top_p(x, [0.8, 0.01])).sum(-1)
    assert 4500 < kept[0] < 4900
    assert 40 < kept[1] < 70
    assert torch.all(mass >= torch.tensor([0.8, 0.01]))
