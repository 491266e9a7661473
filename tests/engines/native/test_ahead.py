"""One step ahead: what every request gets is what it gets when each step waits for the one before,
and nothing of a step in flight is lost, told twice, or left behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace as with_changes
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from benchmarks.verify_numbers.drive import Transcript, drive, record
from inferd.engines.native import runner as runner_module
from inferd.engines.native.constraint import Masks
from inferd.engines.native.core import NativeCore
from inferd.engines.native.grammars import Grammars
from inferd.engines.native.model import Batch
from inferd.messages import Event, Fail, Finish, Sampling, Submit, Tokens
from inferd_kernels.sampling import Choice, PendingChoice, Row
from inferd_kernels.sampling import choose_later as kernels_choose_later
from inferd_scheduler import SchedulerConfig
from tests.engines.native.hash_model import POISON, RAISE, SOUR, HashModel, greedy
from tests.engines.native.spelling import END, VOCABULARY, lark_of

GREEDY = Sampling(temperature=0.0)
HOT = Sampling(temperature=1.0, seed=11, top_p=0.95, frequency_penalty=0.3, repetition_penalty=1.2)
CONFIG = SchedulerConfig(
    max_batch_size=6, max_batch_tokens=24, num_blocks=60, block_size=4, max_model_len=64
)


class StaticModel(HashModel):
    """Its states lie where those of the step before lay, among rows of padding; a forward pass that
    begins while they are still wanted ruins them."""

    def __init__(self) -> None:
        super().__init__()
        self._hidden = torch.full((64, 2), torch.nan, dtype=self.dtype)

    def forward(self, batch: Batch) -> torch.Tensor:
        hidden = super().forward(batch)
        self._hidden.fill_(torch.nan)
        self._hidden[: len(hidden)] = hidden
        return self._hidden[: len(hidden) + 5]


def make(config: SchedulerConfig = CONFIG, *, ahead: bool = True, **changes: Any) -> NativeCore:
    config = with_changes(config, **changes)
    return NativeCore(StaticModel(), config, ahead=ahead, grammars=Grammars(VOCABULARY))


def submit(name: str, prompt: list[int], max_tokens: int = 6, **options: Any) -> Submit:
    sampling = options.pop("sampling", GREEDY)
    return Submit(name, tuple(prompt), max_tokens, sampling, **options)


def end_of(transcript: Transcript) -> Any:
    """How it ended, without times and counts of preemptions."""
    end = transcript.end
    if isinstance(end, Finish):
        return end.reason, end.stop_token_id
    assert isinstance(end, Fail)
    return end.code, end.message


# ------------------------------------------------------------ the order of things


def test_the_next_forward_pass_is_launched_before_the_tokens_are_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And each choice is launched when the tokens before it are known."""
    told: list[str] = []
    choose = kernels_choose_later

    def choose_later(logits: torch.Tensor, rows: list[Row]) -> PendingChoice:
        told.append("sample")
        pending = choose(logits, rows)

        def result() -> Choice:
            told.append("known")
            return pending.result()

        return PendingChoice(pending.tokens, result)

    class Told(HashModel):
        def forward(self, batch: Batch) -> torch.Tensor:
            told.append("forward")
            return super().forward(batch)

    monkeypatch.setattr(runner_module, "choose_later", choose_later)
    drive(NativeCore(Told(), CONFIG, ahead=True), [submit("a", [1, 2], 4)])
    assert told == ["forward", *["sample", "forward", "known"] * 3, "sample", "known"]
    told.clear()
    drive(NativeCore(Told(), CONFIG, ahead=False), [submit("a", [1, 2], 4)])
    assert told == ["forward", "sample", "known"] * 4


def test_on_a_cpu_steps_wait_unless_they_are_told() -> None:
    core = NativeCore(HashModel(), CONFIG)
    core.submit(submit("a", [1, 2], 1))
    core.step()
    assert not core.busy


# ------------------------------------------------------------ the same for every request


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


# ------------------------------------------------------------ what ends while it is in flight


def steps(core: NativeCore, count: int) -> list[Event]:
    events = []
    for _ in range(count):
        events += core.step()
        core.check()
    return events


def finish(core: NativeCore) -> list[Event]:
    events: list[Event] = []
    while core.busy:
        events += core.step()
        core.check()
    return events


def counted_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens are chosen, by step."""
    counts: list[int] = []

    def choose_later(logits: torch.Tensor, rows: list[Row]) -> PendingChoice:
        counts.append(len(rows))
        return kernels_choose_later(logits, rows)

    monkeypatch.setattr(runner_module, "choose_later", choose_later)
    return counts


def test_a_stop_token_ends_a_sequence_though_it_is_computed_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = greedy([1, 2, 3], 6)
    stop = replace(GREEDY, stop_token_ids=(expected[2],))
    assert expected[2] not in expected[:2]
    sampled = counted_rows(monkeypatch)
    core = make()
    core.submit(submit("a", [1, 2, 3], 6, sampling=stop))
    events = steps(core, 3)
    assert events[-1] == replace(events[-1], reason="stop", stop_token_id=expected[2])
    assert core.stats().kv_blocks_used == 2  # the step in flight writes there
    assert core.busy
    assert core.step() == []
    assert core.stats().kv_blocks_used == 0
    assert not core.busy
    assert sampled == [1, 1, 1]  # the fourth pass was for nothing


def test_an_aborted_sequence_keeps_its_blocks_until_its_step_is_done() -> None:
    core = make()
    core.submit(submit("a", [1, 2], 50))
    core.submit(submit("b", [3, 4], 50))
    steps(core, 2)
    for name in "ab":
        [end] = core.abort(name)
        assert isinstance(end, Finish)
        core.check()
        assert core.abort(name) == []
    stats = core.stats()
    assert (stats.running, stats.kv_blocks_used) == (0, 2)
    assert core.busy
    assert finish(core) == []
    assert core.stats().kv_blocks_used == 0


def test_an_id_is_free_again_at_once_and_means_the_new_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The old one is still in flight; nothing of it reaches the new one."""
    sampled = counted_rows(monkeypatch)
    core = make()
    core.submit(submit("a", [1, 2, 3], 50))
    steps(core, 2)
    core.abort("a")
    core.submit(submit("a", [9, 9], 6, sampling=replace(GREEDY, logprobs=0)))
    core.check()
    tokens = [event.token_ids[0] for event in finish(core) if isinstance(event, Tokens)]
    assert tokens == greedy([9, 9], 6)
    assert sampled == [1] * (2 + 6)


def test_an_old_requests_fault_is_not_its_namesakes(caplog: pytest.LogCaptureFixture) -> None:
    core = make()
    core.submit(submit("a", [1, 2], 50))
    steps(core, 1)
    core.submit(submit("bad", [1, RAISE], 50))
    core.abort("a")
    core.submit(submit("a", [9, 9], 6))  # is planned beside `bad`, while the old one is in flight
    events = finish(core)
    assert "a token that raises" in caplog.text
    ends = {event.request_id: event for event in events if isinstance(event, Fail | Finish)}
    assert isinstance(ends["bad"], Fail)
    assert isinstance(ends["a"], Fail)  # its own step failed
    assert "a token that raises" in ends["a"].log
    again = drive(core, [submit("a", [9, 9], 6)])["a"]
    assert again.tokens == greedy([9, 9], 6)


def test_a_forward_pass_that_fails_leaves_the_step_before_it_alone() -> None:
    core = make()
    core.submit(submit("a", [1, 2], 50))
    steps(core, 2)
    core.submit(submit("bad", [1, RAISE]))
    events = core.step()  # `bad` comes in with the step that is planned ahead, and fails at once
    assert [type(event) for event in events] == [Tokens]
    events = core.step()
    assert {event.request_id for event in events if isinstance(event, Fail)} == {"a", "bad"}
    assert not core.busy
    assert drive(core, [submit("a", [1, 2])])["a"].tokens == greedy([1, 2], 6)


@pytest.mark.parametrize("fault", [POISON, SOUR])
def test_a_fault_in_a_step_hits_its_request_alone(fault: int) -> None:
    core = make()
    asked = [submit("a", [1, 2, 3], 9), submit("bad", [1, fault] + [5] * 9, 9), submit("c", [7], 9)]
    got = drive(core, asked)
    assert isinstance(got["bad"].end, Fail)
    assert got["a"].tokens == greedy([1, 2, 3], 9)
    assert got["c"].tokens == greedy([7], 9)
    assert core.stats().kv_blocks_used == 0
    assert isinstance(drive(core, [submit("bad", [1, fault] + [5] * 9, 9)])["bad"].end, Fail)
    assert core.stats().prefix_hits == 0  # nothing of it is offered


def test_sleep_waits_for_the_step_in_flight() -> None:
    expected = greedy([1, 2, 3], 3)
    core = make()
    stop = replace(GREEDY, stop_token_ids=(expected[2],))
    core.submit(submit("a", [1, 2, 3], 9, sampling=stop))
    events: list[Event] = []
    while not any(isinstance(event, Finish) for event in events):
        events += core.step()
    was_busy = core.busy  # a step with nobody in it
    core.check()
    core.sleep()
    assert (was_busy, core.busy) == (True, False)
    core.check()
    core.wake()
    assert drive(core, [submit("b", [1, 2, 3])])["b"].tokens == greedy([1, 2, 3], 6)


def test_close_with_a_step_in_flight() -> None:
    core = make()
    core.submit(submit("a", [1, 2], 50))
    steps(core, 2)
    core.close()
    core.check()
    assert not core.busy
    assert core.step() == []


# ------------------------------------------------------------ masks


def test_the_mask_of_the_next_step_is_begun_when_a_step_is_finished(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not when it is needed, and not for an answer that is over."""
    begun: list[int] = []
    begin = Masks.begin

    def counted(self: Any, constraints: Any) -> None:
        begun.append(len(constraints))
        begin(self, constraints)

    monkeypatch.setattr(Masks, "begin", counted)
    core = make()
    sampling = replace(GREEDY, stop_token_ids=(END,))
    core.submit(submit("a", [1], 20, grammar='start: "ab"', sampling=sampling))
    while not begun:
        core.step()  # it compiles
    assert begun == [1, 1]  # its first mask, and that of the step in flight
    core.step()
    assert begun == [1, 1, 1]
    events = core.step()
    assert isinstance(events[-1], Finish)
    assert begun == [1, 1, 1, 0]


def test_no_grammar_is_asked_on_after_its_end(caplog: pytest.LogCaptureFixture) -> None:
    core = make()
    sampling = replace(HOT, stop_token_ids=(END,))
    asked = [
        submit(str(n), [n], 20, grammar="start: /[a-c]{1,5}/", sampling=sampling) for n in range(9)
    ]
    for transcript in drive(core, asked).values():
        assert transcript.finish.reason == "stop"
    assert not caplog.records


# ------------------------------------------------------------ pieces


def test_rows_are_picked_as_slices() -> None:
    hidden = torch.arange(20).view(10, 2)
    pick: Callable[[torch.Tensor, list[int]], torch.Tensor] = runner_module.pick
    for rows in ([0], [3], [0, 1, 2], [4, 5, 6], [0, 1, 5, 9], [2, 4, 6], list(range(10))):
        assert pick(hidden, rows).tolist() == hidden[rows].tolist()
    assert pick(hidden, [2, 3, 4]).data_ptr() == hidden[2:].data_ptr()  # no copy
