"""Sampling in C++ against the reference, over shapes, parameters and threads."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inferd_kernels.cpu.isa import supported
from inferd_kernels.cpu.library import library, set_threads, using
from inferd_kernels.dispatch import only
from inferd_kernels.sampling import (
    HEALTHY,
    NOT_FINITE,
    NOTHING_LEFT,
    Adjustment,
    Draw,
    Want,
    adjust,
    score,
)
from tests.kernels.sampling_cases import Wish, adjustment_of, compare, logits_of, rows, run, same


@pytest.fixture(autouse=True)
def threads_set_back(poisoned_memory: None) -> Iterator[None]:
    yield
    use_threads(torch.get_num_threads())


def use_threads(count: int) -> None:
    loaded = library()
    assert loaded is not None, "the tests need a C++ compiler"
    set_threads(loaded, count)


SIZES = [1, 2, 15, 16, 17, 500, 511, 512, 513, 4096, 8191, 8192, 8193, 20_001, 151_936, 300_000]


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_choices_are_the_references_whatever_the_shape(data: st.DataObject) -> None:
    vocab = data.draw(st.one_of(st.sampled_from(SIZES), st.integers(1, 3000)))
    count = data.draw(st.integers(1, 4))
    scale = data.draw(st.sampled_from([0.0, 0.01, 1.0, 3.0, 1000.0]))
    logits = logits_of(data.draw(st.integers(0, 1000)), count, vocab, scale)
    if data.draw(st.booleans()):
        logits = logits.bfloat16().float()  # with ties
    if data.draw(st.booleans()):
        logits[:, 1::3] = -torch.inf
    wishes = [data.draw(rows(vocab)) for _ in range(count)]
    use_threads(1)
    got = run("cpu", logits, wishes)
    compare(got, run("reference", logits, wishes), wishes, vocab)
    for threads in (2, 3):
        use_threads(threads)
        assert same(run("cpu", logits, wishes), got)


def test_thousands_of_rows_choose_the_references_tokens() -> None:
    kinds = [
        Draw(),
        Draw(temperature=0.6),
        Draw(top_p=0.9),
        Draw(temperature=0.8, top_k=40, top_p=0.95),
        Draw(min_p=0.02),
        Draw(temperature=1.5, top_p=0.5),
    ]
    logits = logits_of(3, 3000, vocab=3001, scale=3.0)
    wishes: list[Wish] = []
    for n in range(len(logits)):
        kind = kinds[n % len(kinds)]
        wishes.append(
            (Draw(kind.temperature, kind.top_k, kind.top_p, kind.min_p, n, 7 * n), None, None)
        )
    got, expected = (run(name, logits, wishes).tokens for name in ("cpu", "reference"))
    assert torch.equal(got, expected)


@pytest.mark.parametrize("vocab", [700, 30_000])
def test_a_row_is_the_same_in_any_company(vocab: int) -> None:
    logits = logits_of(5, 9, vocab)
    wishes: list[Wish] = [
        (Draw(top_p=0.8, seed=n), Want(3, (n,), n % 2 == 0), adjustment_of(n, vocab) if n else None)
        for n in range(9)
    ]
    together = run("cpu", logits, wishes)
    assert together.scores is not None
    for threads in (1, 2, 3):
        use_threads(threads)
        for n, wish in enumerate(wishes):
            alone = run("cpu", logits[n : n + 1], [wish])
            assert alone.scores is not None
            assert int(alone.tokens) == together.tokens[n]
            for a, b in zip(alone.scores, together.scores, strict=True):
                assert torch.equal(a[0], b[n])


@pytest.mark.parametrize("fault", [torch.nan, torch.inf, -torch.nan])
@pytest.mark.parametrize("place", [0, 16, 8191, 8192, 8999])
def test_a_row_that_is_not_finite_is_found_and_harms_no_other(fault: float, place: int) -> None:
    logits = logits_of(2, 4, 9000)
    wishes: list[Wish] = [(Draw(seed=n, top_p=0.9), Want(2), None) for n in range(4)]
    before = run("cpu", logits, wishes)
    logits[1, place] = fault
    logits[2] = -torch.inf
    for implementation in ("reference", "cpu"):
        after = run(implementation, logits, wishes)
        assert after.health.tolist() == [HEALTHY, NOT_FINITE, NOT_FINITE, HEALTHY]
        assert after.tokens.tolist() == [before.tokens[0], 0, 0, before.tokens[3]]


def test_a_row_of_which_nothing_is_left() -> None:
    logits = torch.tensor([[1.0, -torch.inf, 2.0, -torch.inf]] * 3)
    logits[2, 0] = torch.nan
    none_left = Adjustment(allowed=np.array([0b1010], np.int32))
    too_large = Adjustment(bias_ids=np.array([2]), bias=np.array([np.inf], np.float32))
    wishes: list[Wish] = [
        (Draw(), Want(), none_left),
        (Draw(), None, too_large),
        (Draw(), None, none_left),
    ]
    for implementation in ("reference", "cpu"):
        choice = run(implementation, logits, wishes)
        assert choice.health.tolist() == [NOTHING_LEFT, NOTHING_LEFT, NOT_FINITE]
        assert choice.tokens.tolist() == [0, 0, 0]


def test_raw_scores_are_not_adjusted_and_processed_ones_are() -> None:
    logits = logits_of(4, 2, 600)
    token = int(logits[0].argmax())
    change = Adjustment(masked_ids=np.array([token]))
    wishes: list[Wish] = [
        (Draw(temperature=0), Want(1, (token,), processed), change) for processed in (False, True)
    ]
    logits[1] = logits[0]
    for implementation in ("reference", "cpu"):
        choice = run(implementation, logits, wishes)
        assert choice.scores is not None
        assert int(choice.tokens[0]) != token
        assert choice.scores.ranks.tolist() == [2, 1]
        assert choice.scores.top_ids[0].tolist() == [token]
        assert choice.scores.extra_logprobs[1].tolist() == [-torch.inf]


def test_adjusted_logits_are_the_references_to_the_bit() -> None:
    for vocab in (1, 31, 33, 1000, 20_001):
        logits = logits_of(vocab, 6, vocab)
        changes = [adjustment_of(n, vocab) if n % 3 else None for n in range(6)]
        with only("reference"):
            expected = adjust(logits, changes)
        with only("cpu"):
            assert torch.equal(adjust(logits, changes), expected)


def test_logits_may_be_part_of_a_wider_tensor() -> None:
    wide = logits_of(8, 5, 900)
    draws = [(Draw(seed=n), Want(4), None) for n in range(5)]
    wishes: list[Wish] = [*draws]
    assert same(run("cpu", wide[:, :700], wishes), run("cpu", wide[:, :700].contiguous(), wishes))
    with only("cpu"):
        turned = score(wide.T, torch.zeros(900, dtype=torch.int64), 2)
        straight = score(wide.T.contiguous(), torch.zeros(900, dtype=torch.int64), 2)
    assert torch.equal(turned.top_logprobs, straight.top_logprobs)


@pytest.mark.parametrize("token", [-5, 40, 2**40])
def test_tokens_outside_the_vocabulary_are_refused(token: int) -> None:
    logits, ids = logits_of(0, 2, 40), np.array([3, token])
    bias = np.zeros(2, np.float32)
    counts = np.ones(2, np.int64)
    for change in (
        Adjustment(bias_ids=ids, bias=bias),
        Adjustment(masked_ids=ids),
        Adjustment(seen_ids=ids, seen_counts=counts),
    ):
        with only("cpu"), pytest.raises(IndexError, match="row 1"):
            adjust(logits, [None, change])
        with pytest.raises(IndexError, match="row 1"):
            run("cpu", logits, [(Draw(), None, None), (Draw(), None, change)])
    with pytest.raises(IndexError, match="row 1"):
        run("cpu", logits, [(Draw(), None, None), (Draw(), Want(extra=(token,)), None)])
    with only("cpu"), pytest.raises(IndexError, match="row 0"):
        score(logits[:1], torch.tensor([token]), 0)


def test_words_for_fewer_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="2 words"):
        run("cpu", logits_of(0, 1, 65), [(Draw(), None, Adjustment(allowed=np.zeros(2, np.int32)))])


def test_the_best_and_the_lowest_instructions_give_the_same_bits() -> None:
    choices = []
    wishes: list[Wish] = [
        (Draw([1.0, 0.7][n % 2], top_p=[1.0, 0.9][n % 3 > 0], seed=n), Want(5, (n,)), None)
        for n in range(12)
    ]
    logits = logits_of(1, 12, 20_001, 3.0)
    for isa in (supported()[0], supported()[-1]):
        with using(isa):
            choices.append(run("cpu", logits, wishes))
    assert all(same(choice, choices[0]) for choice in choices)
