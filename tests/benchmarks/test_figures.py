"""Figures drawn from rounds."""

from __future__ import annotations

import pytest

from benchmarks.models.shapes import QWEN3
from benchmarks.peers.figures import (
    Round,
    best_peer,
    decode_flops,
    medians,
    prefill_flops,
    ratios,
    share,
    shares,
    step_bytes,
)
from benchmarks.peers.measures import MEASURES


def turn(group: int, **rates: float) -> Round:
    by_variant = {name: {"decode_1": rate} for name, rate in rates.items()}
    return {
        "group": group,
        "number": 0,
        "load_1min": 0.0,
        "busy_cores": 0.0,
        "ceilings": {},
        "rates": by_variant,
    }


CEILINGS = {"read_bytes_per_s": 5e10, "sgemm_flops_per_s": 2e11, "bf16_flops_per_s": 4e11}
ROUNDS = [
    turn(0, ours=10, llama=5, vllm=8),
    turn(0, ours=30, llama=10, vllm=24),
    turn(0, ours=20, llama=20, vllm=16),
    turn(1, ours=40, slow=1),
]


def test_medians_are_over_all_rounds() -> None:
    assert medians(ROUNDS)["ours"] == {"decode_1": 25}
    assert medians(ROUNDS)["slow"] == {"decode_1": 1}


def test_ratios_are_within_rounds() -> None:
    found = ratios(ROUNDS, "ours")
    assert found["llama"] == {"decode_1": 2}  # of 2, 3 and 1; of the medians it would be 2.5
    assert found["slow"] == {"decode_1": 40}
    assert "ours" not in found


def test_the_best_peer_is_the_one_with_the_smallest_ratio() -> None:
    found = ratios(ROUNDS, "ours")
    assert best_peer(found, ["llama", "vllm", "absent"]) == {"decode_1": pytest.approx(1.25)}


def test_a_step_reads_every_matrix_once() -> None:
    assert step_bytes(QWEN3, "bf16") == pytest.approx(1.192e9, rel=1e-3)
    assert step_bytes(QWEN3, "int8") == step_bytes(QWEN3, "bf16") / 2
    ceilings = CEILINGS | {"read_bytes_per_s": 25e9}
    assert share(QWEN3, MEASURES[0], "bf16", 21, ceilings)["read"] == pytest.approx(1, rel=0.01)
    assert share(QWEN3, MEASURES[1], "bf16", 168, ceilings)["read"] == pytest.approx(1, rel=0.01)


def test_a_prefill_counts_the_head_once_per_sequence() -> None:
    layers = 2 * QWEN3.layer_parameters * 512
    attention = 4 * QWEN3.layers * QWEN3.heads * QWEN3.head_dim * sum(range(1, 513))
    assert prefill_flops(QWEN3, 1, 512) == layers + attention + 2 * QWEN3.head_parameters
    assert prefill_flops(QWEN3, 8, 128) > 8 * prefill_flops(QWEN3, 1, 128) * 0.999


def test_a_token_of_a_long_context_costs_more() -> None:
    more = decode_flops(QWEN3, 101) - decode_flops(QWEN3, 100)
    assert more == 4 * QWEN3.layers * QWEN3.heads * QWEN3.head_dim
    assert decode_flops(QWEN3, 0) > 2 * 596e6


def test_shares_are_of_what_limits() -> None:
    found = shares(QWEN3, MEASURES, {"ours": "bf16"}, {"ours": {"prefill_1x512": 100.0}}, CEILINGS)
    expected = 100 / 512 * prefill_flops(QWEN3, 1, 512) / 2e11
    assert found == {
        "ours": {
            "prefill_1x512": {
                "sgemm": pytest.approx(expected, abs=1e-3),
                "bf16": pytest.approx(expected / 2, abs=1e-3),
            }
        }
    }
