"""The echo engine's adapters: what each one answers, loads beside the steps, slots.

With an adapter the engine says not its prompt but the adapter's tokens, over and over: those that
`"echo": [1, 2, 3]` in the folder's `adapter_config.json` names, and where it names none, the first
eight bytes of the generation's id. So a test sees which generation answered.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import Struct

from inferd.engines.base import AdapterNews
from inferd.messages import AdapterDropped, AdapterFailed, AdapterInfo, LoadAdapter
from inferd.peft_files import CONFIG, TENSORS

_WAIT_S = 0.001  # of a step that has nothing but loads to wait for


class Config(Struct):
    """What is read of an `adapter_config.json`."""

    r: int = 8
    target_modules: list[str] | str = msgspec.field(default_factory=list)
    use_dora: bool = False
    echo: list[int] = msgspec.field(default_factory=list)


@dataclass
class _Adapter:
    info: AdapterInfo
    says: tuple[int, ...]
    dropped: bool = False


def tokens_of(adapter: str, vocab_size: int) -> tuple[int, ...]:
    """What a generation says whose config names nothing."""
    return tuple(byte % vocab_size for byte in adapter.encode()[:8])


class EchoAdapters:
    """The generations held.

    Args:
        slots: so many of them run at once.
        load_s: seconds that a load takes.
    """

    def __init__(
        self,
        slots: int,
        max_rank: int,
        vocab_size: int,
        load_s: float = 0.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._slots = slots
        self._max_rank = max_rank
        self._vocab_size = vocab_size
        self._load_s = load_s
        self._clock = clock
        self._held: dict[str, _Adapter] = {}
        self._loading: dict[str, tuple[LoadAdapter, float]] = {}  # and when it is done
        self._users: Counter[str] = Counter()  # sequences of each that run or wait
        self._running: Counter[str] = Counter()
        self._news: list[AdapterNews] = []

    @property
    def loading(self) -> bool:
        return bool(self._loading)

    @property
    def num_held(self) -> int:
        return len(self._held)

    @property
    def num_running(self) -> int:
        """Adapters in slots."""
        return len(self._running)

    @property
    def num_bytes(self) -> int:
        return sum(adapter.info.num_bytes for adapter in self._held.values())

    def load(self, load: LoadAdapter) -> None:
        self._loading[load.adapter] = (load, self._clock() + self._load_s)
        self.turn()

    def drop(self, adapter: str) -> None:
        self._loading.pop(adapter, None)
        if adapter in self._held:
            self._held[adapter].dropped = True
        if not self._users[adapter]:
            self._forget(adapter)

    def turn(self, wait: bool = False) -> None:
        """Finish the loads whose time has come; `wait` a moment for one."""
        if wait and self._loading:
            time.sleep(min(_WAIT_S, self._load_s))
        for adapter, (load, due) in list(self._loading.items()):
            if self._clock() >= due:
                del self._loading[adapter]
                self._news.append(self._read(load))

    def news(self) -> list[AdapterNews]:
        news, self._news = self._news, []
        return news

    def knows(self, adapter: str) -> bool:
        """Whether a sequence may be submitted with it."""
        held = self._held.get(adapter)
        return adapter in self._loading or (held is not None and not held.dropped)

    def says(self, adapter: str) -> tuple[int, ...]:
        return self._held[adapter].says

    # A sequence: `enter`, `begin` once `can_begin`, `leave`.

    def enter(self, adapter: str) -> None:
        self._users[adapter] += 1

    def lost(self, adapter: str) -> bool:
        """Whether a sequence waits for a load that has failed."""
        return adapter not in self._held and adapter not in self._loading

    def loaded(self, adapter: str) -> bool:
        return adapter in self._held

    def can_begin(self, adapter: str) -> bool:
        """Whether it is loaded and has a slot, or one is free."""
        free = len(self._running) < self._slots
        return adapter in self._held and (adapter in self._running or free)

    def begin(self, adapter: str) -> None:
        self._running[adapter] += 1

    def leave(self, adapter: str, *, began: bool) -> None:
        if began:
            _less(self._running, adapter)
        _less(self._users, adapter)
        if adapter in self._held and self._held[adapter].dropped and not self._users[adapter]:
            self._forget(adapter)

    def check(self) -> None:
        assert len(self._running) <= self._slots
        assert self._running <= self._users
        assert not self._held.keys() & self._loading.keys()

    def clear(self) -> None:
        self._held.clear()
        self._loading.clear()
        self._users.clear()
        self._running.clear()

    def _forget(self, adapter: str) -> None:
        self._held.pop(adapter, None)
        self._news.append(AdapterDropped(adapter))

    def _read(self, load: LoadAdapter) -> AdapterInfo | AdapterFailed:
        try:
            text = (Path(load.folder) / CONFIG).read_bytes()
            config = msgspec.json.decode(text, type=Config)
        except (OSError, msgspec.DecodeError) as error:
            return AdapterFailed(load.adapter, "invalid", f"{CONFIG}: {error}")
        if config.use_dora:
            return AdapterFailed(load.adapter, "unsupported", "use_dora: DoRA is not supported")
        if not 1 <= config.r <= self._max_rank:
            message = f"r: {config.r} is not within 1 … {self._max_rank}"
            return AdapterFailed(load.adapter, "invalid", message)
        return self._hold(load, config)

    def _hold(self, load: LoadAdapter, config: Config) -> AdapterInfo:
        weights = Path(load.folder) / TENSORS
        size = weights.stat().st_size if weights.exists() else 0
        modules = config.target_modules
        names = (modules,) if isinstance(modules, str) else tuple(sorted(modules))
        info = AdapterInfo(load.adapter, config.r, size, names)
        says = tuple(token % self._vocab_size for token in config.echo)
        self._held[load.adapter] = _Adapter(info, says or tokens_of(load.adapter, self._vocab_size))
        return info


def _less(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
