"""One step ahead: any mix of requests gets what it gets when each step waits for the one before."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from benchmarks.verify_numbers.drive import Transcript, drive, record
from inferd.engines.native.core import NativeCore
from inferd.messages import Event, Fail, Finish, Sampling, Submit
from inferd_scheduler import SchedulerConfig
from tests.engines.native.ahead import GREEDY, HOT, make, submit
from tests.engines.native.hash_model import POISON, SOUR, greedy
from tests.engines.native.spelling import END, lark_of


def end_of(transcript: Transcript) -> Any:
    """How it ended, without times and counts of preemptions."""
    end = transcript.end
    if isinstance(end, Finish):
        return end.reason, end.stop_token_id
    assert isinstance(end, Fail)
    return end.code, end.message


def requests() -> st.SearchStrategy[Submit]:
    sampling = st.builds(
        Sampling,
        temperature=st.sampled_from([0.0, 1.0]),
        seed=st.integers(0, 3),
        top_k=st.sampled_from([0, 3]),
        frequency_penalty=st.sampled_from([0.0, 0.4]),
        repetition_penalty=st.sampled_from([1.0, 1.3]),
        stop_token_ids=st.sampled_from([(END,), (END, 3, 17, 30), (END, *range(20))]),
        logprobs=st.sampled_from([None, 2]),
        prompt_logprobs=st.sampled_from([None, None, 1]),
        logprobs_mode=st.sampled_from(["raw", "processed"]),
    )
    grammars = st.sampled_from(
        ["", "", "", "start: /[a-c]{2,9}/", 'start: "ab" | "abcd"', lark_of({"type": "integer"})]
    )
    fault = st.sampled_from([[]] * 8 + [[POISON], [SOUR]])

    def build(shared: int, own: list[int], bad: list[int], **options: Any) -> Submit:
        if options["grammar"]:
            options["output"] = ()
        else:
            options["sampling"] = replace(options["sampling"], min_tokens=shared % 3)
            options["max_tokens"] = max(options["max_tokens"], 3)
        return Submit("", tuple([7, 8] * shared + own + bad), **options)

    return st.builds(
        build,
        shared=st.integers(0, 6),
        own=st.lists(st.integers(0, 9), min_size=1, max_size=9),
        bad=fault,
        max_tokens=st.sampled_from([1, 2, 5, 20]),
        sampling=sampling,
        grammar=grammars,
        output=st.sampled_from([(), (), (43,), (43, 44)]),
        priority=st.integers(0, 2),
        caller=st.sampled_from(["x", "y"]),
    )


CONFIGS = st.builds(
    SchedulerConfig,
    max_batch_size=st.integers(1, 6),
    max_batch_tokens=st.integers(6, 30),
    num_blocks=st.integers(14, 40),
    block_size=st.sampled_from([2, 4]),
    max_model_len=st.just(28),
    policy=st.sampled_from(["fcfs", "priority", "fair"]),
    prefix_cache=st.booleans(),
)


@settings(deadline=None, max_examples=60)
@given(
    config=CONFIGS,
    asked=st.lists(st.tuples(requests(), st.integers(0, 10)), min_size=1, max_size=8),
    aborted=st.dictionaries(st.integers(0, 7), st.integers(0, 20), max_size=3),
)
def test_any_mix_of_requests_gets_the_same(
    config: SchedulerConfig, asked: list[tuple[Submit, int]], aborted: dict[int, int]
) -> None:
    """`asked`: what comes at which turn. `aborted`: who is given up at which turn."""
    named = [(replace(one, request_id=str(n)), turn) for n, (one, turn) in enumerate(asked)]
    cores = [make(config, ahead=ahead) for ahead in (False, True)]
    plain, ahead = (play(core, named, aborted) for core in cores)
    for one, _ in named:
        name = one.request_id
        if ("abort", None) in (end_of(plain[name]), end_of(ahead[name])):
            assert int(name) in aborted
            shorter, longer = sorted((plain[name], ahead[name]), key=lambda t: len(t.tokens))
            assert longer.tokens[: len(shorter.tokens)] == shorter.tokens
            continue
        assert ahead[name].tokens == plain[name].tokens
        assert ahead[name].logprobs == plain[name].logprobs
        assert ahead[name].prompt == plain[name].prompt
        assert end_of(ahead[name]) == end_of(plain[name])
    for core in cores:
        assert core.stats().kv_blocks_used == 0
        core.close()


def play(
    core: NativeCore, asked: list[tuple[Submit, int]], aborted: dict[int, int]
) -> dict[str, Transcript]:
    """Exactly one end for each, whatever is asked when; invariants hold at every turn."""
    found = {one.request_id: Transcript() for one, _ in asked}
    turn = 0
    while core.busy or turn <= 20:
        events: list[Event] = []
        for one, when in asked:
            if when == turn:
                events += core.submit(one)
        for n, when in aborted.items():
            if when == turn:
                events += core.abort(str(n))
        core.check()
        if core.busy:
            events += core.step()
        core.check()
        for event in events:
            record(found[event.request_id], event)
        turn += 1
        assert turn < 1000
    assert all(one.end is not None for one in found.values())
    return found


@pytest.mark.parametrize(
    "changes",
    [{}, {"num_blocks": 14}, {"max_batch_tokens": 9}, {"block_size": 3}, {"max_batch_size": 2}],
)
def test_chunks_preemption_and_prefixes_change_nothing(changes: dict[str, Any]) -> None:
    asked = [
        submit(str(n), [5, 6, 7, 8] * (n % 3) + [n + 1] * (3 + 7 * (n % 4)), 20, sampling=sampled)
        for n, sampled in enumerate([GREEDY, HOT] * 4)
    ]
    plain, ahead = make(ahead=False, **changes), make(**changes)
    expected, got = drive(plain, asked), drive(ahead, asked)
    for one in asked:
        assert got[one.request_id].tokens == expected[one.request_id].tokens
        if one.sampling is GREEDY:
            assert got[one.request_id].tokens == greedy(one.prompt, 20)
    assert (plain.stats().preemptions > 0) == (ahead.stats().preemptions > 0)
