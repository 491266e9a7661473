"""Whom to put to sleep, and how deeply, so that enough memory is free: pure arithmetic."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from inferd.ledger import HOST, Reservation
from inferd.messages import SleepLevel
from inferd.units import human_seconds


class Usage(Protocol):
    """How a model is used; times in seconds."""

    @property
    def name(self) -> str: ...

    @property
    def in_flight(self) -> int: ...

    @property
    def last_used(self) -> float: ...

    @property
    def resident_since(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that could sleep: what each level would free, by device (below 0: take)."""

    name: str
    light: Mapping[str, int]  # level 1
    full: Mapping[str, int]  # level 2
    why: str


Plan = list[tuple[Candidate, SleepLevel]]


@dataclass(slots=True)
class Options:
    """Who could sleep at `now`. Idle ones stand by their last use, busy ones by their first.

    Args:
        quantum, least: see `residency.Limits`.
    """

    now: float
    quantum: float
    least: float
    later: float = math.inf  # when the next of the others will have had its time
    _idle: list[tuple[float, Candidate]] = field(default_factory=list)
    _busy: list[tuple[float, Candidate]] = field(default_factory=list)

    def add(self, usage: Usage, held: Sequence[Reservation]) -> None:
        """Consider one model and what it holds. One that is loading cannot sleep."""
        if any(each.loading for each in held):
            return
        asleep = all(each.asleep for each in held)
        unused = usage.last_used < usage.resident_since
        term = self.quantum if usage.in_flight or unused else self.least
        due = usage.resident_since + term
        if not asleep and self.now < due:
            self.later = min(self.later, due)
        elif usage.in_flight and not asleep:
            self._busy.append((usage.resident_since, self._candidate(usage, held, "had its time")))
        else:
            why = "sleeps already, lightly" if asleep else self._idle_for(usage)
            self._idle.append((usage.last_used, self._candidate(usage, held, why)))

    @property
    def idle(self) -> list[Candidate]:
        return _in_order(self._idle)

    @property
    def busy(self) -> list[Candidate]:
        return _in_order(self._busy)

    def _candidate(self, usage: Usage, held: Sequence[Reservation], why: str) -> Candidate:
        return Candidate(usage.name, freed(held, 1), freed(held, 2), why)

    def _idle_for(self, usage: Usage) -> str:
        if self.now == math.inf:
            return "least recently used"
        return f"least recently used, idle for {human_seconds(self.now - usage.last_used)}"


def _in_order(options: list[tuple[float, Candidate]]) -> list[Candidate]:
    return [each for _, each in sorted(options, key=lambda option: (option[0], option[1].name))]


def freed(held: Iterable[Reservation], level: SleepLevel) -> Mapping[str, int]:
    """Device → bytes that return when what holds them sleeps."""
    total: Counter[str] = Counter()
    for each in held:
        if level == 2:
            total.update(each.by_device)
        elif not each.asleep and each.device == HOST:
            total[HOST] += each.need.kv_cache + each.need.workspace
        elif not each.asleep:
            total[each.device] += each.need.total - each.need.process
            total[HOST] -= each.need.weights + each.need.adapters
    return total


def short(lacks: Mapping[str, int]) -> set[str]:
    """The devices that have too little."""
    return {device for device, lack in lacks.items() if lack > 0}


def choose(lacks: Mapping[str, int], idle: Sequence[Candidate], busy: Sequence[Candidate]) -> Plan:
    """The gentlest evictions after which nothing lacks; empty if even all would not do.

    Idle ones at level 1, else at level 2, else busy ones too; of each, those that stand first,
    and none that the others make needless.

    Args:
        lacks: device → bytes; below 0 where so much is to spare, which level 1 may take.
    """
    attempts: tuple[tuple[Sequence[Candidate], SleepLevel], ...] = (
        (idle, 1),
        (idle, 2),
        ([*idle, *busy], 2),
    )
    for candidates, level in attempts:
        for count in range(1, len(candidates) + 1):
            plan: Plan = [(each, level) for each in candidates[:count]]
            if _suffices(plan, lacks):
                return _gentlest(plan, lacks)
    return []


def _gentlest(plan: Plan, lacks: Mapping[str, int]) -> Plan:
    """`plan` without what it can do without; whoever stands last is spared first."""
    for i in reversed(range(len(plan))):
        lighter: Plan = [*plan[:i], (plan[i][0], 1), *plan[i + 1 :]]
        for gentler in (plan[:i] + plan[i + 1 :], lighter):
            if _suffices(gentler, lacks):
                plan = gentler
                break
    return plan


def _suffices(plan: Plan, lacks: Mapping[str, int]) -> bool:
    total: Counter[str] = Counter()
    for candidate, level in plan:
        total.update(candidate.light if level == 1 else candidate.full)
    return all(
        total[device] >= lack for device, lack in lacks.items() if lack > 0 or total[device] < 0
    )
