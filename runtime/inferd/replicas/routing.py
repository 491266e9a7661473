"""Which replica takes a request: the least loaded, unless another has seen its beginning.

A replica that ran the same first blocks has their KV cached, and one that ran the same adapter
has it in a slot. Either is worth a longer queue, up to a bound: `slack` requests.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol, TypeVar

from inferd.messages import Submit

K = TypeVar("K")

_DEPTHS = (1, 2, 4, 8, 16, 32, 64)  # blocks of the prompt that are told apart
_MAX_MARKS = 8192
_MAX_ADAPTERS = 64


class Recent:
    """What a replica ran lately."""

    def __init__(self) -> None:
        self._marks: OrderedDict[int, None] = OrderedDict()
        self._adapters: OrderedDict[str, None] = OrderedDict()

    def note(self, marks: Sequence[int], adapter: str) -> None:
        for mark in marks:
            _touch(self._marks, mark, _MAX_MARKS)
        if adapter:
            _touch(self._adapters, adapter, _MAX_ADAPTERS)

    def depth(self, marks: Sequence[int]) -> int:
        """How many of `marks`, from the first on, it has seen."""
        seen = 0
        while seen < len(marks) and marks[seen] in self._marks:
            seen += 1
        return seen

    def ran(self, adapter: str) -> bool:
        return adapter in self._adapters

    def clear(self) -> None:
        """Its caches are empty again."""
        self._marks.clear()
        self._adapters.clear()


class Candidate(Protocol):
    @property
    def in_flight(self) -> int: ...

    @property
    def recent(self) -> Recent: ...


def marks_of(submit: Submit, block_size: int) -> tuple[int, ...]:
    """A prompt's beginnings, ever longer, as hashes; what does not share KV has other ones."""
    space, prompt = (submit.cache_salt, submit.adapter), submit.prompt
    lengths = (depth * block_size for depth in _DEPTHS)
    return tuple(hash((space, prompt[:length])) for length in lengths if length <= len(prompt))


def choose(
    candidates: Sequence[Candidate], marks: Sequence[int], adapter: str, slack: float
) -> int:
    """The index of the one to take: of equals the first."""
    depths = [each.recent.depth(marks) for each in candidates]
    deepest = max(depths)

    def cost(index: int) -> float:
        candidate = candidates[index]
        known = slack if deepest and depths[index] == deepest else 0.0
        if adapter and candidate.recent.ran(adapter):
            known += slack / 2
        return candidate.in_flight - known

    return min(range(len(candidates)), key=cost)


def _touch(seen: OrderedDict[K, None], key: K, limit: int) -> None:
    seen[key] = None
    seen.move_to_end(key)
    if len(seen) > limit:
        seen.popitem(last=False)
