"""The adapter slots on the device: which adapter is in which, and who needs it there."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from inferd_scheduler.request import Request


class AdapterSlots:
    """Slots pinned by running requests; the others keep their adapters until somebody needs one.

    Empty slots are taken first, then the one that was left longest ago.

    Args:
        count: slots; 0: there are no adapters here.
        turn: steps for which a slot that was loaded stays open to newcomers, whoever waits.
    """

    def __init__(self, count: int, turn: int) -> None:
        self.count = count
        self.turn = turn
        self.loads = 0
        self.evictions = 0
        self.closed = -1  # a slot that newcomers must leave alone in this plan, or -1
        self._step = 0  # the one being planned
        self._chosen = False  # whether `close` was called for it
        self._loaded = [0] * count  # the step for which each slot was loaded
        self._adapters: list[str] = [""] * count  # by slot; "": empty
        self._slots: dict[str, int] = {}  # the inverse
        self._pins = [0] * count  # running requests
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(count))  # first: next taken
        self._pending: list[tuple[int, str]] = []  # loads that no step has been told of

    @property
    def resident(self) -> dict[str, int]:
        """Adapter → slot. A copy."""
        return dict(self._slots)

    def begin(self, step: int) -> None:
        """Admissions to `step` begin: no slot is closed."""
        self._step = step
        self._chosen = False
        self.closed = -1

    def admits(self, adapter: str) -> bool:
        """Whether a newcomer can use `adapter` now: it has a slot that is not closed, or gets one.

        "", no adapter at all, is always welcome.
        """
        if not adapter:
            return True
        slot = self._slots.get(adapter)
        if slot is not None:
            return slot != self.closed
        return bool(self._free)

    def pin(self, adapter: str) -> int:
        """The slot of an adapter that `admits` let pass, now held once more; -1 for ""."""
        if not adapter:
            return -1
        slot = self._slots.get(adapter)
        if slot is None:
            slot = self._load(adapter)
        self._free.pop(slot, None)
        self._pins[slot] += 1
        return slot

    def unpin(self, slot: int) -> None:
        """Undo one `pin`; with the last the slot is free, but keeps its adapter. -1: nothing."""
        if slot < 0:
            return
        assert self._pins[slot] > 0, f"slot {slot} is not pinned"
        self._pins[slot] -= 1
        if not self._pins[slot]:
            self._free[slot] = None

    def close(self, running: Iterable[Request]) -> None:
        """An adapter found no slot: of those that had their turn, close the one that is sure to be
        free first. Only the first call for a step has an effect.

        Running requests end after `limit - total` tokens at most. Nobody comes to a closed slot, so
        the least of these bounds shrinks with every step, whichever slot has it, until a slot is
        free.
        """
        if self._chosen:
            return
        self._chosen = True
        assert not self._free, "a slot is free"
        due = [slot for slot in range(self.count) if self._step - self._loaded[slot] >= self.turn]
        if not due:
            return
        bounds = [0] * self.count
        for request in running:
            if request.slot >= 0:
                bounds[request.slot] = max(bounds[request.slot], request.limit - request.total)
        self.closed = min(due, key=bounds.__getitem__)

    def forget(self, adapter: str) -> bool:
        """Empty the adapter's slot, if it has one; False, and nothing changes, if it is pinned."""
        slot = self._slots.get(adapter)
        if slot is None:
            return True
        if self._pins[slot]:
            return False
        del self._slots[adapter]
        self._adapters[slot] = ""
        self._free.move_to_end(slot, last=False)
        return True

    def take_loads(self) -> tuple[tuple[int, str], ...]:
        """(slot, adapter) that came in since the last call, to be loaded before the next step."""
        if not self._pending:
            return ()
        loads = tuple(self._pending)
        self._pending.clear()
        return loads

    def check(self, holders: Iterable[Request]) -> None:
        """The pins are exactly the holders' slots, and each holds its holders' adapter."""
        pins = [0] * self.count
        for request in holders:
            assert (request.slot >= 0) == bool(request.adapter)
            if request.slot >= 0:
                assert self._adapters[request.slot] == request.adapter
                pins[request.slot] += 1
        assert pins == self._pins
        assert set(self._free) == {slot for slot, held in enumerate(pins) if not held}
        held = {adapter: slot for slot, adapter in enumerate(self._adapters) if adapter}
        assert held == self._slots
        assert not self._pending

    def _load(self, adapter: str) -> int:
        slot, _ = self._free.popitem(last=False)
        if old := self._adapters[slot]:
            del self._slots[old]
            self.evictions += 1
        self._adapters[slot] = adapter
        self._slots[adapter] = slot
        self._loaded[slot] = self._step
        self._pending.append((slot, adapter))
        self.loads += 1
        return slot
