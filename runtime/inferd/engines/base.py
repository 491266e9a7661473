"""The protocol of an engine, seen from both sides of the process border.

`Core` is the inside: synchronous, one thread, no I/O. `Engine` is the outside: asynchronous,
what the service calls. `engines/local` puts a core on a thread of this process (for tests),
`engines/host` puts it in a child process. Any core therefore runs behind both.

Only token ids cross: an engine knows nothing about text.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol

from msgspec import Struct

from inferd.messages import (
    AdapterDropped,
    AdapterFailed,
    AdapterInfo,
    Awake,
    EngineInfo,
    EngineStats,
    Event,
    Fail,
    Finish,
    LoadAdapter,
    MemoryUse,
    SleepLevel,
    Slept,
    Submit,
)

EngineState = Literal["starting", "ready", "asleep", "restarting", "failed", "closed"]


class EngineSpec(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that a core needs to start; crosses to the child as JSON. None means: choose."""

    engine: str = "native"  # a name in engines/catalog
    model: str = ""  # a local folder that holds config.json and the weights
    dtype: str = "auto"  # float32, bfloat16, float16; auto: see `native.start.pick_dtype`
    quantization: str = "auto"  # auto (the checkpoint's), int8, compressed-tensors
    quantization_check: bool = True  # measure what int8 weights do to logprobs, at the start
    device: str = "auto"  # auto, cpu, cuda, cuda:N
    max_model_len: int | None = None  # tokens; None: the model's, reduced to what fits
    max_batch_size: int = 64  # sequences per step
    max_batch_tokens: int = 2048  # tokens per step
    block_size: int = 16  # tokens per KV block
    kv_cache_bytes: int | None = None  # None: from memory_fraction
    memory_fraction: float = 0.9  # of the device's memory (GPU), or of what is free (CPU)
    num_threads: int | None = None  # CPU threads per operation
    cpu_kernels: bool | None = None  # whether `auto` counts on the CPU's compiled kernels
    policy: Literal["fcfs", "priority", "fair"] = "fcfs"
    max_queue_requests: int = 1024
    max_queue_tokens: int = 4_000_000
    prefix_cache: bool = True
    enforce_eager: bool = False
    deterministic: bool = False  # promise what `native.promise` says, or do not start
    max_adapters: int = 8  # in slots on the device at once; 0: no adapters
    max_adapter_rank: int = 64  # at most 256
    adapter_host_bytes: int = 1 << 30  # of adapters kept in host memory; others are read anew


class Progress(Struct, frozen=True, tag="progress"):
    """How far a start has come; `done` and `total` are bytes of weights."""

    stage: Literal["weights", "warmup"]
    done: int
    total: int


class Core(Protocol):
    """An engine's inside. All calls come from one thread."""

    @property
    def info(self) -> EngineInfo: ...

    @property
    def busy(self) -> bool:
        """Whether `step` has work to do."""

    def submit(self, submit: Submit) -> list[Event]:
        """Accept a sequence. A refusal is the returned `Fail`, never an exception."""

    def abort(self, request_id: str) -> list[Event]:
        """End a sequence now; unknown ids are ignored, since it may just have ended."""

    def step(self) -> list[Event]:
        """One turn: at most one forward pass. A fault inside fails the requests it hit."""

    def rest(self) -> bool:
        """One piece of work that makes later steps faster and that can wait until nothing runs.
        Returns whether there is more; a command that comes meanwhile waits for one piece only."""

    def load_adapter(self, load: LoadAdapter) -> None:
        """Begin to read and check a generation beside the steps; `adapter_news` tells
        what came of it. Requests for it may be submitted at once: they wait for it."""

    def drop_adapter(self, adapter: str) -> None:
        """See `DropAdapter`."""

    def adapter_news(self) -> list[AdapterNews]:
        """What became of loads and drops since the last call. While any is under way the core is
        `busy`, so that `step` is called; a step without other work may wait a little for it."""

    def sleep(self) -> Slept:
        """See `Sleep`."""

    def wake(self) -> Awake:
        """See `Wake`."""

    def stats(self) -> EngineStats: ...

    def check(self) -> None:
        """Raise AssertionError if an invariant is broken; called when idle."""

    def close(self) -> None: ...


AdapterNews = AdapterInfo | AdapterFailed | AdapterDropped

CoreFactory = Callable[[EngineSpec, Callable[[Progress], None]], Core]
"""Builds a core: loads the weights, raises `StartError`."""


class Events(Protocol):
    """What comes of one submission, up to its terminal event: an asynchronous iterator."""

    def __aiter__(self) -> AsyncIterator[Event]: ...

    async def __anext__(self) -> Event: ...

    def when_over(self, call: Callable[[], None]) -> None:
        """Call it once the terminal event is there, though nobody may have read it yet."""


class Engine(Protocol):
    """An engine's outside: what the service and the daemon call."""

    @property
    def state(self) -> EngineState: ...

    @property
    def info(self) -> EngineInfo:
        """Raises `Unavailable` until the first start succeeded."""

    async def start(self, on_progress: Callable[[Progress], None]) -> EngineInfo:
        """Start and wait until ready. Raises `StartError`."""

    def stream(self, submit: Submit) -> AbstractAsyncContextManager[Events]:
        """Submit on entry; iterate up to and including the terminal event; leaving aborts.

        Entering raises `Unavailable` while the engine is not ready. An engine that dies
        delivers `Fail(code="dead")` to every stream: one terminal event, always.
        """

    async def load_adapter(self, load: LoadAdapter) -> AdapterInfo:
        """Hold a generation; held already, it is told again. Held through restarts, too.

        Raises:
            InvalidRequest: the adapter does not fit; says which tensor or field, and why.
            Unavailable, EngineError, EngineDead: not now; nothing is held.
        """

    async def drop_adapter(self, adapter: str) -> None:
        """Hold it no longer; returns when nothing of it is left. Unknown ids are ignored."""

    async def sleep(self, level: SleepLevel) -> MemoryUse:
        """Give memory back; what stays is returned. Only while nothing runs;
        what ended may still be read.

        Raises:
            EngineError: requests run, or the engine is not ready.
        """

    async def wake(self) -> MemoryUse:
        """Be ready again. Raises `StartError`."""

    async def stats(self) -> EngineStats: ...

    async def close(self) -> None:
        """End the engine; what still runs gets `Fail(code="dead")`."""


def is_terminal(event: Event) -> bool:
    """Whether `event` ends its sequence."""
    return isinstance(event, Finish | Fail)
