"""The rules that the echo engine follows, and the faults it injects."""

from __future__ import annotations

import math

import pytest

from inferd.engines.base import EngineSpec, Progress
from inferd.engines.echo import EchoCore, create
from inferd.engines.echo_logprobs import score
from inferd.engines.echo_options import Options
from inferd.errors import StartError
from inferd.messages import Begun, Event, Fail, Finish, PromptScored, Sampling, Submit, Tokens

GREEDY = Sampling(temperature=0.0)


def make(options: str = "", **overrides: object) -> EchoCore:
    spec = EngineSpec(engine="echo", model=f"echo:{options}", **overrides)  # type: ignore[arg-type]
    return create(spec, lambda progress: None)


def run(core: EchoCore, *submits: Submit) -> list[Event]:
    """Submit all, then step until idle; checks the invariants all along."""
    events = [event for submit in submits for event in core.submit(submit)]
    while core.busy:
        events += core.step()
        core.check()
    return events


def tokens(events: list[Event], request_id: str = "a") -> list[int]:
    return [
        token
        for event in events
        if isinstance(event, Tokens) and event.request_id == request_id
        for token in event.token_ids
    ]


def test_repeats_its_prompt() -> None:
    assert tokens(run(make(), Submit("a", (7, 8, 9), 5, GREEDY))) == [7, 8, 9, 7, 8]


def test_follows_a_script() -> None:
    assert tokens(run(make("script=5-6"), Submit("a", (1,), 3, GREEDY))) == [5, 6, 5]


def test_stops_at_a_stop_token() -> None:
    events = run(make(), Submit("a", (7, 8, 9), 9, Sampling(stop_token_ids=(8,))))
    assert tokens(events) == [7, 8]
    assert isinstance(events[-1], Finish)
    assert (events[-1].reason, events[-1].stop_token_id) == ("stop", 8)


@pytest.mark.parametrize(
    ("prompt", "made"), [((7, 8, 9), [7, 9, 9, 7, 8]), ((8,), [0, 0, 0, 0, 8])]
)
def test_masks_stop_tokens_before_min_tokens(prompt: tuple[int, ...], made: list[int]) -> None:
    sampling = Sampling(stop_token_ids=(8,), min_tokens=4)
    assert tokens(run(make(), Submit("a", prompt, 9, sampling))) == made


def test_resumes_after_given_output() -> None:
    assert tokens(run(make(), Submit("a", (7, 8, 9), 5, GREEDY, output=(7, 8)))) == [9, 7, 8]


@pytest.mark.parametrize(("rank", "k"), [(1, 0), (1, 3), (2, 3), (3, 2)])
def test_logprobs_are_a_distribution(rank: int, k: int) -> None:
    scored = score(1, rank, k)
    assert scored.logprob == pytest.approx(math.log(0.5**rank))
    assert [value for _, value in scored.top] == pytest.approx(
        [math.log(0.5**r) for r in range(1, k + 1)]
    )
    ids = [token for token, _ in scored.top]
    assert len(set(ids)) == k
    assert (1 in ids) == (rank <= k)
    if rank <= k:
        assert ids[rank - 1] == 1


@pytest.mark.parametrize(("token", "rank"), [(0, 1), (1, 1), (1, 3), (5, 2), (7, 12)])
def test_extra_logprobs_follow_the_same_rule(token: int, rank: int) -> None:
    whole = dict(score(token, rank, 12).top)
    extra = score(token, rank, 0, tuple(range(11))).extra
    assert extra == tuple((t, whole[t]) for t in range(11))


def test_scores_the_prompt_before_the_first_token() -> None:
    events = run(make(), Submit("a", (7, 8, 9), 2, Sampling(prompt_logprobs=1)))
    first = events[0]
    assert isinstance(first, PromptScored)
    assert [(each.token_id, each.rank) for each in first.logprobs] == [(8, 2), (9, 3)]


def test_runs_at_most_a_batch_in_order_of_arrival() -> None:
    core = make(max_batch_size=2)
    for name in "abc":
        assert core.submit(Submit(name, (1,), 3, GREEDY)) == []
    assert [event.request_id for event in core.step()] == ["a", "b"]
    assert (core.stats().running, core.stats().waiting) == (2, 1)


def test_waits_for_blocks() -> None:
    core = make("blocks=3", block_size=4)
    core.submit(Submit("a", (1,) * 7, 2, GREEDY))
    core.submit(Submit("b", (1,) * 7, 2, GREEDY))
    core.step()
    assert (core.stats().running, core.stats().waiting) == (1, 1)
    assert core.stats().kv_blocks_used == 2
    assert sum(isinstance(event, Finish) for event in run(core)) == 2
    assert core.stats().kv_blocks_used == 0


def test_a_sequence_that_outgrows_the_pool_fails_alone() -> None:
    core = make("blocks=3", block_size=4)
    events = run(core, Submit("a", (1,) * 3, 9, GREEDY), Submit("b", (1,) * 3, 9, GREEDY))
    ends = [event for event in events if isinstance(event, Fail | Finish)]
    assert [(end.request_id, type(end)) for end in ends] == [("b", Fail), ("a", Finish)]
    assert isinstance(ends[0], Fail)
    assert ends[0].code == "capacity"


def test_bounds_its_queue_by_requests_and_by_tokens() -> None:
    core = make(max_batch_size=1, max_queue_requests=3, max_queue_tokens=12)
    core.submit(Submit("runs", (1,), 50, GREEDY))
    core.step()
    refused = [core.submit(Submit(f"t{i}", (1,) * 5, 5, GREEDY)) for i in range(3)]
    assert refused[:2] == [[], []]
    [fail] = refused[2]
    assert isinstance(fail, Fail)
    assert (fail.code, fail.message) == ("overloaded", "too many tokens are waiting")
    assert core.submit(Submit("small", (1,), 5, GREEDY)) == []
    [fail] = core.submit(Submit("fourth", (1,), 5, GREEDY))
    assert isinstance(fail, Fail)
    assert fail.message == "too many requests are waiting"


def test_aborts_what_runs_and_what_waits() -> None:
    core = make(max_batch_size=1)
    core.submit(Submit("runs", (1,), 5, GREEDY))
    core.submit(Submit("waits", (1,), 5, GREEDY))
    core.step()
    for name in ("waits", "runs"):
        [end] = core.abort(name)
        assert isinstance(end, Finish)
        assert (end.request_id, end.reason) == (name, "abort")
        core.check()
    assert core.abort("runs") == []
    assert not core.busy


def test_a_fault_fails_one_sequence() -> None:
    events = run(
        make("fail_token=8"), Submit("a", (7, 8), 5, GREEDY), Submit("b", (7, 9), 2, GREEDY)
    )
    assert tokens(events, "b") == [7, 9]
    [fail] = [event for event in events if isinstance(event, Fail)]
    assert (fail.request_id, fail.code) == ("a", "engine")


def test_times_are_by_the_clock_it_is_given() -> None:
    ticks = iter(range(100))
    core = EchoCore(EngineSpec(engine="echo"), Options(), clock=lambda: float(next(ticks)))
    core.submit(Submit("a", (1,), 2, GREEDY))
    events = [*core.step(), *core.step()]
    first, finish = events[0], events[-1]
    assert isinstance(first, Tokens)
    assert first.begun == Begun(queued_s=1.0, prefill_s=1.0)
    assert isinstance(finish, Finish)
    assert finish.decode_s == 1.0


def test_a_folder_as_model_sets_no_options() -> None:
    core = create(EngineSpec(engine="echo", model="/models/any"), lambda progress: None)
    assert core.info.vocab_size == 32_000


@pytest.mark.parametrize("options", ["nothing=1", "delay=soon", "vocab_size"])
def test_a_wrong_option_is_named(options: str) -> None:
    with pytest.raises(StartError) as caught:
        make(options)
    assert caught.value.code == "bad_option"
    assert options.partition("=")[0] in caught.value.message


def test_reports_progress() -> None:
    seen: list[Progress] = []
    create(EngineSpec(engine="echo", model="echo:load_bytes=8"), seen.append)
    assert [(each.done, each.total) for each in seen] == [(i, 8) for i in (0, 2, 4, 6, 8)]
