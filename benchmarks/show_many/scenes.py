"""What happens in the show: a rehearsal on a quiet daemon, then traffic, changes and a look."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.show_many.client import Client
from benchmarks.show_many.daemon import private_bytes
from benchmarks.show_many.judge import Judge
from benchmarks.show_many.models import make_adapter, make_base
from benchmarks.show_many.names import BARE, Names
from inferd import demo

PROMPTS = (
    "Once upon a time",
    "Once upon a time there was a",
    "Once upon a time, a king",
    "Once upon a time, two friends",
)
BASES = ("demo", "twin")
PER_BASE = 3  # adapters
LEAVES = 0.05  # of the clients hang up
TWICE = 0.15  # want two choices
PAUSE_S = 0.4  # between an operator's changes
LOOK_S = 0.5  # between looks at the ledger

Say = Callable[[str], None]


@dataclass(frozen=True)
class Adapter:
    """A name, its base, and the two folders between which it changes."""

    name: str
    base: str
    folders: tuple[Path, Path]


def make_all(folder: Path) -> tuple[Path, list[Adapter]]:
    """The second base's folder, and six adapters."""
    bases = {"demo": demo.path(), "twin": make_base(folder / "twin", seed=1)}
    adapters = []
    for number in range(PER_BASE * len(BASES)):
        base = BASES[number % len(BASES)]
        name = f"{base}-{'abc'[number // len(BASES)]}"
        first, second = (
            make_adapter(folder / f"{name}-{at}", bases[base], base, seed=10 * number + at)
            for at in (1, 2)
        )
        adapters.append(Adapter(name, base, (first, second)))
    return bases["twin"], adapters


@dataclass
class Rehearsal:
    """What a quiet daemon says: (base's name or generation, prompt) → text; by name, the
    generations of its two folders."""

    texts: dict[tuple[str, str], str]
    generations: dict[str, tuple[str, str]]

    def check(self) -> None:
        """Raise SystemExit unless a name's generations and its base say different things."""
        for name, generations in self.generations.items():
            keys = (name.partition("-")[0], *generations)
            said = {tuple(self.texts[key, prompt] for prompt in PROMPTS) for key in keys}
            if len(said) < len(keys):
                raise SystemExit(f"generations of {name} cannot be told apart: {said}")


async def rehearse(client: Client, adapters: list[Adapter]) -> Rehearsal:
    """Load each adapter and hear all that may be said, one request at a time."""
    texts: dict[tuple[str, str], str] = {}
    generations = {}
    for base in BASES:
        await _hear(client, base, base, texts)
    for each in adapters:
        first = await client.load(each.name, str(each.folders[0]), each.base)
        await _hear(client, each.name, first, texts)
        second = await client.swap(each.name, str(each.folders[1]))
        await _hear(client, each.name, second, texts)
        await client.rollback(each.name)
        generations[each.name] = (first, second)
    return Rehearsal(texts, generations)


async def _hear(client: Client, model: str, key: str, texts: dict[tuple[str, str], str]) -> None:
    for prompt in PROMPTS:
        answer = await client.ask(model, prompt)
        if answer.status != 200 or not answer.texts or answer.trouble:
            raise SystemExit(f"{model} did not answer: {answer.trouble}")
        texts[key, prompt] = answer.texts[0]


# ------------------------------------------------------------ traffic and changes


async def traffic(client: Client, judge: Judge, models: list[str], chance: random.Random) -> None:
    """One client that asks for ever."""
    while True:
        leave, twice = chance.random() < LEAVES, chance.random() < TWICE
        model, prompt = chance.choice(models), chance.choice(PROMPTS)
        judge.hear(await client.ask(model, prompt, n=1 + twice, leave=leave))


class Operator:
    """Changes one name after another: swap, roll back, unload and load again."""

    def __init__(
        self,
        client: Client,
        names: Names,
        adapters: list[Adapter],
        generations: Mapping[str, tuple[str, str]],
        say: Say,
    ) -> None:
        self._client = client
        self._names = names
        self._adapters = adapters
        self._generations = generations
        self._say = say
        self.done = dict.fromkeys(("swap", "rollback", "unload"), 0)

    async def work(self) -> None:
        """For ever."""
        for adapter, kind in self._plan():
            await getattr(self, kind)(adapter)
            self.done[kind] += 1
            await asyncio.sleep(PAUSE_S)

    def _plan(self) -> Iterator[tuple[Adapter, str]]:
        while True:
            for kind in ("swap", "rollback", "swap", "unload"):
                for adapter in self._adapters:
                    yield adapter, kind

    async def swap(self, adapter: Adapter) -> None:
        generations = self._generations[adapter.name]
        at = 1 - generations.index(str(self._names.now(adapter.name)))
        with self._names.changing(adapter.name, generations[at]):
            got = await self._client.swap(adapter.name, str(adapter.folders[at]))
        self._check("swapped", adapter, got, generations[at])

    async def rollback(self, adapter: Adapter) -> None:
        generations = self._generations[adapter.name]
        other = generations[1 - generations.index(str(self._names.now(adapter.name)))]
        with self._names.changing(adapter.name, other):
            got = await self._client.rollback(adapter.name)
        self._check("rolled back", adapter, got, other)

    async def unload(self, adapter: Adapter) -> None:
        first = self._generations[adapter.name][0]
        with self._names.changing(adapter.name, None):
            await self._client.unload(adapter.name)
        self._say(f"{adapter.name:8} unloaded; nothing runs with it any more")
        with self._names.changing(adapter.name, first):
            got = await self._client.load(adapter.name, str(adapter.folders[0]), adapter.base)
        self._check("loaded again", adapter, got, first)

    def _check(self, what: str, adapter: Adapter, got: str, wanted: str) -> None:
        self._say(f"{adapter.name:8} {what} to {got[:8]}")
        if got != wanted:
            raise RuntimeError(f"{adapter.name} was {what} to {got}, not to {wanted}")


def begin(names: Names, rehearsal: Rehearsal) -> None:
    """What the names mean after the rehearsal."""
    for base in BASES:
        names.begin(base, BARE)
    for name, (first, _) in rehearsal.generations.items():
        names.begin(name, first)


# ------------------------------------------------------------ memory


@dataclass
class Looks:
    """How the ledger compares with the processes, whenever it stood still."""

    count: int = 0
    worst: float = 0.0  # |reserved − measured| of measured
    reserved: int = 0  # at the last look
    measured: int = 0
    most: int = 0  # reserved at once
    asleep: int = 0  # looks at which a model slept

    async def look(self, client: Client, daemon: int) -> None:
        """Compare, unless a model starts, wakes or falls asleep."""
        before = await client.ledger()
        taken = await asyncio.to_thread(private_bytes, daemon)
        after = await client.ledger()
        if any(each["moving"] for each in (*before["holdings"], *after["holdings"])):
            return
        if _shape(before) != _shape(after) or len(taken) != len(after["holdings"]):
            return
        self.count += 1
        self.reserved, self.measured = after["reserved"], sum(taken.values())
        self.most = max(self.most, self.reserved)
        self.worst = max(self.worst, abs(self.reserved - self.measured) / self.measured)
        self.asleep += any(each["asleep"] for each in after["holdings"])

    async def keep_looking(self, client: Client, daemon: int) -> None:
        """For ever."""
        while True:
            await self.look(client, daemon)
            await asyncio.sleep(LOOK_S)


def _shape(host: dict[str, Any]) -> list[tuple[object, ...]]:
    return [(e["owner"], e["key"], e["reserved"], e["asleep"]) for e in host["holdings"]]
