"""One step ahead: the order of things, and what becomes of requests that end in flight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from msgspec.structs import replace

from benchmarks.verify_numbers.drive import drive
from inferd.engines.native import runner as runner_module
from inferd.engines.native.constraint import Masks
from inferd.engines.native.core import NativeCore
from inferd.engines.native.model import Batch
from inferd.messages import Event, Fail, Finish, Tokens
from inferd_kernels.sampling import Choice, PendingChoice, Row
from inferd_kernels.sampling import choose_later as kernels_choose_later
from tests.engines.native.ahead import CONFIG, GREEDY, HOT, finish, make, submit
from tests.engines.native.hash_model import POISON, RAISE, SOUR, HashModel, greedy
from tests.engines.native.spelling import END

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


# ------------------------------------------------------------ what ends while it is in flight


def steps(core: NativeCore, count: int) -> list[Event]:
    events = []
    for _ in range(count):
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
    assert finish(core) == []
    assert core.stats().kv_blocks_used == 0
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
