"""Everything that changes what adapters' names mean."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Protocol

from inferd.adapters import moves
from inferd.adapters.bring import Bringer
from inferd.adapters.entry import Entry
from inferd.adapters.holdings import Holdings
from inferd.adapters.library import Library
from inferd.adapters.lookup import Lookup, no_such
from inferd.adapters.records import AdapterRecord, AdapterStatus, GenerationRecord
from inferd.adapters.source import Source
from inferd.adapters.turns import Turns, check_deadline, check_percent
from inferd.engines.base import Engine
from inferd.errors import Conflict, InferdError, Unavailable
from inferd.hub import Hub
from inferd.names import check_name
from inferd.registry import Registry

_log = logging.getLogger("inferd.adapters")


class Records(Protocol):
    """Where names outlive the daemon (`store.Table[AdapterRecord]`)."""

    def all(self) -> dict[str, AdapterRecord]: ...

    def put(self, key: str, value: AdapterRecord) -> None: ...

    def delete(self, key: str) -> None: ...


class Base(Protocol):
    """What `attach` needs of a deployment."""

    @property
    def name(self) -> str: ...

    @property
    def engine(self) -> Engine: ...


class Adapters(Lookup):
    """Names and what they point to. All methods are called in one event loop; what has no
    `async` happens at once. Nothing becomes visible, here or in the store, until all that could
    fail has been done; what failed leaves nothing behind.

    Args:
        registry: says which deployment a base's name means, and which names are taken.
        keep_previous: generations kept on disk for each name, besides those in use.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        library: Library,
        records: Records,
        registry: Registry,
        *,
        keep_previous: int = 4,
        hub: Hub = Hub(),  # noqa: B008 (frozen)
        clock: Callable[[], float] = time.time,
    ) -> None:
        if keep_previous < 1:
            raise ValueError("keep_previous must be at least 1")
        super().__init__()
        self._library = library
        self._records = records
        self._registry = registry
        self._keep = keep_previous
        self._bring = Bringer(library, hub, clock)
        self._clock = clock
        self._bases: dict[str, Holdings] = {}
        self._turns = Turns()

    # ------------------------------------------------------------ changing

    async def load(
        self,
        name: str,
        source: str,
        *,
        revision: str | None = None,
        token: str | None = None,
        base: str | None = None,
        replace: bool = False,
    ) -> AdapterStatus:
        """Make `name` mean the adapter in `source`: an absolute folder, or `org/name[@revision]`.

        Args:
            base: the deployment it belongs to, by any of its names; None: the one that the
                adapter's config names if that is served, else the only one.
            replace: a name that is taken is swapped; else that is a `Conflict`, unless it has
                that very generation already.
        Raises:
            InvalidRequest: names the field; says which tensor is wrong, and why.
            Conflict, NotFound, Unavailable, StartError
        """
        check_name(name, "name")
        self._check_no_model(name)
        wanted = Source(source, revision, token)
        async with self._turns.of(name):
            entry = self._entries.get(name)
            if base is not None or entry is not None:
                self._base(base, entry)  # what cannot be is refused before it is fetched
            async with self._bring.brought(
                wanted, lambda named: self._base(base, entry, named)
            ) as (generation, holdings):
                if (now := self._entries.get(name)) is not entry:
                    raise _changed(name)
                if now is None:
                    self._check_no_model(name)  # one may have come meanwhile
                    now_s = int(self._clock())
                    return self._create(
                        moves.created(name, holdings.base, generation, now_s), holdings
                    )
                if now.record.generation != generation.generation and not replace:
                    raise Conflict(f"An adapter is already called `{name}`", param="name")
                return self._move(now, moves.pointed(now.record, generation, self._keep))

    async def swap(
        self, name: str, source: str, *, revision: str | None = None, token: str | None = None
    ) -> AdapterStatus:
        """Point `name` to another generation, from the next request on. Raises as `load`."""
        async with self._changed(name, Source(source, revision, token)) as (entry, generation):
            return self._move(entry, moves.pointed(entry.record, generation, self._keep))

    async def rollback(self, name: str, to: str | None = None) -> AdapterStatus:
        """Point `name` to the generation before, or to the kept one that begins with `to`. What
        it pointed to is the one before then. The one before is loaded: that is at once.

        Raises:
            Conflict: there is none before.
            NotFound: `to` is not among the kept ones.
        """
        async with self._changing(name) as (entry, holdings):
            generation = moves.earlier(entry.record, to)
            async with self._bring.held(holdings, generation.generation):
                self._unchanged(name, entry)
                return self._move(entry, moves.pointed(entry.record, generation, self._keep))

    async def canary(
        self,
        name: str,
        source: str,
        percent: float,
        *,
        revision: str | None = None,
        token: str | None = None,
    ) -> AdapterStatus:
        """Answer exactly `percent` of the name's requests, spread evenly, with a candidate.
        Replaces an earlier canary. Raises as `load`."""
        check_percent(percent, "percent")
        async with self._changed(name, Source(source, revision, token)) as (entry, generation):
            return self._move(entry, moves.with_canary(entry.record, generation, percent))

    async def shadow(
        self,
        name: str,
        source: str,
        percent: float = 100.0,
        *,
        revision: str | None = None,
        token: str | None = None,
    ) -> AdapterStatus:
        """Score `percent` of the name's finished requests under a candidate too; no reply
        changes. The status reports. Replaces an earlier shadow. Raises as `load`."""
        check_percent(percent, "percent")
        async with self._changed(name, Source(source, revision, token)) as (entry, generation):
            return self._move(entry, moves.with_shadow(entry.record, generation, percent))

    async def promote(self, name: str) -> AdapterStatus:
        """Point `name` to its canary, or else its shadow. Raises `Conflict`: it has neither."""
        async with self._changing(name) as (entry, _):
            return self._move(entry, moves.promoted(entry.record, self._keep))

    async def stop_trial(self, name: str) -> AdapterStatus:
        """End the canary and the shadow, where there are any."""
        async with self._changing(name) as (entry, _):
            return self._move(entry, moves.without_trials(entry.record))

    async def unload(
        self, name: str, *, deadline: float | None = None, wait: bool = False
    ) -> AdapterStatus | None:
        """Forget a name. Requests that run go on while its state is `draining`; the name is free
        at once. Asked again, `deadline` and `wait` apply to those that still run.

        Args:
            deadline: seconds after which what still runs ends with an error; None: never.
            wait: return when nothing of it is left, in the engine either.
        Returns:
            the status while it drains; None: nothing of it runs.
        Raises:
            NotFound, InvalidRequest
        """
        if deadline is not None:
            check_deadline(deadline)
        entry = self._entries.get(name)
        if entry is not None:
            self._records.delete(name)
            self._forget(entry)
        else:
            entry = self._drains(name)
            if entry is None:
                raise no_such(name)
        if deadline is not None:
            entry.end_in(deadline)
        if wait:
            await self._drained(entry)
        return None if entry.drained.is_set() else entry.status()

    # ------------------------------------------------------------ deployments

    def restore(self) -> None:
        """Know what the store remembers; its bases come with `attach`. Before anything else."""
        for name, record in self._records.all().items():
            self._entries[name] = Entry(record)
        kept = {g for e in self._entries.values() for g in e.record.generations}
        self._library.sweep(kept)

    async def attach(self, deployment: Base) -> None:
        """Have a deployment's engine, which is ready, hold the generations of its adapters. One
        that cannot be loaded leaves its name `failed`, and the others alone."""
        name, engine = deployment.name, deployment.engine
        holdings = self._bases.get(name)
        if holdings is None or holdings.engine is not engine:
            self._detach(name)
            holdings = Holdings(name, engine, self._library.folder, self._collect)
            self._bases[name] = holdings
        mine = [e for e in self._entries.values() if e.record.base == name]
        for entry in mine:
            if entry.holdings is not holdings:
                entry.attach(holdings)
        for entry in mine:
            await self._reload(entry, holdings)

    async def detach(self, deployment: Base) -> None:
        """A deployment's engine is gone, or about to go: its adapters wait for another deployment
        of the same name. Requests that run end as the engine ends them."""
        self._detach(deployment.name)

    async def forget(self, base: str) -> None:
        """A deployment is deleted: its adapters are forgotten with it."""
        self._detach(base)
        for entry in [e for e in self._entries.values() if e.record.base == base]:
            self._records.delete(entry.record.name)
            self._forget(entry)

    async def settled(self) -> None:
        """Wait until the engines hold nothing that nobody refers to, and nothing is copied."""
        await self._bring.settled()
        for holdings in tuple(self._bases.values()):
            await holdings.settled()

    def check(self) -> None:
        """Raise AssertionError if an invariant is broken."""
        for entry in self._entries.values():
            assert entry.holdings is self._bases.get(entry.record.base)
            assert not entry.drained.is_set()
        for entry in self._draining:
            assert entry.in_flight
            assert entry.holdings is None
        for holdings in self._bases.values():
            for generation in holdings.counts:
                if holdings.info(generation) is not None:  # an engine that restarts reads it anew
                    assert self._library.has(generation), generation

    # ------------------------------------------------------------ inside

    def _check_no_model(self, name: str) -> None:
        if self._registry.knows(name):
            raise Conflict(f"A model is already called `{name}`", param="name")

    def _base(self, base: str | None, entry: Entry | None, named: str = "") -> Holdings:
        """The base's holdings. `named`: what an adapter's config says."""
        if base is not None:
            name = self._registry.resolve(base).name
        elif entry is not None:
            name = entry.record.base
        elif served := [n for n, each in self._registry.names() if n == named]:
            name = self._registry.resolve(served[0]).name
        elif len(self._bases) == 1:
            name = next(iter(self._bases))
        elif not self._bases:
            raise Unavailable("No model is loaded yet")
        else:
            raise Conflict("Several models are served: name the one it belongs to", param="base")
        if entry is not None and entry.record.base != name:
            raise Conflict(
                f"The adapter `{entry.record.name}` belongs to `{entry.record.base}`", param="base"
            )
        if name not in self._bases:
            raise Unavailable(f"The model `{name}` is not ready to take adapters")
        return self._bases[name]

    @asynccontextmanager
    async def _changing(self, name: str) -> AsyncIterator[tuple[Entry, Holdings]]:
        """An adapter that nobody else changes meanwhile; it may still be unloaded."""
        async with self._turns.of(name):
            entry = self._entry(name)
            yield entry, self._base(None, entry)

    @asynccontextmanager
    async def _changed(
        self, name: str, source: Source
    ) -> AsyncIterator[tuple[Entry, GenerationRecord]]:
        """An adapter that nobody else changes, and another generation for it."""
        async with (
            self._changing(name) as (entry, holdings),
            self._bring.brought(source, lambda named: holdings) as (generation, _),
        ):
            self._unchanged(name, entry)
            yield entry, generation

    def _unchanged(self, name: str, entry: Entry) -> None:
        if self._entries.get(name) is not entry:
            raise _changed(name)

    def _create(self, record: AdapterRecord, holdings: Holdings) -> AdapterStatus:
        """Store a new name, then know it."""
        self._records.put(record.name, record)
        entry = self._entries[record.name] = Entry(record)
        entry.attach(holdings)
        return entry.status()

    def _move(self, entry: Entry, record: AdapterRecord) -> AdapterStatus:
        """Store `record`, then make it count. All that it refers to is held by the engine."""
        before = entry.record
        if record != before:
            self._records.put(record.name, record)
            entry.point(record)
            self._collect_all(before.generations)
        return entry.status()

    def _forget(self, entry: Entry) -> None:
        """Take a name out of the table; its requests drain."""
        del self._entries[entry.record.name]
        entry.drain()
        if not entry.drained.is_set():
            self._draining.append(entry)
            entry.when_drained(lambda: self._draining.remove(entry))
        self._collect_all(entry.record.generations)

    async def _drained(self, entry: Entry) -> None:
        await entry.drained.wait()
        for holdings in tuple(self._bases.values()):
            await holdings.settled()

    async def _reload(self, entry: Entry, holdings: Holdings) -> None:
        """Load what `entry` refers to; its state says whether that went well."""
        for generation in sorted(entry.record.referred()):
            if entry.holdings is not holdings:
                return  # unloaded or detached meanwhile
            try:
                async with self._bring.held(holdings, generation):
                    pass
            except InferdError as error:
                _log.error("adapter %s: %s", entry.record.name, error)
                if entry.holdings is holdings:
                    entry.errors[generation] = error.message

    def _detach(self, base: str) -> None:
        holdings = self._bases.pop(base, None)
        for entry in self._entries.values():
            if entry.record.base == base:
                entry.detach()
        if holdings is not None:
            holdings.close()

    def _collect_all(self, generations: Iterable[str]) -> None:
        for each in tuple(generations):
            self._collect(each)

    def _collect(self, generation: str) -> None:
        """Remove a generation's folder unless a name remembers or an engine may hold it."""
        named = any(generation in e.record.generations for e in self._entries.values())
        if not named and not any(each.holds(generation) for each in self._bases.values()):
            self._library.remove(generation)


def _changed(name: str) -> Conflict:
    return Conflict(f"The adapter `{name}` was changed by someone else meanwhile")
