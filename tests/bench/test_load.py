"""Open and closed loops in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from inferd.bench.load import closed_loop, open_loop
from inferd.bench.record import Record
from inferd.bench.workload import Prompt
from tests.bench.virtual_time import Clock, run

PROMPTS = [Prompt(str(i), 1) for i in range(4)]


class Server:
    """Takes `seconds[i]` for the i-th prompt."""

    def __init__(self, seconds: Sequence[float], clock: Clock) -> None:
        self._seconds = seconds
        self._clock = clock
        self.running = self.most = 0

    async def send(self, prompt: Prompt, index: int, scheduled: float) -> Record:
        made = Record(index, scheduled, self._clock())
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(self._seconds[index])
        self.running -= 1
        made.ended = self._clock()
        return made


def spans(records: Sequence[Record]) -> list[tuple[float, float, float]]:
    return [(each.scheduled, each.sent, each.ended) for each in records]


def test_an_open_loop_waits_for_nobody() -> None:
    async def main(clock: Clock) -> tuple[list[Record], int]:
        server = Server([10, 10, 1, 1], clock)
        return await open_loop(PROMPTS, [0, 1, 2, 4], server.send, clock=clock), server.most

    records, most = run(main)
    assert spans(records) == [(0, 0, 10), (1, 1, 11), (2, 2, 3), (4, 4, 5)]
    assert most == 3


def test_who_waits_for_a_turn_counts_from_the_schedule() -> None:
    async def main(clock: Clock) -> list[Record]:
        server = Server([10, 1, 1, 1], clock)
        return await open_loop(PROMPTS, [0, 1, 2, 20], server.send, clock=clock, max_concurrency=1)

    records = run(main)
    assert spans(records) == [(0, 0, 10), (1, 10, 11), (2, 11, 12), (20, 20, 21)]
    assert [each.wait for each in records] == [0, 9, 9, 0]


def test_a_late_client_is_seen() -> None:
    """The client stands still from 1 to 3 s: who was due meanwhile is sent late, and keeps its
    schedule."""

    async def main(clock: Clock) -> list[Record]:
        loop = asyncio.get_running_loop()
        loop.call_later(1, lambda: setattr(loop, "now", clock() + 2))
        return await open_loop(PROMPTS, [0, 2, 2.5, 4], Server([0] * 4, clock).send, clock=clock)

    assert [each.wait for each in run(main)] == [0, 1, 0.5, 0]


def test_all_at_once() -> None:
    async def main(clock: Clock) -> int:
        server = Server([1] * 4, clock)
        await open_loop(PROMPTS, [0] * 4, server.send, clock=clock)
        return server.most

    assert run(main) == 4


def test_a_closed_loop_sends_when_another_has_ended() -> None:
    async def main(clock: Clock) -> tuple[list[Record], int]:
        server = Server([5, 1, 2, 4], clock)
        return await closed_loop(PROMPTS, 2, server.send, clock=clock), server.most

    records, most = run(main)
    assert spans(records) == [(0, 0, 5), (0, 0, 1), (1, 1, 3), (3, 3, 7)]
    assert most == 2


def test_a_closed_loop_of_more_than_there_are() -> None:
    async def main(clock: Clock) -> int:
        server = Server([1] * 4, clock)
        return len(await closed_loop(PROMPTS, 100, server.send, clock=clock))

    assert run(main) == 4
