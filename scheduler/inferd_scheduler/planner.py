"""One step's plan: who grows, who gives way, who advances by how much, who comes in.

No starvation: every running sequence in decode advances by one token in every step. What is left
of the step's tokens goes to the running sequences that have more to compute, in the fixed order of
`policy`, and only then to new ones. The head of the queue is never overtaken, whatever it waits
for, unless that is an adapter's slot; what it gets then instead is in `slots`. Together with
`policy.victim`, everyone is served in the end.
"""

from __future__ import annotations

from inferd_scheduler import policy
from inferd_scheduler.batch import Batch
from inferd_scheduler.cache import KVCache
from inferd_scheduler.config import SchedulerConfig
from inferd_scheduler.events import Event, Preempted, Scheduled
from inferd_scheduler.flight import Flight
from inferd_scheduler.queue import WaitingQueue
from inferd_scheduler.request import Move, Request, State
from inferd_scheduler.slots import AdapterSlots
from inferd_scheduler.step import UNKNOWN, Step, Work

make = tuple.__new__
"""Skips the Python-level constructor of a NamedTuple: a third faster, and made per token."""

_LATER = (UNKNOWN,)


class Planner:
    """Moves requests between the queue and the batch, and writes steps.

    `events` collects what happened on the way.
    """

    def __init__(
        self,
        config: SchedulerConfig,
        cache: KVCache,
        batch: Batch,
        queue: WaitingQueue,
        slots: AdapterSlots,
    ) -> None:
        self.events: list[Event] = []
        self.preemptions = 0
        self._max_tokens = config.max_batch_tokens
        self._reserve = config.num_blocks // 100  # blocks that admission leaves for growth
        self._cache = cache
        self._batch = batch
        self._queue = queue
        self._slots = slots
        self._grown: list[Request] = []  # for the last step
        self._rank = policy.ranking(config.policy)

    def plan(self, number: int, now: float, *, ahead: bool) -> Flight | None:
        """Step `number`, or None if there is nothing to do.

        `ahead`: the step before is in flight. What it samples is not known, so that None may also
        mean that it has to be known first.
        """
        for request in self._grown:
            request.grown = ()
        self._grown = []
        preempted: list[str] = []
        if ahead:
            foreseen = self._foresee(number)
            if foreseen is None:
                return None
            decoding, works = foreseen, _decodes_ahead(foreseen)
        else:
            preempted = self._feed(number)
            decoding = list(self._batch.decoding.values())
            works = _decodes(decoding)
        others, budget = self._advance(works, self._max_tokens - len(works))
        if not preempted:  # else newcomers would take the blocks that were just cleared
            self._slots.begin(number)
            admitted, budget = self._admit(works, budget, now)
            others += admitted
        if not works:
            return None
        loads = self._slots.take_loads()
        step = Step(number, works, self._max_tokens - budget, tuple(preempted), loads)
        return Flight(step, decoding, others, self._grown)

    def _foresee(self, number: int) -> list[Request] | None:
        """Who decodes in step `number`, but for those that a stop token ends in the one before.

        Gives a block to each whose table is full by then. None, and nothing changes, if there are
        not enough: who gives way is decided when it is known who still needs one.
        """
        batch, cache = self._batch, self._cache
        fresh = [r for r in batch.filling.values() if r.ahead == r.pending]
        due = [*batch.soon_due(number - 1), *fresh]
        ending = {r for r in due if r.total + 1 >= r.limit}
        growing = [r for r in due if r not in ending and cache.full(r)]
        if len(growing) > cache.pool.num_free:
            return None
        assert not batch.hungry, "a decoding sequence is not in the step in flight"
        for request in growing:
            self._grow(request, number, request.total + 1)
        decoding = [*batch.decoding.values(), *fresh]
        return [r for r in decoding if r not in ending] if ending else decoding

    def _feed(self, number: int) -> list[str]:
        """Give a block to each sequence whose table is full; returns who was preempted for it.

        They come in the fixed order and the last in that order gives way, so it is either the
        one that needs the block or one whose turn was not yet.
        """
        hungry, self._batch.hungry = self._batch.hungry, []
        preempted = []
        for request in sorted(hungry, key=self._rank):
            while not self._cache.pool.num_free and request.state is State.RUNNING:
                victim = policy.victim(self._batch, self._rank)
                self._preempt(victim)
                preempted.append(victim.request_id)
            if request.state is State.RUNNING:
                self._grow(request, number, request.total)
        return preempted

    def _grow(self, request: Request, number: int, total: int) -> None:
        """One more block in step `number`, before which it has `total` tokens."""
        request.grown = (self._cache.grow(request),)
        self._grown.append(request)
        steps = min(self._cache.block_size, request.limit - total)
        self._batch.watch(request, number - 1 + steps)

    def _preempt(self, request: Request) -> None:
        """Back to the queue: its tokens stay, its KV is computed anew (or found in the cache)."""
        self._batch.remove(request)
        self.let_go(request)
        request.move(Move.PREEMPT)
        request.preemptions += 1
        self.preemptions += 1
        self._queue.push(request)
        self.events.append(Preempted(request.request_id))

    def let_go(self, request: Request) -> None:
        """Take back what `request` held: row, blocks and its pin on a slot."""
        self._cache.release(request)
        self._batch.free_row(request)
        self._slots.unpin(request.slot)
        request.slot = -1

    def _advance(self, works: list[Work], budget: int) -> tuple[list[Request], int]:
        """Append the works of running sequences that fill, as long as `budget` lasts.

        Returns whose works these are, and what is left of the budget.
        """
        advanced = []
        for request in sorted(self._batch.filling.values(), key=self._rank):
            if not budget:
                break
            count = min(request.pending - request.ahead, budget)
            if not count:
                continue
            budget -= count
            works.append(_work(request, count, ()))
            advanced.append(request)
        return advanced, budget

    def _admit(self, works: list[Work], budget: int, now: float) -> tuple[list[Request], int]:
        """Let in the queue's head as long as there are a row, tokens and blocks for it.

        Who waits for an adapter's slot is passed over; the first of them closes a slot to those
        who come after.
        """
        admitted = []
        while budget and self._batch.has_row and (request := self._queue.peek()) is not None:
            if not self._slots.admits(request.adapter):
                self._slots.close(self._batch)
                self._queue.pass_over(request)
                continue
            if not self._cache.admit(request, self._reserve if len(self._batch) else 0):
                break
            self._queue.remove(request)
            self._batch.add(request)
            request.slot = self._slots.pin(request.adapter)
            request.move(Move.ADMIT)
            if request.cached_tokens < 0:
                self._first_time(request, now)
            count = min(request.pending, budget)
            works.append(_work(request, count, tuple(request.block_table), first=True))
            budget -= count
            admitted.append(request)
        self._queue.restore()
        return admitted, budget

    def _first_time(self, request: Request, now: float) -> None:
        request.cached_tokens = min(request.computed, request.num_prompt)
        queued_s = now - request.submitted
        self.events.append(Scheduled(request.request_id, queued_s, request.cached_tokens))
        self._queue.charge_prompt(request)


def _decodes(decoding: list[Request]) -> list[Work]:
    return [
        make(
            Work,
            (r.request_id, r.row, len(r.tokens) - 1, (r.tokens[-1],), r.grown, True, False, r.slot),
        )
        for r in decoding
    ]


def _decodes_ahead(decoding: list[Request]) -> list[Work]:
    """One token later: the step in flight samples those that these compute."""
    return [
        make(Work, (r.request_id, r.row, len(r.tokens), _LATER, r.grown, True, False, r.slot))
        for r in decoding
    ]


def _work(request: Request, count: int, blocks: tuple[int, ...], *, first: bool = False) -> Work:
    start = request.computed + request.ahead
    tokens = tuple(request.tokens[start : start + count])
    request.ahead += count
    samples = request.ahead == request.pending
    return Work(
        request.request_id, request.row, start, tokens, blocks, samples, first, request.slot
    )
