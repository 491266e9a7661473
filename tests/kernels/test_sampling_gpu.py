"""Sampling in Triton against the reference, within what the operations' meaning leaves open."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inferd_kernels.dispatch import only
from inferd_kernels.sampling import (
    HEALTHY,
    NOT_FINITE,
    NOTHING_LEFT,
    Adjustment,
    Choice,
    Draw,
    Row,
    Scores,
    Want,
    adjust,
    choose,
    choose_later,
    sample,
    score,
)
from inferd_kernels.sampling.gpu_kernels import exp_of
from inferd_kernels.sampling.gpu_results import Results
from inferd_kernels.sampling.gpu_table import scoring, step_of
from inferd_kernels.sampling.noise import seed_tensor, streams
from tests.kernels.gpu_device import DEVICE, NATIVE
from tests.kernels.sampling_cases import (
    TOLERANCE,
    Wish,
    adjustment_of,
    compare,
    logits_of,
    rows,
    run,
    same,
)

SIZES = [1, 33, 257, 1000, 4097, *([128_256, 151_936] if NATIVE else [])]
"""Of vocabularies: a chunk is 4096 tokens."""

KINDS = {
    "greedy": Draw(temperature=0.0),
    "temperature": Draw(temperature=0.7),
    "min_p": Draw(min_p=0.05),
    "top_k": Draw(top_k=20),
    "top_p": Draw(temperature=0.8, top_p=0.9),
    "all": Draw(temperature=1.2, top_k=50, top_p=0.8, min_p=0.01),
}


pytestmark = pytest.mark.usefixtures("poisoned_memory", "gpu")


def both(logits: torch.Tensor, wishes: list[Wish]) -> Choice:
    """The GPU's choice, which is the reference's."""
    logits = logits.to(DEVICE)
    before = logits.clone()
    got = run("gpu", logits, wishes)
    assert torch.equal(logits.isnan(), before.isnan())
    assert torch.equal(logits.nan_to_num(), before.nan_to_num())
    compare(got, run("reference", logits.cpu(), wishes), wishes, logits.shape[1])
    return got


def drawn(kind: Draw, seed: int) -> Draw:
    return Draw(kind.temperature, kind.top_k, kind.top_p, kind.min_p, seed, 100 * seed)


@triton.jit  # type: ignore[untyped-decorator]
def _exp(t, out, SIZE: tl.constexpr):  # type: ignore[no-untyped-def]
    i = tl.arange(0, SIZE)
    tl.store(out + i, exp_of(tl.load(t + i)))


def test_exponentials_are_within_2_ulp(gpu: torch.device) -> None:
    size = 1 << 14
    t = -(torch.rand(size, generator=torch.Generator().manual_seed(1)) ** 3) * 87
    t[0], t[1], t[2] = 0.0, -torch.inf, -87.5
    found = torch.empty(size, device=gpu)
    _exp[(1,)](t.to(gpu), found, size, enable_fp_fusion=False)
    expected = t.double().exp()
    assert found[:3].tolist() == [1.0, 0.0, 0.0]
    wrong = ((found.cpu().double() - expected) / expected)[3:].abs().max()
    assert wrong < 2 * 2.0**-23


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_results_lie_alike_in_every_step(count: int) -> None:
    """At multiples of 16 bytes, whatever is asked for: else kernels would be compiled anew."""
    found = Results(scoring(count, 1, 3), DEVICE)
    for each in (found.tokens, found.health, *found.scored):
        assert each.data_ptr() % 16 == 0


@pytest.mark.parametrize("vocab", SIZES)
def test_each_kind_of_draw(vocab: int) -> None:
    wishes: list[Wish] = [(drawn(kind, n), None, None) for n, kind in enumerate(KINDS.values())]
    both(logits_of(vocab, len(wishes), vocab), wishes)


def test_many_rows_choose_the_references_tokens() -> None:
    count = 3000 if NATIVE else 18
    kinds = list(KINDS.values())
    logits = logits_of(3, count, vocab=3001, scale=3.0)
    both(logits, [(drawn(kinds[n % len(kinds)], n), None, None) for n in range(count)])


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_choices_are_the_references(data: st.DataObject) -> None:
    vocab = data.draw(st.sampled_from(SIZES))
    count = data.draw(st.integers(1, 2))
    scale = data.draw(st.sampled_from([0.0, 0.01, 1.0, 3.0, 1000.0]))
    logits = logits_of(data.draw(st.integers(0, 1000)), count, vocab, scale)
    if data.draw(st.booleans()):
        logits = logits.bfloat16().float()  # with ties
    if data.draw(st.booleans()):
        logits[:, 1::3] = -torch.inf
    wishes = [data.draw(rows(vocab)) for _ in range(count)]
    wishes = [(draw, want and want._replace(top=want.top % 200), *_) for draw, want, *_ in wishes]
    both(logits, wishes)


def test_equal_logits_stay_or_go_together() -> None:
    logits = torch.tensor([[5.0, 4.0, 4.0, 4.0, 1.0, -torch.inf]]).repeat(12, 1)
    for draw in (Draw(top_k=2), Draw(top_p=0.7)):
        wishes: list[Wish] = [(drawn(draw, seed), None, None) for seed in range(12)]
        assert set(both(logits, wishes).tokens.tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize("draw", [Draw(top_k=7), Draw(top_p=0.3), Draw(top_k=7, top_p=0.3)])
def test_a_row_of_equal_logits_keeps_all(draw: Draw) -> None:
    """Its border's list holds the whole vocabulary, in more than one part."""
    both(torch.full((1, 5000), 2.5), [(drawn(draw, 3), Want(4), None)])


def test_more_is_kept_than_a_list_s_part_holds() -> None:
    both(logits_of(1, 1, 9000, 0.001), [(Draw(top_k=6000, top_p=0.9, seed=4), None, None)])


@pytest.mark.parametrize(
    ("fault", "place"), [(torch.nan, 0), (-torch.nan, 4096), (torch.inf, 4999)]
)
def test_a_row_that_is_not_finite_is_found_and_harms_no_other(fault: float, place: int) -> None:
    wishes: list[Wish] = [
        (drawn(KINDS[kind], n), Want(2, (n,)), None)
        for n, kind in enumerate(("top_p", "all", "temperature", "top_k"))
    ]
    logits = logits_of(2, 4, 5000)
    expected = run("reference", logits, wishes).tokens
    logits[1, place] = fault
    logits[2] = -torch.inf
    choice = both(logits, wishes)
    assert choice.health.tolist() == [HEALTHY, NOT_FINITE, NOT_FINITE, HEALTHY]
    assert choice.tokens.tolist() == [expected[0], 0, 0, expected[3]]


def test_a_row_of_which_nothing_is_left() -> None:
    logits = torch.tensor([[1.0, -torch.inf, 2.0, -torch.inf]] * 4)
    logits[2, 0] = torch.nan
    none_left = Adjustment(allowed=np.array([0b1010], np.int32))
    too_large = Adjustment(bias_ids=np.array([2]), bias=np.array([np.inf], np.float32))
    barred = too_large._replace(allowed=np.array([0b0001], np.int32))
    choice = both(
        logits,
        [
            (Draw(), Want(), none_left),
            (Draw(top_p=0.5), None, too_large),
            (Draw(), None, none_left),
            (Draw(), Want(), barred),
        ],
    )
    assert choice.health.tolist() == [NOTHING_LEFT, NOTHING_LEFT, NOT_FINITE, HEALTHY]
    assert choice.tokens.tolist() == [0, 0, 0, 0]
    none_scored = both(logits[:1], [(Draw(), Want(3), none_left)])
    assert none_scored.scores is None


@pytest.mark.parametrize(
    "change",
    [
        Adjustment(bias_ids=np.array([5]), bias=np.array([-9.0], np.float32)),
        Adjustment(masked_ids=np.array([5])),
        Adjustment(seen_ids=np.array([5]), seen_counts=np.array([3]), frequency=2.0),
        Adjustment(allowed=np.array([~(1 << 5)], np.int32)),
    ],
)
def test_each_change_by_itself(change: Adjustment) -> None:
    """A step in which nobody asks for the others."""
    logits = torch.linspace(0, 1, 20).repeat(2, 1)
    logits[:, 5] = 3.0
    greedy = Draw(temperature=0.0)
    assert both(logits, [(greedy, None, None), (greedy, None, change)]).tokens.tolist() == [5, 19]


def test_a_row_is_the_same_in_any_company() -> None:
    vocab = 4500
    logits = logits_of(5, len(KINDS), vocab).to(DEVICE)
    wishes: list[Wish] = [
        (
            drawn(kind, n),
            Want(3, (n,), n % 2 == 0),
            adjustment_of(n, vocab) if n % 2 else None,
        )
        for n, kind in enumerate(KINDS.values())
    ]
    together = run("gpu", logits, wishes)
    assert same(run("gpu", logits, wishes), together)
    assert together.scores is not None
    for n, wish in enumerate(wishes):
        alone = run("gpu", logits[n : n + 1], [wish])
        assert alone.scores is not None
        assert int(alone.tokens) == together.tokens[n]
        for a, b in zip(alone.scores, together.scores, strict=True):
            assert torch.equal(a[0], b[n])


def test_raw_scores_are_not_adjusted_and_processed_ones_are() -> None:
    logits = logits_of(4, 2, 600)
    token = int(logits[0].argmax())
    logits[1] = logits[0]
    change = Adjustment(masked_ids=np.array([token]))
    wishes: list[Wish] = [
        (Draw(temperature=0), Want(1, (token,), processed), change) for processed in (False, True)
    ]
    choice = both(logits, wishes)
    assert choice.scores is not None
    assert choice.scores.ranks.tolist() == [2, 1]
    assert choice.scores.extra_logprobs[1].tolist() == [-torch.inf]


def test_adjusted_logits_are_the_references_to_the_bit(gpu: torch.device) -> None:
    for vocab in (1, 31, 33, 1000, 4100):
        logits = logits_of(vocab, 4, vocab).to(gpu)
        changes = [adjustment_of(n, vocab) if n else None for n in range(4)]
        with only("reference"):
            expected = adjust(logits.cpu(), changes)
        assert torch.equal(adjust(logits, changes).cpu(), expected)
        assert adjust(logits, [None] * 4) is logits


def test_many_tokens_are_seen(gpu: torch.device) -> None:
    seen = np.random.default_rng(1).permutation(5000)[:2500]
    change = Adjustment(
        bias_ids=seen[100:1300],
        bias=np.linspace(-3, 3, 1200, dtype=np.float32),
        seen_ids=seen,
        seen_counts=np.arange(2500) % 3,
        repetition=1.17,
        frequency=0.3,
    )
    logits = logits_of(1, 1, 5000).to(gpu)
    with only("reference"):
        expected = adjust(logits.cpu(), [change])
    assert torch.equal(adjust(logits, [change]).cpu(), expected)


def test_given_tokens_are_scored(gpu: torch.device) -> None:
    logits = logits_of(11, 6, 4200).bfloat16().float()  # with ties
    logits[0, 3] = logits[0, 4100] = 9.0
    logits[1, 5:] = -torch.inf
    logits[2, 0], logits[2, 1] = 0.0, -0.0
    logits[3] = logits[3].clamp(max=0.0)  # the largest are 0, and one of them is -0
    logits[3, 0] = -0.0
    tokens, extra = torch.tensor([4100, 0, 1, 4, 5, 6]), torch.arange(12).reshape(6, 2)
    for top in (0, 20, 9999 if NATIVE else 40):
        got = score(logits.to(gpu), tokens.to(gpu), top, extra.to(gpu))
        got = Scores(*(column.cpu() for column in got))
        with only("reference"):
            expected = score(logits, tokens, top, extra)
        assert torch.equal(got.ranks, expected.ranks)
        assert torch.equal(got.top_ids, expected.top_ids)
        for name in ("logprobs", "top_logprobs", "extra_logprobs"):
            a, b = getattr(got, name), getattr(expected, name)
            torch.testing.assert_close(a, b, atol=TOLERANCE, rtol=1e-6)


def test_a_token_that_only_the_device_knows_has_no_logprob_outside_the_vocabulary(
    gpu: torch.device,
) -> None:
    ids = torch.tensor([-1, 40, 39], device=gpu)
    scores = score(logits_of(0, 3, 40).to(gpu), ids, 99, ids[:, None])
    assert scores.logprobs.isnan().tolist() == [True, True, False]
    assert scores.extra_logprobs[:, 0].isnan().tolist() == [True, True, False]
    assert scores.top_ids.shape == (3, 40)


def test_logits_may_be_part_of_a_wider_tensor(gpu: torch.device) -> None:
    wide = logits_of(8, 2, 900).to(gpu)
    wishes: list[Wish] = [(Draw(seed=n, top_p=0.9), Want(4), None) for n in range(2)]
    part = wide[:, 3:700]
    assert same(run("gpu", part, wishes), run("gpu", part.contiguous(), wishes))
    lines = wide[0, :400].expand(2, -1)
    assert same(run("gpu", lines, wishes), run("gpu", lines.contiguous(), wishes))
    turned = score(wide.T[:5], torch.zeros(5, dtype=torch.int64, device=gpu), 2)
    straight = score(wide.T[:5].contiguous(), torch.zeros(5, dtype=torch.int64, device=gpu), 2)
    assert torch.equal(turned.top_logprobs, straight.top_logprobs)


def test_what_was_begun_heeds_no_later_change(gpu: torch.device) -> None:
    logits = logits_of(3, 2, 300).to(gpu)
    change = adjustment_of(3, 300)
    expected = choose(logits, [Row(Draw(seed=1), Want(2)), Row(Draw(0.0), None, change)])
    rows = [Row(Draw(seed=1), Want(2)), Row(Draw(0.0), None, change)]
    pending = choose_later(logits, rows)
    rows[0].draw.position, rows[1].adjustment = 9, None
    change.bias[:] = 50
    later = choose_later(logits, rows)
    assert pending.tokens.device == logits.device
    choice = pending.result()
    assert same(choice, expected)
    assert pending.tokens.tolist() == choice.tokens.tolist()
    assert same(pending.result(), choice)
    assert not same(later.result(), choice)


@pytest.mark.skipif(not NATIVE, reason="the interpreter has nothing to wait for")
def test_beginning_waits_for_nothing(gpu: torch.device) -> None:
    wishes: list[Wish] = [
        (drawn(kind, n), Want(3, (n,)), adjustment_of(n, 300))
        for n, kind in enumerate(KINDS.values())
    ]
    logits = logits_of(3, len(wishes), 300).to(gpu)
    choose_later(logits, [Row(*wish) for wish in wishes]).result()  # compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        pending = choose_later(logits, [Row(*wish) for wish in wishes])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert same(pending.result(), run("gpu", logits, wishes))


def test_a_row_is_remembered_and_its_position_is_not(gpu: torch.device) -> None:
    logits = logits_of(3, 1, 300).to(gpu)
    row = Row(Draw(seed=5))
    tokens = []
    for row.draw.position in range(4):
        tokens.append(int(choose(logits, [row]).tokens))
    fresh = [Draw(seed=5, position=n) for n in range(4)]
    assert tokens == sample(logits.expand(4, -1), fresh).tolist()
    assert len(set(tokens)) > 1


@pytest.mark.parametrize("token", [-5, 40, 2**40])
def test_tokens_outside_the_vocabulary_are_refused(token: int, gpu: torch.device) -> None:
    logits, ids = logits_of(0, 2, 40).to(gpu), np.array([3, token])
    for change in (
        Adjustment(bias_ids=ids, bias=np.zeros(2, np.float32)),
        Adjustment(masked_ids=ids),
        Adjustment(seen_ids=ids, seen_counts=np.ones(2, np.int64)),
    ):
        with pytest.raises(IndexError, match="row 1"):
            adjust(logits, [None, change])
        with pytest.raises(IndexError, match="row 1"):
            choose_later(logits, [Row(Draw()), Row(Draw(), None, change)])
    with pytest.raises(IndexError, match="row 1"):
        choose_later(logits, [Row(Draw()), Row(Draw(), Want(extra=(token,)))])


def test_words_for_fewer_tokens_are_refused_and_more_are_not_read(gpu: torch.device) -> None:
    logits = logits_of(0, 1, 65).to(gpu)
    with pytest.raises(ValueError, match="2 words"):
        choose(logits, [Row(Draw(), None, Adjustment(allowed=np.zeros(2, np.int32)))])
    both(logits, [(Draw(), None, Adjustment(allowed=np.array([6, 0, 1, -1, -1], np.int32)))])


def test_streams_are_those_of_the_noise() -> None:
    seeds, positions = [0, 5, 2**63, 2**64 - 1], [7, 2**40, 0, 3]
    table = [Row(Draw(seed=s, position=p)) for s, p in zip(seeds, positions, strict=True)]
    expected = streams(seed_tensor(seeds, torch.device("cpu")), torch.tensor(positions))
    assert step_of(table, 10).lines["stream"].view(np.int64).tolist() == expected.tolist()
