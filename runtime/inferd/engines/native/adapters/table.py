"""The generations that an engine holds: read on a thread, kept in host memory, read anew when used.

Host memory holds what runs, and of the rest what was used last. Where what runs leaves no room for
an adapter that is waited for, the least recently used ones of those that run take in no newcomers
until it got its room: it waits as long as their requests take, however many come after it.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from inferd.engines.base import AdapterNews
from inferd.engines.native.adapters.reading import Adapter, Factors
from inferd.engines.native.adapters.unfit import Unfit
from inferd.errors import EngineError, InferdError, InvalidRequest
from inferd.messages import AdapterDropped, AdapterFailed, AdapterInfo, LoadAdapter
from inferd.units import human_bytes

_log = logging.getLogger("inferd.engines.native")

Read = Callable[[str, Path], Adapter]
"""(generation, folder) → the adapter, on another thread. Raises Unfit."""


@dataclass(slots=True)
class Generation:
    """One adapter as it is held."""

    folder: Path
    info: AdapterInfo | None = None  # None: not read for the first time yet
    adapter: Adapter | None = None  # None: not in host memory
    waiting: int = 0  # requests that are not with the scheduler yet
    running: int = 0  # requests that the scheduler has: it stays in host memory
    dropped: bool = False  # takes no new requests
    error: InferdError | None = None  # reading it failed: what to tell those that wait

    @property
    def used(self) -> bool:
        return self.waiting + self.running > 0


class Adapters:
    """All calls come from the engine's thread.

    Args:
        read: None where the engine takes no adapters.
        host_bytes: of adapters in host memory.
        evict: an adapter is about to leave host memory: it is to leave its slot before.
        why_not: why it takes none, for whoever tries to load one.
    """

    def __init__(
        self,
        read: Read | None,
        *,
        host_bytes: int,
        evict: Callable[[str], None],
        why_not: str = "",
    ) -> None:
        self._read = read
        self._why_not = why_not
        self._capacity = host_bytes
        self._evict = evict
        self._generations: OrderedDict[str, Generation] = OrderedDict()  # last used last
        self._queue: list[str] = []  # to be read
        self._leaving: set[str] = set()  # run on, take in nobody, and then make room
        self._reading: tuple[str, Future[Adapter]] | None = None
        self._news: list[AdapterNews] = []
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="adapter")
        self.host_bytes = 0  # of adapters in host memory

    def __len__(self) -> int:
        return sum(each.info is not None for each in self._generations.values())

    @property
    def busy(self) -> bool:
        """Whether something is read, or is to be."""
        return self._reading is not None or bool(self._queue)

    @property
    def reading(self) -> Future[Adapter] | None:
        """What is being read now."""
        return None if self._reading is None else self._reading[1]

    def news(self) -> list[AdapterNews]:
        """What came of loads and drops since the last call."""
        news, self._news = self._news, []
        return news

    def load(self, load: LoadAdapter) -> None:
        """Hold a generation. One that is held already is told of again."""
        name, held = load.adapter, self._generations.get(load.adapter)
        if self._read is None:
            self._news.append(AdapterFailed(name, "unsupported", self._why_not))
        elif held is None:
            self._generations[name] = Generation(Path(load.folder))
            self._queue.append(name)
        else:
            held.folder = Path(load.folder)
            if held.dropped:
                held.dropped = False
                self._news.append(AdapterDropped(name))
            if held.info is not None:
                self._news.append(held.info)

    def drop(self, name: str) -> None:
        """Hold a generation no longer than its requests run."""
        if name in self._generations:
            self._generations[name].dropped = True
            self._settle(name)
        else:
            self._news.append(AdapterDropped(name))

    def check_known(self, name: str) -> None:
        """Raise InvalidRequest unless new requests may name it."""
        held = self._generations.get(name)
        if held is None or held.dropped:
            raise InvalidRequest(f"adapter: the engine holds no generation {name!r}", "adapter")

    def ready(self, name: str) -> bool:
        """Whether a request may go to the scheduler now. Raises what reading it came to."""
        held = self._generations[name]
        if held.error is not None:
            raise held.error
        return held.adapter is not None and name not in self._leaving

    def wait_for(self, name: str) -> None:
        """A request waits for it."""
        self._generations[name].waiting += 1
        self._ask(name)

    def give_up(self, name: str) -> None:
        """A request waits no longer: it left, or it begins."""
        held = self._generations[name]
        held.waiting -= 1
        if not held.waiting and held.error is not None:
            held.error = None
            if held.info is None:
                del self._generations[name]
                return
        self._settle(name)

    def begin(self, name: str) -> None:
        """The scheduler has a request with it."""
        held = self._generations[name]
        assert held.adapter is not None
        held.running += 1
        self._generations.move_to_end(name)

    def end(self, name: str) -> None:
        """A request with it has ended."""
        self._generations[name].running -= 1
        self._settle(name)

    def factors(self, name: str) -> Factors:
        """Of an adapter that runs."""
        adapter = self._generations[name].adapter
        assert adapter is not None
        return adapter.factors

    def poll(self) -> None:
        """Take in what was read. Those that waited for it are to begin before `read_next`, which
        evicts what does not run."""
        if self._reading is not None and self._reading[1].done():
            name, future = self._reading
            self._reading = None
            self._take(name, future)

    def read_next(self) -> None:
        """Begin to read what comes next; new ones first: they need no room to be checked."""
        if self._reading is not None or self._read is None:
            return
        self._leaving.clear()
        self._queue = [name for name in self._queue if self._wanted(name)]
        fresh = (name for name in self._queue if self._generations[name].info is None)
        name = next(fresh, self._queue[0] if self._queue else None)
        if name is None:
            return
        held = self._generations[name]
        if held.info is None or self._make_room(held.info.num_bytes):
            self._queue.remove(name)
            self._reading = (name, self._pool.submit(self._read, name, held.folder))

    def check(self, waiting: Collection[str], running: Collection[str]) -> None:
        """Raise AssertionError if an invariant is broken; given what each request uses."""
        assert Counter(waiting) == +Counter({n: g.waiting for n, g in self._generations.items()})
        assert Counter(running) == +Counter({n: g.running for n, g in self._generations.items()})
        held = self._generations
        resident = [one for one in held.values() if one.adapter is not None]
        assert self.host_bytes == sum(one.adapter.info.num_bytes for one in resident if one.adapter)
        assert self.host_bytes <= self._capacity
        assert len(set(self._queue)) == len(self._queue)
        coming = {*self._queue, *([self._reading[0]] if self._reading else [])}
        for name, one in held.items():
            assert one.adapter is not None or not one.running, name
            assert one.used or not one.dropped or name in coming, name
            assert one.adapter is not None or not one.waiting or name in coming or one.error, name
            assert one.info is not None or name in coming or one.error, name
        assert all(name in held for name in coming)

    def close(self) -> None:
        """Wait for no reading."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _ask(self, name: str) -> None:
        """Have it read unless it is here or on its way."""
        coming = self._reading is not None and self._reading[0] == name
        if self._generations[name].adapter is None and not coming and name not in self._queue:
            self._queue.append(name)

    def _wanted(self, name: str) -> bool:
        """Whether what is queued is still to be read."""
        return self._generations[name].info is None or self._generations[name].waiting > 0

    def _take(self, name: str, future: Future[Adapter]) -> None:
        held = self._generations[name]
        try:
            adapter = future.result()
            self._check_size(adapter.info)
        except Exception as error:
            self._failed(name, held, error)
            return
        if held.info is None:
            held.info = adapter.info
            self._news.append(adapter.info)
        if self._make_room(adapter.info.num_bytes):
            held.adapter = adapter
            self.host_bytes += adapter.info.num_bytes
        elif held.waiting:
            self._ask(name)
        self._settle(name)

    def _check_size(self, info: AdapterInfo) -> None:
        if info.num_bytes > self._capacity:
            raise Unfit(
                "out_of_memory",
                f"the adapter takes {human_bytes(info.num_bytes)}, and host memory has "
                f"{human_bytes(self._capacity)} for adapters (--adapter-host-bytes)",
            )

    def _failed(self, name: str, held: Generation, error: Exception) -> None:
        """Reading it failed; those that wait for it are told when they ask whether it is ready."""
        unfit = error if isinstance(error, Unfit) else None
        if unfit is None:
            _log.error("reading the adapter %s failed", name, exc_info=error)
        if held.info is None:
            code = "engine" if unfit is None else unfit.code
            message = "The engine failed to read the adapter" if unfit is None else unfit.message
            self._news.append(AdapterFailed(name, code, message, repr(error)))
            held.error = InvalidRequest(f"adapter: {message}", "adapter")
            if held.dropped:
                self._news.append(AdapterDropped(name))
            if not held.waiting:
                del self._generations[name]
        elif held.waiting:
            held.error = EngineError(
                "The engine could not read the adapter again", log=f"{held.folder}: {error!r}"
            )
        else:
            self._settle(name)

    def _make_room(self, num_bytes: int) -> bool:
        """Evict what does not run until so many bytes are free. If that is not enough, let those
        that run and were used least recently take in nobody, and say so."""
        leaving = self._capacity - self.host_bytes
        if leaving >= num_bytes:
            return True
        for name, held in self._generations.items():
            if held.adapter is None or leaving >= num_bytes:
                continue
            leaving += held.adapter.info.num_bytes
            if held.running:
                self._leaving.add(name)
            else:
                self._remove(name, held)
        return self._capacity - self.host_bytes >= num_bytes

    def _remove(self, name: str, held: Generation) -> None:
        """Out of host memory."""
        assert held.adapter is not None
        assert not held.running
        self._evict(name)
        self.host_bytes -= held.adapter.info.num_bytes
        held.adapter = None
        self._leaving.discard(name)
        if held.waiting:
            self._ask(name)

    def _settle(self, name: str) -> None:
        """Let go of what was dropped, once nothing uses it."""
        held = self._generations[name]
        is_read = self._reading is not None and self._reading[0] == name
        if not held.dropped or held.used or is_read:
            return
        if held.adapter is not None:
            self._remove(name, held)
        if name in self._queue:
            self._queue.remove(name)
        if held.info is None:
            self._news.append(AdapterFailed(name, "engine", "It was dropped before it was read"))
        del self._generations[name]
        self._news.append(AdapterDropped(name))
