"""The native core: events, refusals, faults, timings and resumption, over a model of hashes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from benchmarks.verify_numbers.drive import Transcript, drive
from inferd.engines.native.core import NativeCore
from inferd.messages import Begun, Event, Fail, Finish, PromptScored, Sampling, Submit, Tokens
from inferd_scheduler import SchedulerConfig
from tests.engines.native.hash_model import (
    POISON,
    RAISE,
    SOUR,
    VOCAB,
    HashModel,
    greedy,
    logits_after,
)

GREEDY = Sampling(temperature=0.0)


def make(*, clock: Iterator[float] | None = None, **changes: Any) -> NativeCore:
    settings: dict[str, Any] = {
        "max_batch_size": 8,
        "max_batch_tokens": 64,
        "num_blocks": 60,
        "block_size": 4,
        "max_model_len": 100,
    }
    config = SchedulerConfig(**settings | changes)
    if clock is None:
        return NativeCore(HashModel(), config)
    return NativeCore(HashModel(), config, clock=lambda: next(clock))


def submit(name: str, prompt: list[int], max_tokens: int = 6, **options: Any) -> Submit:
    sampling = options.pop("sampling", GREEDY)
    return Submit(name, tuple(prompt), max_tokens, sampling, **options)


def run(core: NativeCore, *submits: Submit) -> dict[str, Transcript]:
    return drive(core, submits)


def tokens_of(core: NativeCore, one: Submit) -> list[int]:
    return run(core, one)[one.request_id].tokens


def test_greedy_generation_reads_its_whole_context() -> None:
    got = run(make(), submit("a", [1, 2, 3]), submit("b", [4] * 17, 9))
    assert got["a"].tokens == greedy([1, 2, 3], 6)
    assert got["b"].tokens == greedy([4] * 17, 9)
    assert got["a"].finish.reason == got["b"].finish.reason == "length"


@pytest.mark.parametrize(
    ("name", "value"), [("max_batch_tokens", 9), ("num_blocks", 14), ("block_size", 3)]
)
def test_chunks_and_preemption_do_not_change_the_output(name: str, value: int) -> None:
    changes: dict[str, Any] = {name: value}
    core = make(**changes)
    asked = [submit(str(n), [n + 1] * (3 + 7 * (n % 4)), 20) for n in range(8)]
    got = run(core, *asked)
    for one in asked:
        assert got[one.request_id].tokens == greedy(one.prompt, 20)
    if name == "num_blocks":
        assert core.stats().preemptions > 0


def test_a_cached_prefix_is_counted_and_right() -> None:
    core = make()
    prompt = [5, 6, 7, 8] * 5
    run(core, submit("a", prompt))
    got = run(core, submit("b", [*prompt, 9]))["b"]
    assert got.tokens == greedy([*prompt, 9], 6)
    assert got.cached_tokens == 20
    assert core.stats().prefix_hits == 20


def test_salts_do_not_share_prefixes() -> None:
    core = make()
    prompt = [5, 6, 7, 8] * 5
    run(core, submit("a", prompt, cache_salt="x"))
    assert run(core, submit("b", [*prompt, 9], cache_salt="y"))["b"].cached_tokens == 0


def test_stop_tokens_end_a_sequence_and_min_tokens_hold_them_off() -> None:
    expected = greedy([1, 2, 3], 6)
    stop = expected[2]
    assert stop not in expected[:2]
    got = run(make(), submit("a", [1, 2, 3], sampling=replace(GREEDY, stop_token_ids=(stop,))))["a"]
    assert got.tokens == expected[:3]
    assert (got.finish.reason, got.finish.stop_token_id) == ("stop", stop)
    held = replace(GREEDY, stop_token_ids=(stop,), min_tokens=6)
    got = run(make(), submit("a", [1, 2, 3], sampling=held))["a"]
    assert stop not in got.tokens
    assert len(got.tokens) == 6


def test_bias_and_penalties_reach_the_sampler() -> None:
    first = greedy([1, 2, 3], 1)[0]
    biased = replace(GREEDY, logit_bias=((first, -100.0),))
    assert first not in tokens_of(make(), submit("a", [1, 2, 3], 30, sampling=biased))
    forced = replace(GREEDY, logit_bias=((7, 100.0),))
    assert tokens_of(make(), submit("a", [1, 2, 3], sampling=forced)) == [7] * 6
    once = replace(forced, presence_penalty=200.0)
    assert tokens_of(make(), submit("a", [1, 2, 3], sampling=once)).count(7) == 1
    fading = replace(forced, frequency_penalty=45.0)
    assert tokens_of(make(), submit("a", [1, 7, 3], 9, sampling=fading))[:3] == [7, 7, 7]
    # 100 / 50 = 2 is below the model's best: the prompt's 7 counts, and output adds the rest.
    shunned = replace(forced, repetition_penalty=50.0)
    assert tokens_of(make(), submit("a", [1, 7, 3], 1, sampling=shunned)) != [7]
    assert tokens_of(make(), submit("a", [1, 2, 3], 2, sampling=shunned))[0] == 7


HOT = Sampling(temperature=1.0, seed=11, top_p=0.95, frequency_penalty=0.3, repetition_penalty=1.2)


def test_generation_resumes_in_another_engine_exactly() -> None:
    whole = tokens_of(make(), submit("a", [1, 2, 3], 20, sampling=HOT))
    assert len(set(whole)) > 5
    for cut in (1, 7, 19):
        rest = submit("b", [1, 2, 3], 20, sampling=HOT, output=tuple(whole[:cut]))
        assert whole[:cut] + tokens_of(make(), rest) == whole


def test_neighbours_preemption_and_chunks_do_not_change_samples() -> None:
    asked = [
        submit(str(n), [n + 1] * (2 + 5 * n), 15, sampling=replace(HOT, seed=n)) for n in range(6)
    ]
    alone = {one.request_id: tokens_of(make(), one) for one in asked}
    core = make(num_blocks=12, max_batch_tokens=10)
    together = run(core, *asked)
    assert core.stats().preemptions > 0
    assert {name: got.tokens for name, got in together.items()} == alone


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"prompt": ()}, "prompt"),
        ({"prompt": (1, VOCAB)}, f"prompt: token id {VOCAB}"),
        ({"prompt": (-1,)}, "prompt: token id -1"),
        ({"output": (99,)}, "output: token id 99"),
        ({"output": (1,) * 6}, "max_tokens"),
        ({"sampling": Sampling(stop_token_ids=(VOCAB,))}, "stop_token_ids"),
        ({"sampling": Sampling(logit_bias=((VOCAB, 1.0),))}, "logit_bias"),
        ({"sampling": Sampling(logit_bias=((1, float("nan")),))}, "logit_bias"),
        ({"sampling": Sampling(logit_bias=((1, 1.0), (1, 2.0)))}, "logit_bias"),
        ({"sampling": Sampling(temperature=float("nan"))}, "temperature"),
        ({"sampling": Sampling(temperature=-1.0)}, "temperature"),
        ({"sampling": Sampling(top_p=1.5)}, "top_p"),
        ({"sampling": Sampling(top_k=-1)}, "top_k"),
        ({"sampling": Sampling(min_p=2.0)}, "min_p"),
        ({"sampling": Sampling(repetition_penalty=0.0)}, "repetition_penalty"),
        ({"sampling": Sampling(presence_penalty=float("inf"))}, "presence_penalty"),
        ({"sampling": Sampling(frequency_penalty=-1e39)}, "frequency_penalty"),  # float32: -inf
        ({"sampling": Sampling(logit_bias=((1, 1e39),))}, "logit_bias"),
        ({"sampling": Sampling(temperature=1e39)}, "temperature"),
        ({"sampling": Sampling(seed=2**64)}, "seed"),
        ({"sampling": Sampling(logprobs=21)}, "logprobs"),
        ({"sampling": Sampling(prompt_logprobs=-1)}, "prompt_logprobs"),
        ({"sampling": Sampling(logprobs=0, logprob_token_ids=(-1,))}, "logprob_token_ids"),
        ({"sampling": Sampling(logprobs=0, logprob_token_ids=(1,) * 65)}, "logprob_token_ids"),
    ],
)
def test_what_would_break_a_batch_is_refused(changes: dict[str, Any], word: str) -> None:
    core = make()
    [fail] = core.submit(replace(submit("a", [1, 2, 3]), **changes))
    assert isinstance(fail, Fail)
    assert fail.code == "invalid"
    assert word in fail.message
    assert not core.busy
    core.check()


def test_the_schedulers_refusals_become_fails() -> None:
    core = make(max_batch_size=1, max_queue_requests=1)
    assert core.submit(submit("a", [1])) == core.submit(submit("b", [1])) == []
    codes = []
    for one in (submit("a", [1]), submit("c", [1]), submit("d", [1] * 101)):
        [fail] = core.submit(one)
        assert isinstance(fail, Fail)
        codes.append(fail.code)
    assert codes == ["invalid", "overloaded", "too_long"]
    core.check()


def test_a_poisoned_request_is_ejected_and_the_batch_goes_on() -> None:
    core = make()
    asked = [submit("a", [1, 2, 3]), submit("bad", [1, POISON, 3]), submit("c", [7, 8])]
    got = run(core, *asked)
    end = got["bad"].end
    assert isinstance(end, Fail)
    assert end.code == "engine"
    assert "finite" in end.log
    assert "finite" not in end.message
    assert got["a"].tokens == greedy([1, 2, 3], 6)
    assert got["c"].tokens == greedy([7, 8], 6)
    assert core.stats().kv_blocks_used == 0


def test_a_poisoned_request_that_alone_wants_logprobs_is_ejected_alone() -> None:
    wants = replace(GREEDY, logprobs=1)
    got = run(make(), submit("a", [1, 2, 3]), submit("bad", [1, POISON, 3], sampling=wants))
    assert isinstance(got["bad"].end, Fail)
    assert got["a"].tokens == greedy([1, 2, 3], 6)


def test_a_poisoned_prompt_score_fails_its_request_alone() -> None:
    scored = replace(GREEDY, prompt_logprobs=0)
    got = run(
        make(max_batch_tokens=8),
        submit("a", [1, 2, 3], sampling=scored),
        submit("bad", [1, POISON, *range(20)], sampling=scored),
    )
    assert isinstance(got["bad"].end, Fail)
    assert "scoring" in got["bad"].end.log
    assert got["a"].finish.reason == "length"


def test_a_failed_request_leaves_nothing_in_the_prefix_cache() -> None:
    core = make()
    run(core, submit("bad", [1, POISON, *range(20)]))
    end = run(core, submit("b", [1, POISON, *range(20)]))["b"].end
    assert isinstance(end, Fail)
    assert core.stats().prefix_hits == 0


def test_masking_every_token_is_the_requests_own_fault() -> None:
    barred = replace(GREEDY, stop_token_ids=tuple(range(VOCAB)), min_tokens=1)
    got = run(make(), submit("a", [1, 2, 3], sampling=barred), submit("b", [4]))
    assert isinstance(got["a"].end, Fail)
    assert got["b"].tokens == greedy([4], 6)


def test_an_exception_in_forward_fails_its_step_and_the_engine_lives() -> None:
    core = make()
    got = run(core, submit("a", [1, 2]), submit("bad", [1, RAISE]))
    for name in ("a", "bad"):
        end = got[name].end
        assert isinstance(end, Fail)
        assert end.code == "engine"
        assert "a token that raises" in end.log
        assert "raises" not in end.message
    assert tokens_of(core, submit("a", [1, 2])) == greedy([1, 2], 6)


def test_sampling_that_raises_ejects_only_its_request() -> None:
    """The whole batch raises, then each row alone: only the row at fault is lost."""
    got = run(make(), submit("a", [1, 2]), submit("bad", [3, SOUR]), submit("c", [4]))
    end = got["bad"].end
    assert isinstance(end, Fail)
    assert "a sour row" in end.log
    assert "sour" not in end.message
    assert got["a"].tokens == greedy([1, 2], 6)
    assert got["c"].tokens == greedy([4], 6)


def test_abort_while_waiting_and_while_running() -> None:
    core = make(max_batch_size=1)
    core.submit(submit("a", [1, 2], 50))
    core.submit(submit("b", [3, 4]))
    core.step()
    core.step()
    for name in ("b", "a"):
        [finish] = [event for event in core.abort(name) if not isinstance(event, Tokens)]
        assert isinstance(finish, Finish)
        assert finish.reason == "abort"
        core.check()
    assert core.abort("a") == core.abort("unknown") == []
    assert not core.busy
    assert core.stats().kv_blocks_used == 0


def test_close_forgets_everything() -> None:
    core = make()
    core.submit(submit("a", [1, 2], 50))
    core.step()
    core.close()
    core.check()
    assert not core.busy
    assert core.step() == []


def test_timings_are_the_clocks() -> None:
    clock = iter(range(0, 1000, 10))
    core = make(clock=(float(t) for t in clock))
    core.submit(submit("a", [1, 2], 3))  # t = 0
    events: list[Event] = []
    while core.busy:  # every step reads the clock twice: plan and commit
        events += core.step()
    first, finish = events[0], events[-1]
    assert isinstance(first, Tokens)
    assert first.begun == Begun(queued_s=10, prefill_s=10)
    assert isinstance(finish, Finish)
    assert finish.decode_s == 40


def test_a_request_that_never_ran_decoded_nothing() -> None:
    core = make(clock=iter([5.0, 12.0]))
    core.submit(submit("a", [1, 2]))
    [finish] = core.abort("a")
    assert isinstance(finish, Finish)
    assert finish.decode_s == 0


def test_stats_count_tokens() -> None:
    core = make()
    core.submit(submit("a", [1, 2, 3], 4))
    core.submit(submit("b", [1, 2], 4))
    core.step()
    stats = core.stats()
    assert (stats.running, stats.waiting, stats.kv_blocks_used) == (2, 0, 2)
    while core.busy:
        core.step()
    stats = core.stats()
    assert (stats.prompt_tokens, stats.output_tokens, stats.running) == (5, 8, 0)


def test_info_tells_the_cache() -> None:
    info = make().info
    assert (info.engine, info.runner, info.vocab_size) == ("native", "hash", VOCAB)
    assert info.kv_cache_bytes == 60 * 4 * 4 * 8  # blocks · tokens · (2 + 2) numbers · float64


def test_prompt_scores_come_once_and_before_the_first_token() -> None:
    sampling = replace(GREEDY, prompt_logprobs=1, logprobs=0)
    core = make(max_batch_tokens=8)
    core.submit(submit("a", list(range(20)), 3, sampling=sampling))
    kinds = []
    while core.busy:
        kinds += [type(event) for event in core.step()]
    assert kinds == [PromptScored, Tokens, Tokens, Tokens, Finish]


def test_a_prompt_of_one_token_has_an_empty_score() -> None:
    got = run(make(), submit("a", [1], sampling=replace(GREEDY, prompt_logprobs=1)))["a"]
    assert got.prompt == ()


def test_scored_prompts_do_not_use_the_prefix_cache() -> None:
    core = make()
    prompt = list(range(20))
    run(core, submit("a", prompt))
    got = run(core, submit("b", prompt, sampling=replace(GREEDY, prompt_logprobs=0)))["b"]
    assert got.cached_tokens == 0
    assert got.prompt is not None
    assert [one.token_id for one in got.prompt] == prompt[1:]


def test_the_first_logits_are_the_models() -> None:
    got = run(make(), submit("a", [1, 2, 3], 1, sampling=replace(GREEDY, logprobs=20)))["a"]
    row = logits_after([1, 2, 3])
    order = sorted(range(VOCAB), key=lambda i: -row[i])
    [one] = got.logprobs
    assert [token for token, _ in one.top] == order[:20]
    assert one.top[0] == (one.token_id, one.logprob)
