"""How much each caller was served: the virtual token counters of VTC (arXiv 2401.00588)."""

from __future__ import annotations

from inferd_scheduler.policy import lifted

_MIN_PRUNE = 2048  # counters


class FairShare:
    """A counter per caller, in cost units; it only grows.

    No caller that waits is below the floor, so counters at the floor need not be remembered.
    """

    def __init__(self) -> None:
        self._counters: dict[str, int] = {}
        self._floor = 0
        self._prune_at = _MIN_PRUNE

    def __len__(self) -> int:
        return len(self._counters)

    def counter(self, caller: str) -> int:
        return self._counters.get(caller, self._floor)

    def charge(self, caller: str, cost: int) -> None:
        self._counters[caller] = self.counter(caller) + cost

    def enter(self, caller: str, smallest: int | None) -> None:
        """`caller` starts to wait; `smallest` is the waiting callers' least counter, if any."""
        if smallest is not None:
            self._floor = max(self._floor, smallest)
        self._counters[caller] = lifted(self.counter(caller), self._floor)
        if len(self._counters) >= self._prune_at:
            self._prune()

    def leave(self, caller: str) -> None:
        """`caller`, the last that waited, waits no longer."""
        self._floor = max(self._floor, self.counter(caller))

    def _prune(self) -> None:
        kept = {name: count for name, count in self._counters.items() if count > self._floor}
        self._counters = kept
        self._prune_at = max(_MIN_PRUNE, 2 * len(kept))
