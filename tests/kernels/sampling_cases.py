"""Logits and wishes to choose by, what choices have in common, and the noise in plain Python."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import strategies as st

from inferd_kernels.dispatch import only
from inferd_kernels.sampling import HEALTHY, Adjustment, Choice, Draw, Row, Want, choose

VOCAB = 23
MASK64 = (1 << 64) - 1


def logits_of(seed: int, rows: int = 1, vocab: int = VOCAB, scale: float = 2.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, vocab, generator=generator) * scale


def mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK64
    return z ^ (z >> 31)


def python_gumbel(seed: int, position: int, token: int) -> float:
    gamma = 0x9E3779B97F4A7C15
    stream = mix((mix((seed + gamma) & MASK64) + (position + 1) * gamma) & MASK64)
    bits = mix((stream + (token + 1) * gamma) & MASK64) >> 12
    return -math.log(-math.log1p(-(bits + 0.5) / 2**52))


TOLERANCE = 5e-6  # of logprobs: some ulp in float32

Wish = tuple[Draw, Want | None, Adjustment | None]


def run(implementation: str, logits: torch.Tensor, wishes: list[Wish]) -> Choice:
    with only(implementation):
        return choose(logits, [Row(*wish) for wish in wishes])


def same(a: Choice, b: Choice) -> bool:
    """To the bit."""
    first, second = ((one.tokens, one.health, *(one.scores or ())) for one in (a, b))
    return len(first) == len(second) and all(map(torch.equal, first, second))


def compare(got: Choice, expected: Choice, wishes: list[Wish], vocab: int) -> None:
    assert got.health.tolist() == expected.health.tolist()
    assert got.tokens.tolist() == expected.tokens.tolist()
    for n, (_, want, _) in enumerate(wishes):
        if want is None or got.health[n] != HEALTHY:
            continue
        assert got.scores is not None
        assert expected.scores is not None
        top, extra = min(want.top, vocab), len(want.extra)
        assert got.scores.ranks[n] == expected.scores.ranks[n]
        assert torch.equal(got.scores.top_ids[n, :top], expected.scores.top_ids[n, :top])
        close = [(got.scores.logprobs[n], expected.scores.logprobs[n])]
        close += [(got.scores.top_logprobs[n, :top], expected.scores.top_logprobs[n, :top])]
        close += [(got.scores.extra_logprobs[n, :extra], expected.scores.extra_logprobs[n, :extra])]
        for a, b in close:
            torch.testing.assert_close(a, b, atol=TOLERANCE, rtol=1e-6)


draws = st.builds(
    Draw,
    temperature=st.sampled_from([0.0, 1e-5, 0.3, 1.0, 1.7, 100.0]),
    top_k=st.sampled_from([0, 0, 1, 5, 50, 1000, 10**6]),
    top_p=st.sampled_from([1.0, 1.0, 0.999, 0.9, 0.5, 1e-9, 0.0]),
    min_p=st.sampled_from([0.0, 0.0, 0.01, 0.3, 1.0]),
    seed=st.integers(0, 2**64 - 1),
    position=st.integers(0, 2**40),
)


def adjustment_of(seed: int, vocab: int) -> Adjustment:
    random = np.random.default_rng(seed)
    count = min(vocab, 12)

    def ids() -> np.ndarray:
        return random.permutation(vocab)[:count].astype(np.int64)

    words = random.integers(-(2**31), 2**31, -(-vocab // 32)).astype(np.int32)
    return Adjustment(
        bias_ids=ids(),
        bias=random.standard_normal(count).astype(np.float32) * 5,
        masked_ids=ids()[: count // 4],
        allowed=words if seed % 3 == 0 else None,
        seen_ids=ids(),
        seen_counts=random.integers(0, 4, count),
        repetition=[1.0, 1.3, 0.7][seed % 3],
        presence=0.7,
        frequency=-0.3,
    )


@st.composite
def rows(draw: st.DrawFn, vocab: int) -> Wish:
    extra = tuple(draw(st.lists(st.integers(0, vocab - 1), max_size=3)))
    want = Want(draw(st.sampled_from([0, 1, 5, 20, 200])), extra, draw(st.booleans()))
    change = adjustment_of(draw(st.integers(0, 100)), vocab)
    return (
        draw(draws),
        draw(st.sampled_from([None, want])),
        draw(st.sampled_from([None, None, change])),
    )
