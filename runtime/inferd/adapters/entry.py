"""One name: the generations it points to, and the leases of the requests that run with them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from inferd.adapters.holdings import Holdings
from inferd.adapters.records import AdapterRecord, AdapterState, AdapterStatus
from inferd.adapters.shadow import Shadow
from inferd.adapters.share import Share
from inferd.engines.base import Engine
from inferd.errors import InferdError, NotFound, Unavailable

MIN_PREFIX_CHARS = 7  # of a generation's beginning, as people cut commits short


class Lease:
    """A request's pin on a generation. It holds until `release`, which whoever pinned calls in
    one place; where the name's unloading has a deadline, it may be revoked before."""

    def __init__(
        self, entry: Entry, holdings: Holdings, generation: str, *, shadowed: bool
    ) -> None:
        self.generation = generation
        self.adapter = entry.record.name
        self.base = entry.record.base
        self.shadowed = shadowed  # tell it what was generated, with `served`
        self.revoked: InferdError | None = None
        self._entry = entry
        self._holdings = holdings
        self._on_revoke: Callable[[InferdError], None] | None = None
        self._held = True
        holdings.hold(generation)

    @property
    def engine(self) -> Engine:
        """The one that holds it."""
        return self._holdings.engine

    def on_revoke(self, callback: Callable[[InferdError], None]) -> None:
        """Have `callback` end the request if the lease is revoked; at once if it has been. The
        request may not use the generation any more from then on."""
        self._on_revoke = callback
        if self.revoked is not None:
            callback(self.revoked)

    def served(self, prompt: tuple[int, ...], output: tuple[int, ...], salt: str) -> None:
        """A shadowed request ended well, with these token ids."""
        if self._entry.shadow is not None and self._held:
            self._entry.shadow.offer(self._holdings, self.generation, prompt, output, salt)

    def release(self) -> None:
        """Let go. Idempotent."""
        if self._held:
            self._held = False
            self._holdings.release(self.generation)
            self._entry.let_go(self)

    def revoke(self, error: InferdError) -> None:
        """End the request with `error`, and let go for it."""
        self.revoked = error
        if self._on_revoke is not None:
            self._on_revoke(error)
        self.release()


class Entry:
    """A name. `record` changes only by `point`; leases keep what they pinned."""

    def __init__(self, record: AdapterRecord) -> None:
        self.record = record
        self.holdings: Holdings | None = None  # None: the base is not deployed
        self.errors: dict[str, str] = {}  # generation → why the engine would not hold it
        self.shadow: Shadow | None = None
        self.drained = asyncio.Event()
        self._draining = False
        self._leases: set[Lease] = set()
        self._served: Counter[str] = Counter()
        self._canary = Share(record.canary.percent) if record.canary else None
        self._deadline: asyncio.TimerHandle | None = None
        self._on_drained: Callable[[], object] | None = None

    @property
    def in_flight(self) -> int:
        """Requests, of all generations."""
        return len(self._leases)

    @property
    def state(self) -> AdapterState:
        if self._draining:
            return "draining"
        if self.holdings is None:
            return "waiting"
        return "active" if self.holdings.info(self.record.generation) else "failed"

    # ------------------------------------------------------------ requests

    def pin(self, version: str) -> Lease:
        """A lease on the generation that answers the next request.

        Args:
            version: a generation's beginning; "": the current one, or the canary's.
        Raises:
            NotFound, Unavailable
        """
        name = self.record.name
        if self.holdings is None:
            raise Unavailable(f"The adapter `{name}` waits for its base model to be deployed")
        generation = self._version(version) if version else self._next()
        if self.holdings.info(generation) is None:
            raise Unavailable(
                f"The adapter `{name}` is not loaded. {self.errors.get(generation, '')}"
            )
        shadowed = self.shadow is not None and self.shadow.wants(generation)
        lease = Lease(self, self.holdings, generation, shadowed=shadowed)
        self._leases.add(lease)
        self._served[generation] += 1
        return lease

    def let_go(self, lease: Lease) -> None:
        self._leases.remove(lease)
        if self._draining and not self._leases:
            self._drained()

    def _next(self) -> str:
        trial, holdings = self.record.canary, self.holdings
        if trial is None or self._canary is None or holdings is None:
            return self.record.generation
        picked = self._canary.next() and holdings.info(trial.generation) is not None
        return trial.generation if picked else self.record.generation

    def _version(self, version: str) -> str:
        found = [each for each in self.record.referred() if each.startswith(version)]
        if len(version) < MIN_PREFIX_CHARS or len(found) != 1:
            name = self.record.name
            raise NotFound(
                f"The adapter `{name}` has no generation `{version[:64]}` that is loaded: that can "
                "be the current one, the one before, or a candidate.",
                param="model",
            )
        return found[0]

    # ------------------------------------------------------------ moves

    def point(self, record: AdapterRecord) -> None:
        """Make `record` what counts from the next request on. Whatever it refers to that is held
        so far by nobody must have been loaded by who calls."""
        before, self.record = self.record, record
        if record.canary != before.canary:
            self._canary = Share(record.canary.percent) if record.canary else None
        if (record.shadow, record.generation) != (before.shadow, before.generation):
            self._end_shadow()
            self._begin_shadow()
        for gone in self._served.keys() - record.generations.keys():
            del self._served[gone]
        if self.holdings is not None:
            self._hold(self.holdings, record.referred() - before.referred())
            self._release(self.holdings, before.referred() - record.referred())

    def attach(self, holdings: Holdings) -> None:
        """Hold in `holdings` what is referred to; loading it is the caller's."""
        self.detach()
        self.holdings, self.errors = holdings, {}
        self._hold(holdings, self.record.referred())
        self._begin_shadow()

    def detach(self) -> None:
        """The base is gone: wait for another."""
        self._end_shadow()
        if self.holdings is not None:
            held, self.holdings = self.holdings, None
            self._release(held, self.record.referred())

    def drain(self) -> None:
        """Accept nothing new; `drained` is set once nothing runs."""
        self.detach()
        self._draining = True
        if not self._leases:
            self._drained()

    def when_drained(self, callback: Callable[[], object]) -> None:
        """Call `callback` in the moment in which `drained` is set."""
        self._on_drained = callback

    def end_in(self, seconds: float) -> None:
        """Once draining: revoke what still runs after so many seconds, or earlier if that was
        asked before."""
        loop = asyncio.get_running_loop()
        when = loop.time() + seconds
        if self.drained.is_set() or (self._deadline and self._deadline.when() <= when):
            return
        self._cancel_deadline()
        self._deadline = loop.call_at(when, self.revoke_all)

    def revoke_all(self) -> None:
        """End what runs, each with one error."""
        for lease in list(self._leases):
            error = Unavailable(f"The adapter `{lease.adapter}` was unloaded")
            error.code = "adapter_unloaded"
            lease.revoke(error)

    def status(self) -> AdapterStatus:
        record = self.record
        current = record.generations[record.generation]
        return AdapterStatus(
            name=record.name,
            base=record.base,
            state=self.state,
            generation=record.generation,
            created=record.created,
            updated=current.created,
            source=current.source,
            revision=current.revision,
            rank=current.rank,
            num_bytes=current.num_bytes,
            modules=current.modules,
            in_flight=self.in_flight,
            served=dict(self._served),
            previous=tuple(record.generations[each] for each in record.previous),
            canary=record.canary,
            shadow=self.shadow.report() if self.shadow is not None else None,
            error=self.errors.get(record.generation, "") if self.state == "failed" else "",
        )

    def _drained(self) -> None:
        self._cancel_deadline()
        self.drained.set()
        if self._on_drained is not None:
            self._on_drained()

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _begin_shadow(self) -> None:
        trial = self.record.shadow
        if trial is not None and self.holdings is not None:
            self.shadow = Shadow(trial, self.record.generation)

    def _end_shadow(self) -> None:
        if self.shadow is not None:
            self.shadow.close()
            self.shadow = None

    @staticmethod
    def _hold(holdings: Holdings, generations: frozenset[str]) -> None:
        for each in generations:
            holdings.hold(each)

    @staticmethod
    def _release(holdings: Holdings, generations: frozenset[str]) -> None:
        for each in generations:
            holdings.release(each)
