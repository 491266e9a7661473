"""Adapters in the native core: any order of loads, drops, aborts, sleep and requests."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.verify_numbers.drive import Transcript, record
from inferd.engines.native.core import NativeCore
from inferd.engines.native.decoder import Decoder
from inferd.messages import (
    AdapterDropped,
    AdapterInfo,
    Event,
    LoadAdapter,
    Submit,
)
from tests.engines.native.adapters.cores import SIZE, Expected, ask, make

OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("load"), st.integers(0, 3)),
        st.tuples(st.just("drop"), st.integers(0, 3)),
        st.tuples(st.just("ask"), st.integers(-1, 3), st.integers(1, 9), st.integers(1, 12)),
        st.tuples(st.just("abort"), st.integers(0, 9)),
        st.tuples(st.just("step"), st.integers(1, 3)),
        st.tuples(st.just("rest")),
    ),
    max_size=40,
)


class Player:
    """Plays operations on a core, and knows what must come of them."""

    def __init__(self, core: NativeCore, adapters: dict[str, Path], expected: Expected) -> None:
        self.core = core
        self._adapters = adapters
        self._expected = expected
        self._asked: dict[str, Submit] = {}
        self._transcripts: dict[str, Transcript] = {}
        self._held: set[str] = set()
        self._dropping: set[str] = set()  # not told of yet

    def load(self, number: int) -> None:
        name = f"g{number}"
        self.core.load_adapter(LoadAdapter(name, str(self._adapters[name])))
        self._held.add(name)

    def drop(self, number: int) -> None:
        self.core.drop_adapter(f"g{number}")
        self._held.discard(f"g{number}")
        self._dropping.add(f"g{number}")

    def ask(self, number: int, length: int, count: int) -> None:
        name = f"g{number}" if number >= 0 else ""
        one = ask(f"r{len(self._transcripts)}", name, range(1, length + 1), count)
        self._transcripts[one.request_id] = Transcript()
        events = self.core.submit(one)
        assert bool(events) == bool(name and name not in self._held)
        if not events:
            self._asked[one.request_id] = one
        self._take(events)

    def abort(self, number: int) -> None:
        self._take(self.core.abort(f"r{number}"))

    def step(self, count: int) -> None:
        for _ in range(count):
            self._take(self.core.step() if self.core.busy else ())

    def rest(self) -> None:
        if not (self.core.stats().running or self.core.stats().waiting):
            self.core.sleep()
            self.core.wake()

    def finish(self) -> None:
        """All ends well, with the right tokens, and nothing is left."""
        while self.core.busy:
            self.step(1)
        self._take(())
        for name, one in self._asked.items():
            got = self._transcripts[name]
            whole = self._expected(one.prompt, one.adapter)[: one.max_tokens]
            if got.finish.reason == "abort":
                whole = whole[: len(got.tokens)]
            assert got.tokens == whole
        assert not self._dropping
        for name in list(self._held):
            self.core.drop_adapter(name)
        stats = self.core.stats()
        assert stats.kv_blocks_used == stats.adapters_held == stats.memory.adapters == 0

    def _take(self, events: Iterable[Event]) -> None:
        for event in events:
            record(self._transcripts[event.request_id], event)
        for news in self.core.adapter_news():
            if isinstance(news, AdapterDropped):
                self._dropping.discard(news.adapter)
            else:
                assert isinstance(news, AdapterInfo) or news.code == "engine"
        self.core.check()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    operations=OPERATIONS,
    room=st.integers(1, 4),
    slots=st.integers(1, 3),
    blocks=st.sampled_from([8, 40]),
)
def test_any_order_of_events(
    model: Decoder,
    adapters: dict[str, Path],
    expected: Expected,
    operations: list[tuple[Any, ...]],
    room: int,
    slots: int,
    blocks: int,
) -> None:
    """Each request gets its generation's tokens, whatever happens meanwhile; nothing stays."""
    core = make(
        model,
        host_bytes=room * SIZE,
        max_adapters=slots,
        num_blocks=blocks,
        max_batch_tokens=9,
        max_model_len=32,
    )
    player = Player(core, adapters, expected)
    for kind, *arguments in operations:
        getattr(player, kind)(*arguments)
    player.finish()
