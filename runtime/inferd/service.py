"""The one path that every front end takes: a request in text in, text out."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from inferd.admission import Admission
from inferd.messages import Caller, Generate, Output
from inferd.metrics import Metrics
from inferd.registry import Registry


class Service:
    """Turns a `Generate` into a stream of `Output`.

    Args:
        clock: seconds, monotonic.
        entropy: a fresh seed in [0, 2**64) for requests that name none.
    """

    def __init__(
        self,
        registry: Registry,
        admission: Admission,
        metrics: Metrics,
        *,
        clock: Callable[[], float] = time.monotonic,
        entropy: Callable[[], int] = lambda: secrets.randbits(64),
    ) -> None:
        self.registry = registry
        self.admission = admission
        self.metrics = metrics
        self._clock = clock
        self._entropy = entropy

    @asynccontextmanager
    async def stream(
        self, request: Generate, caller: Caller, *, request_id: str
    ) -> AsyncIterator[AsyncIterator[Output]]:
        """Check and submit on entering; then iterate: one `Start`, then per choice (interleaved,
        told apart by `index`) at most one `Prompt`, any number of `Chunk`, exactly one `Done`;
        last of all one `Usage`.

        `Start` comes with the model's first reply, not before: whatever is raised on entering or
        in place of `Start` was refused as a whole (send its status); whatever is raised after
        `Start` ends an answer that has begun (send it as an event). Nothing follows an error.

        Leaving, however it happens (also by cancellation, also half-way), aborts what still runs
        and returns the permit. Iterate in the task that entered, and leave in it.

        Raises:
            CallerError: the request is at fault.
            BusyError, Unavailable: not now.
            EngineError, EngineDead: the model failed on it.
        """
        yield self._outputs()

    async def _outputs(self) -> AsyncIterator[Output]:
        return
        yield
