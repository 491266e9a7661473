"""Adapters while a step is in flight: what it uses stays where it is, as long as it does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace

from benchmarks.verify_numbers.drive import drive
from inferd.engines.native.adapters.slots import Slots
from inferd.engines.native.core import NativeCore
from inferd.engines.native.decoder import Decoder
from inferd.messages import AdapterDropped, Fail, Finish, Tokens
from tests.engines.native.adapters import cores
from tests.engines.native.adapters.cores import GREEDY, SIZE, Expected, ask, load
from tests.engines.native.ahead import finish


def make(model: Decoder, **changes: Any) -> NativeCore:
    return cores.make(model, ahead=True, **changes)


@pytest.mark.parametrize("room", [2, 6])
def test_more_adapters_than_slots_and_host_memory(
    model: Decoder, adapters: dict[str, Path], expected: Expected, room: int
) -> None:
    """Slots are filled anew all the time; `drive` checks at every turn."""
    core = make(model, host_bytes=room * SIZE, adapter_turn=0)
    load(core, adapters, *adapters)
    asked = [ask(f"{n} {name}", name, (n + 1, 4), 4 + n) for n in range(3) for name in adapters]
    asked += [ask(f"bare {n}", "", (n + 1, 4), 9) for n in range(2)]
    got = drive(core, asked)
    for one in asked:
        assert got[one.request_id].tokens == expected(one.prompt, one.adapter)[: one.max_tokens]
    assert core.stats().adapter_loads >= 6


def test_an_adapter_whose_last_request_was_aborted_stays_until_its_step_is_done(
    model: Decoder, adapters: dict[str, Path], expected: Expected
) -> None:
    core = make(model)
    load(core, adapters, "g0")
    core.submit(ask("a", "g0", count=50))
    core.step()
    core.drop_adapter("g0")
    assert isinstance(core.abort("a")[-1], Finish)
    core.check()
    assert core.adapter_news() == []
    assert core.stats().adapters_in_slots == 1
    assert core.busy
    assert finish(core) == []
    assert core.adapter_news() == [AdapterDropped("g0")]
    assert core.stats().adapters_in_slots == 0


def test_an_adapter_whose_last_request_stopped_stays_until_the_next_step_is_done(
    model: Decoder, adapters: dict[str, Path], expected: Expected
) -> None:
    tokens = expected((5, 6, 7), "g0")
    last = next(n for n in range(2, 12) if tokens[n] not in tokens[:n])
    core = make(model)
    load(core, adapters, "g0")
    sampling = replace(GREEDY, stop_token_ids=(tokens[last],))
    core.submit(replace(ask("a", "g0", count=50), sampling=sampling))
    events = core.step()
    core.drop_adapter("g0")
    while not isinstance(events[-1], Finish):
        events += core.step()
        core.check()
    assert core.adapter_news() == []
    assert finish(core) == []
    assert core.adapter_news() == [AdapterDropped("g0")]


def test_sleep_lets_go_of_what_the_step_in_flight_used(
    model: Decoder, adapters: dict[str, Path], expected: Expected
) -> None:
    core = make(model)
    load(core, adapters, "g0")
    core.submit(ask("a", "g0", count=50))
    core.step()
    core.drop_adapter("g0")
    core.abort("a")
    core.check()
    core.sleep()
    core.check()
    assert core.adapter_news() == [AdapterDropped("g0")]
    core.wake()
    load(core, adapters, "g1")
    assert drive(core, [ask("b", "g1")])["b"].tokens == expected((5, 6, 7), "g1")[:6]


def test_a_slot_that_cannot_be_filled_for_a_step_that_is_begun_ahead(
    model: Decoder,
    adapters: dict[str, Path],
    expected: Expected,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those who need it fail; nobody after them takes the empty slot for theirs."""
    core = make(model)
    load(core, adapters, "g0", "g1")
    fill = Slots.fill
    room = False

    def full(self: Slots, slot: int, name: str, factors: Any) -> None:
        if name == "g0" and not room:
            self.clear(slot)
            raise torch.OutOfMemoryError("no room")
        fill(self, slot, name, factors)

    monkeypatch.setattr(Slots, "fill", full)
    core.submit(ask("long", "g1", count=30))
    events = core.step() + core.step()
    core.submit(ask("a", "g0"))
    events += core.step()  # `a` comes in with the step that is begun ahead
    core.check()
    room = True
    core.submit(ask("b", "g0"))
    events += finish(core)
    tokens: dict[str, list[int]] = {"long": [], "b": []}
    for event in events:
        if isinstance(event, Tokens):
            tokens[event.request_id] += event.token_ids
    [failed] = [event for event in events if isinstance(event, Fail)]
    assert (failed.request_id, "no room" in failed.log) == ("a", True)
    assert tokens["b"] == expected((5, 6, 7), "g0")[:6]
    assert tokens["long"][:12] == expected((5, 6, 7), "g1")
    assert len(tokens["long"]) == 30
