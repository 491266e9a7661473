"""The batcher's arithmetic, and the runner on steps written by hand."""

from __future__ import annotations

import pytest
import torch
from msgspec.structs import replace

from inferd.engines.native.batching import Batcher, allocate_kv
from inferd.engines.native.device_batching import SCRATCH_BLOCKS, DeviceBatcher
from inferd.engines.native.model import Batch
from inferd.engines.native.runner import Runner
from inferd.engines.native.scoring import score_prompt
from inferd.engines.native.sequences import Sequence
from inferd.engines.native.splitting import PartlyFailed
from inferd.messages import Sampling, Submit
from inferd_scheduler import UNKNOWN, Step, Work
from tests.engines.native.hash_model import HashModel, greedy, logits_after, state


def batcher(model: HashModel | None = None) -> Batcher:
    """Three rows of at most five blocks of four tokens; the cache begins full of NaN."""
    model = model or HashModel()
    cache = allocate_kv(model.kv_specs, 12, 4, model.dtype, model.device)
    for tensor in cache[0]:
        tensor.fill_(torch.nan)
    return Batcher(cache, block_size=4, max_batch_size=3, max_blocks=5, max_batch_tokens=16)


def step(number: int, *works: Work) -> Step:
    return Step(number, works, sum(len(work.tokens) for work in works))


def test_a_flat_batch_of_prefill_and_decode() -> None:
    builder = batcher()
    first = step(1, Work("a", 2, 0, (10, 11, 12, 13, 14), (7, 3), False, True))
    batch = builder.build(first)
    assert batch.slot_mapping.tolist() == [28, 29, 30, 31, 12]
    second = step(
        2,
        Work("b", 0, 8, (20,), (1, 9, 5), True, True),  # 8 positions from the prefix cache
        Work("a", 2, 5, (15, 16, 17, 18), (0,), True, False),
    )
    batch = builder.build(second)
    assert batch.input_ids.tolist() == [20, 15, 16, 17, 18]
    assert batch.positions.tolist() == [8, 5, 6, 7, 8]
    assert batch.slot_mapping.tolist() == [20, 13, 14, 15, 0]
    assert batch.block_tables.tolist() == [[1, 9, 5], [7, 3, 0]]
    assert batch.cu_seqlens_q.tolist() == [0, 1, 5]
    assert batch.seq_lens.tolist() == [9, 9]
    assert (batch.max_seqlen_q, batch.max_seqlen_k) == (4, 9)
    kinds = (batch.input_ids, batch.positions, batch.slot_mapping)
    assert {tensor.dtype for tensor in kinds} == {torch.int64}
    kinds = (batch.block_tables, batch.cu_seqlens_q, batch.seq_lens)
    assert {tensor.dtype for tensor in kinds} == {torch.int32}


def test_a_readmitted_row_forgets_its_old_blocks() -> None:
    builder = batcher()
    builder.build(step(1, Work("a", 1, 0, (1,) * 9, (7, 3, 2), False, True)))
    batch = builder.build(step(2, Work("b", 1, 0, (1,) * 2, (4,), False, True)))
    assert batch.slot_mapping.tolist() == [16, 17]
    batch = builder.build(step(3, Work("b", 1, 2, (1,) * 3, (8,), True, False)))
    assert batch.slot_mapping.tolist() == [18, 19, 32]


def test_a_token_without_a_block_is_our_bug() -> None:
    with pytest.raises(AssertionError):
        batcher().build(step(1, Work("a", 0, 0, (1,) * 5, (7,), False, True)))


def scored_submit(prompt: tuple[int, ...]) -> Submit:
    return Submit("a", prompt, 4, Sampling(temperature=0.0, prompt_logprobs=1, logprobs=0))


def test_preemption_in_the_middle_of_a_prompt_scores_nothing_twice() -> None:
    model = HashModel()
    runner = Runner(model, batcher(model))
    prompt = tuple(range(3, 17))
    runner.sequences["a"] = Sequence(scored_submit(prompt))
    runner.run(step(1, Work("a", 0, 0, prompt[:6], (2, 5), False, True)))
    assert len(runner.sequences["a"].prompt_scores) == 6
    # Preempted here; computed anew in chunks of other sizes, in other blocks.
    runner.run(step(2, Work("a", 1, 0, prompt[:5], (9, 0), False, True)))
    runner.run(step(3, Work("a", 1, 5, prompt[5:8], (), False, False)))
    outcome = runner.run(step(4, Work("a", 1, 8, prompt[8:], (7, 4), True, False)))
    scores = runner.sequences["a"].prompt_scores
    assert [one.token_id for one in scores] == list(prompt[1:])
    for i, one in enumerate(scores):
        expected = torch.tensor(logits_after(prompt[: i + 1])).log_softmax(-1)
        assert one.logprob == pytest.approx(float(expected[prompt[i + 1]]), abs=1e-5)
        assert one.top[0][0] == int(expected.argmax())
    expected = torch.tensor(logits_after(prompt)).log_softmax(-1)
    assert outcome.tokens == {"a": int(expected.argmax())}
    assert outcome.logprobs["a"].logprob == pytest.approx(float(expected.max()), abs=1e-5)


def test_a_long_prompt_is_scored_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inferd.engines.native.scoring.SLICE_BYTES", 3 * 4 * HashModel.vocab_size)
    model, prompt = HashModel(), tuple(range(1, 12))
    sequence, sizes = Sequence(scored_submit(prompt)), []
    hidden = torch.tensor([state(prompt[: i + 1]) for i in range(11)], dtype=model.dtype)

    def logits_of(rows: torch.Tensor) -> torch.Tensor:
        sizes.append(len(rows))
        return model.logits(rows)

    score_prompt(sequence, 0, hidden[:2], logits_of, model.vocab_size)
    score_prompt(sequence, 2, hidden[2:], logits_of, model.vocab_size)
    assert sizes == [2, 3, 3, 2]
    assert [one.token_id for one in sequence.prompt_scores] == list(prompt[1:])


def test_processed_scores_have_bias_and_temperature() -> None:
    prompt = (3, 4, 5)
    sampling = Sampling(
        temperature=0.5,
        top_k=2,
        logit_bias=((4, 1.5),),
        presence_penalty=0.75,
        logprobs=2,
        prompt_logprobs=0,
        logprobs_mode="processed",
    )
    model = HashModel()
    runner = Runner(model, batcher(model))
    runner.sequences["a"] = Sequence(Submit("a", prompt, 4, sampling, output=(7,)))
    outcome = runner.run(step(1, Work("a", 0, 0, (*prompt, 7), (2,), True, True)))

    def processed(context: tuple[int, ...], *output: int) -> torch.Tensor:
        logits = torch.tensor(logits_after(context))
        logits[4] += 1.5
        for token in output:
            logits[token] -= 0.75
        return (logits / 0.5).log_softmax(-1)

    first, second = runner.sequences["a"].prompt_scores
    assert first.logprob == pytest.approx(float(processed((3,))[4]), abs=1e-5)
    assert second.logprob == pytest.approx(float(processed((3, 4))[5]), abs=1e-5)
    expected = processed((3, 4, 5, 7), 7)
    one = outcome.logprobs["a"]
    assert one.logprob == pytest.approx(float(expected[one.token_id]), abs=1e-5)
    best = expected.topk(2)
    assert [token for token, _ in one.top] == best.indices.tolist()
    assert [value for _, value in one.top] == pytest.approx(best.values.tolist(), abs=1e-5)


def test_each_row_has_the_extra_logprobs_that_it_asked_for() -> None:
    model = HashModel()
    runner = Runner(model, batcher(model))
    for name, extra in (("a", (9, 2, 4)), ("b", ()), ("c", (3,))):
        sampling = Sampling(temperature=0.0, logprobs=0, logprob_token_ids=extra)
        runner.sequences[name] = Sequence(Submit(name, (5,), 4, sampling))
    works = [Work(name, n, 0, (5,), (n + 2,), True, True) for n, name in enumerate("abc")]
    outcome = runner.run(step(1, *works))
    expected = torch.tensor(logits_after([5])).log_softmax(-1)
    for name, extra in (("a", (9, 2, 4)), ("b", ()), ("c", (3,))):
        found = outcome.logprobs[name].extra
        assert [token for token, _ in found] == list(extra)
        assert [value for _, value in found] == pytest.approx(expected[list(extra)].tolist())


def test_raw_and_processed_requests_share_a_batch() -> None:
    model = HashModel()
    runner = Runner(model, batcher(model))
    for name, mode in (("a", "raw"), ("b", "processed")):
        sampling = Sampling(temperature=0.25, seed=3, logprobs=1, logprobs_mode=mode)  # type: ignore[arg-type]
        runner.sequences[name] = Sequence(Submit(name, (5,), 4, sampling))
    outcome = runner.run(
        step(1, Work("a", 0, 0, (5,), (2,), True, True), Work("b", 1, 0, (5,), (3,), True, True))
    )
    logits = torch.tensor(logits_after([5]))
    best = int(logits.argmax())
    raw, processed = outcome.logprobs["a"].top, outcome.logprobs["b"].top
    assert raw[0][0] == processed[0][0] == best
    assert raw[0][1] == pytest.approx(float(logits.log_softmax(-1)[best]), abs=1e-5)
    cold = (logits / 0.25).log_softmax(-1)
    assert processed[0][1] == pytest.approx(float(cold[best]), abs=1e-5)


def test_two_steps_in_flight_come_to_what_two_steps_in_turn_do() -> None:
    model = HashModel()
    cache = allocate_kv(model.kv_specs, 12 + SCRATCH_BLOCKS, 4, model.dtype, model.device)
    device_batcher = DeviceBatcher(cache, 4, 3, max_blocks=5, max_batch_tokens=16)
    runner = Runner(model, device_batcher)
    runner.sequences["a"] = Sequence(Submit("a", (1, 2, 3), 9, Sampling(temperature=0.0)))
    first = runner.begin(step(1, Work("a", 0, 0, (1, 2, 3), (7, 2), True, True)))
    runner.sample(first)
    second = runner.begin(step(2, Work("a", 0, 3, (UNKNOWN,), (), True, False)))
    third = step(3, Work("a", 0, 4, (UNKNOWN,), (), True, False))
    with pytest.raises(AssertionError, match="two steps"):
        runner.begin(third)
    for too_soon in (runner.sample, runner.finish):
        with pytest.raises(AssertionError, match="the step before"):
            too_soon(second)
    tokens = [runner.finish(first).tokens["a"]]
    with pytest.raises(AssertionError, match="not sampled"):
        runner.finish(second)
    runner.sample(second)
    last = runner.begin(third)
    tokens.append(runner.finish(second).tokens["a"])
    runner.sample(last)
    tokens.append(runner.finish(last).tokens["a"])
    assert tokens == greedy([1, 2, 3], 3)


def test_what_a_pass_could_not_compute_is_neither_scored_nor_sampled() -> None:
    model = HashModel()

    def without_b(batch: Batch) -> torch.Tensor:
        hidden = model.forward(batch)
        hidden[3:] = torch.nan
        raise PartlyFailed(hidden, {1: torch.OutOfMemoryError("no room")})

    runner = Runner(model, batcher(model), without_b)
    for name in "ab":
        runner.sequences[name] = Sequence(replace(scored_submit((1, 2, 3)), request_id=name))
    works = [Work(name, n, 0, (1, 2, 3), (n,), True, True) for n, name in enumerate("ab")]
    outcome = runner.run(step(1, *works))
    assert outcome.tokens == {"a": greedy([1, 2, 3], 1)[0]}
    assert "no room" in str(outcome.failed["b"])
    assert runner.sequences["b"].prompt_scores == []
