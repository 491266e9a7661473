"""Sampling against brute force in plain Python, and its distribution against softmax."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inferd_kernels.sampling import Adjustment, Draw, adjust, sample, score
from tests.kernels.sampling_cases import VOCAB, logits_of, python_gumbel

pytestmark = pytest.mark.usefixtures("implementation")

thoroughly = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def softmax(row: list[float]) -> list[float]:
    top = max(row)
    weights = [math.exp(x - top) for x in row]
    return [w / sum(weights) for w in weights]


def expected_token(row: list[float], draw: Draw) -> int:
    """The whole sampler for one row, in plain Python."""
    if draw.temperature == 0:
        return row.index(max(row))
    kept = {i: x / draw.temperature for i, x in enumerate(row) if x > -math.inf}
    top = max(kept.values())
    if draw.min_p > 0:
        kept = {i: x for i, x in kept.items() if x - top >= math.log(draw.min_p)}
    if draw.top_k > 0:
        kth = sorted(kept.values(), reverse=True)[min(draw.top_k, len(kept)) - 1]
        kept = {i: x for i, x in kept.items() if x >= kth}
    if draw.top_p < 1:
        total = sum(math.exp(x - top) for x in kept.values())
        mass, border = 0.0, math.inf
        for x in sorted(kept.values(), reverse=True):
            if mass >= draw.top_p * total and border < math.inf:
                break
            mass, border = mass + math.exp(x - top), x
        kept = {i: x for i, x in kept.items() if x >= border}
    return max(kept, key=lambda i: kept[i] + python_gumbel(draw.seed, draw.position, i))


draws = st.builds(
    Draw,
    temperature=st.sampled_from([0.0, 0.3, 1.0, 1.7]),
    top_k=st.sampled_from([0, 1, 3, 10, 1000]),
    top_p=st.sampled_from([1.0, 0.999, 0.71, 0.33, 1e-9]),
    min_p=st.sampled_from([0.0, 0.013, 0.21, 1.0]),
    seed=st.integers(0, 2**64 - 1),
    position=st.integers(0, 2**17),
)


@thoroughly
@given(st.lists(draws, min_size=1, max_size=8), st.integers(0, 10_000))
def test_a_batch_of_any_parameters_equals_brute_force(rows: list[Draw], seed: int) -> None:
    logits = logits_of(seed, len(rows))
    expected = [
        expected_token([float(x) for x in row], draw)
        for row, draw in zip(logits, rows, strict=True)
    ]
    assert sample(logits, rows).tolist() == expected


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    dice = random.Random(3)
    rows = [
        Draw(
            temperature=dice.choice([0.0, 0.5, 1.0, 3.0]),
            top_k=dice.choice([0, 0, 2, 50, 4000]),
            top_p=dice.choice([1.0, 1.0, 0.9, 0.5]),
            min_p=dice.choice([0.0, 0.0, 0.05]),
            seed=dice.getrandbits(64),
            position=dice.randrange(5000),
        )
        for _ in range(64)
    ]
    logits = logits_of(4, 64, vocab=5000)
    together = sample(logits, rows).tolist()
    alone = [int(sample(logits[i : i + 1], [row])) for i, row in enumerate(rows)]
    assert together == alone


def test_sampling_leaves_the_logits_alone() -> None:
    logits = logits_of(1, 3)
    before = logits.clone()
    sample(logits, [Draw(), Draw(top_k=3, top_p=0.5, min_p=0.1), Draw(temperature=0)])
    adjust(logits, [None, Adjustment(masked_ids=np.array([1])), None])
    assert torch.equal(logits, before)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_follow_softmax(temperature: float) -> None:
    count, vocab = 40_000, 12
    row = logits_of(9, vocab=vocab, scale=1.0)
    picks: Counter[int] = Counter()
    for chunk in range(4):
        draws = [
            Draw(temperature=temperature, seed=5, position=chunk * 10_000 + i)
            for i in range(count // 4)
        ]
        picks.update(sample(row.expand(len(draws), -1), draws).tolist())
    expected = [count * p for p in softmax((row[0] / temperature).tolist())]
    chi2 = sum((picks[i] - e) ** 2 / e for i, e in enumerate(expected))
    assert chi2 < 31.3  # 99.9 % quantile of chi² with 11 degrees of freedom


def test_neighbouring_seeds_and_positions_are_independent() -> None:
    """Pairs of fair draws at adjacent counters fill the joint table evenly."""
    row = torch.zeros(1, 4)
    by_seed = sample(row.expand(20_000, -1), [Draw(seed=s) for s in range(20_000)]).tolist()
    by_position = sample(row.expand(20_000, -1), [Draw(position=p) for p in range(20_000)]).tolist()
    for tokens in (by_seed, by_position):
        pairs = Counter(itertools.pairwise(tokens))
        expected = (len(tokens) - 1) / 16
        chi2 = sum((pairs[a, b] - expected) ** 2 / expected for a in range(4) for b in range(4))
        assert chi2 < 37.7  # 99.9 % quantile, 15 degrees of freedom


def test_tiny_temperature_is_greedy_and_never_overflows() -> None:
    logits = logits_of(8, 2) * 1000
    tokens = sample(logits, [Draw(temperature=1e-30), Draw(temperature=1.1e-5)])
    assert tokens.tolist() == logits.argmax(-1).tolist()


@thoroughly
@given(st.data())
def test_adjustments_equal_brute_force(data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, 5))
    logits = logits_of(data.draw(st.integers(0, 1000)), rows)
    expected: list[list[float]] = logits.tolist()
    changes: list[Adjustment | None] = []
    for row in expected:
        if data.draw(st.booleans()):
            changes.append(None)
            continue
        ids = st.integers(0, VOCAB - 1)
        bias = data.draw(st.dictionaries(ids, st.sampled_from([-100.0, -1.5, 2.5])))
        masked = data.draw(st.sets(ids, max_size=4))
        prompt = data.draw(st.lists(ids, max_size=8))
        output = Counter(data.draw(st.lists(ids, max_size=8)))
        repetition = data.draw(st.sampled_from([0.5, 1.0, 1.3]))
        presence = data.draw(st.sampled_from([-2.0, 0.0, 1.0]))
        frequency = data.draw(st.sampled_from([-2.0, 0.0, 0.7]))
        for token, value in bias.items():
            row[token] += value
        for token in masked:
            row[token] = -math.inf
        for token in set(prompt) | set(output):
            row[token] = row[token] / repetition if row[token] > 0 else row[token] * repetition
        for token, count in output.items():
            row[token] -= frequency * count + presence
        seen = sorted(set(prompt) | set(output))
        changes.append(
            Adjustment(
                bias_ids=np.array(list(bias), np.int64),
                bias=np.array(list(bias.values()), np.float32),
                masked_ids=np.array(sorted(masked), np.int64),
                seen_ids=np.array(seen, np.int64),
                seen_counts=np.array([output[token] for token in seen], np.int64),
                repetition=repetition,
                presence=presence,
                frequency=frequency,
            )
        )
    for got, want in zip(adjust(logits, changes).tolist(), expected, strict=True):
        assert got == pytest.approx(want, abs=1e-4)


def test_scores_equal_brute_force() -> None:
    logits = logits_of(11, 6).bfloat16().float()  # coarse, so that there are ties
    logits[0, 3] = logits[0, 17] = 9.0
    logits[1, :5] = -math.inf
    logits[2, 0], logits[2, 1] = 0.0, -0.0
    tokens = torch.tensor([17, 0, 1, 4, 5, 6])
    extra = torch.arange(12).reshape(6, 2)
    scores = score(logits, tokens, 20, extra)
    for n, row in enumerate(logits.tolist()):
        total = math.log(sum(math.exp(x) for x in row))
        order = sorted(range(VOCAB), key=lambda i: (-row[i], i))
        token = int(tokens[n])
        assert float(scores.logprobs[n]) == pytest.approx(row[token] - total, abs=1e-5)
        assert int(scores.ranks[n]) == order.index(token) + 1
        assert scores.top_ids[n].tolist() == order[:20]
        expected = [row[i] - total for i in order[:20]]
        assert scores.top_logprobs[n].tolist() == pytest.approx(expected, abs=1e-5)
        expected = [row[i] - total for i in extra[n].tolist()]
        assert scores.extra_logprobs[n].tolist() == pytest.approx(expected, abs=1e-5)


def test_long_rows_go_through_in_chunks() -> None:
    logits = logits_of(6, 5, vocab=150_000)
    draws = [Draw(seed=n) for n in range(5)]
    rows = [logits[n : n + 1] for n in range(5)]
    assert sample(logits, draws).tolist() == [
        int(sample(row, [draw])) for row, draw in zip(rows, draws, strict=True)
    ]
    noisy = torch.tensor([python_gumbel(0, 0, t) for t in range(150_000)]) + rows[0][0]
    assert int(sample(rows[0], draws[:1])) == int(noisy.argmax())
    extra = torch.arange(10).reshape(5, 2)
    together = score(logits, torch.arange(5), 3, extra)
    for n, row in enumerate(rows):
        alone = score(row, torch.tensor([n]), 3, extra[n : n + 1])
        for a, b in zip(together, alone, strict=True):
            assert torch.equal(a[n], b[0])


def test_top_larger_than_the_vocabulary() -> None:
    assert score(logits_of(0), torch.tensor([0]), 99).top_ids.shape == (1, VOCAB)


@thoroughly
@given(
    vocab=st.integers(1, 100),
    rows=st.lists(st.one_of(st.none(), st.integers(0, 2**100 - 1)), min_size=1, max_size=4),
    spare=st.integers(0, 2),
    seed=st.integers(0, 1000),
)
def test_only_allowed_tokens_keep_their_logits(
    vocab: int, rows: list[int | None], spare: int, seed: int
) -> None:
    logits = logits_of(seed, len(rows), vocab)
    words = -(-vocab // 32) + spare  # a grammar's vocabulary may be larger than the model's
    adjustments = [
        None
        if bits is None
        else Adjustment(
            allowed=np.frombuffer((bits % 2 ** (32 * words)).to_bytes(4 * words, "little"), "<i4")
        )
        for bits in rows
    ]
    before = logits.clone()
    adjusted = adjust(logits, adjustments)
    assert torch.equal(logits, before)
    for row, bits, x in zip(adjusted.tolist(), rows, before.tolist(), strict=True):
        kept = [bits is None or bool(bits >> token & 1) for token in range(vocab)]
        assert row == [v if keep else -math.inf for v, keep in zip(x, kept, strict=True)]


def test_an_allowed_token_is_biased_and_penalized_and_others_stay_out() -> None:
    (row,) = adjust(
        torch.tensor([[1.0, 2.0, 3.0, 4.0]]),
        [
            Adjustment(
                bias_ids=np.array([1, 3]),
                bias=np.array([1.0, 100.0], np.float32),
                allowed=np.array([0b0011], np.int32),
                seen_ids=np.array([0, 2]),
                seen_counts=np.array([1, 1]),
                repetition=2.0,
                presence=0.25,
            )
        ],
    ).tolist()
    assert row == [0.25, 3.0, -math.inf, -math.inf]
