"""What the engine calls of `torch.cuda`, noted, for the paths that no CPU comes to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

REPLACED = (
    "current_stream",
    "set_stream",
    "graph_pool_handle",
    "stream",
    "graph",
    "mem_get_info",
    "synchronize",
    "empty_cache",
    "reset_peak_memory_stats",
    "memory_allocated",
    "max_memory_allocated",
)


class Stream:
    def __init__(self, name: object = "side") -> None:
        self.name = name
        self.waited: list[Stream] = []

    def wait_stream(self, other: Stream) -> None:
        self.waited.append(other)


class Graph:
    replays = 0

    def replay(self) -> None:
        self.replays += 1


class Event:
    def __init__(self, noted: list[str]) -> None:
        self._noted = noted

    def record(self) -> None:
        self._noted.append("record")

    def synchronize(self) -> None:
        self._noted.append("wait")


class FakeCuda:
    """One device of `total` bytes, of which `used` are in use; a step's peak is `peak`."""

    def __init__(self, total: int = 80 << 30, used: int = 20 << 30, peak: int = 3 << 30) -> None:
        self.total, self.used, self.peak = total, used, peak
        self.main = Stream("main")
        self.current = self.main
        self.captures: list[dict[str, Any]] = []
        self.noted: list[str] = []
        self.emptied = 0
        self.pools = 0
        self.allocating: object = None  # the pool that allocations go to

    def install(self, patch: pytest.MonkeyPatch) -> FakeCuda:
        for name in REPLACED:
            patch.setattr(torch.cuda, name, getattr(self, name))
        patch.setattr(torch._C, "_cuda_endAllocateToPool", self.end_allocating)
        patch.setattr(torch.cuda, "Stream", Stream)
        patch.setattr(torch.cuda, "CUDAGraph", Graph)
        patch.setattr(torch.cuda, "Event", lambda: Event(self.noted))
        return self

    def current_stream(self, _device: torch.device) -> Stream:
        return self.current

    def set_stream(self, stream: Stream) -> None:
        self.current = stream

    def graph_pool_handle(self) -> object:
        self.pools += 1
        return ("pool", self.pools)

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        before, self.current = self.current, stream
        yield
        self.current = before

    @contextmanager
    def graph(self, graph: Graph, **options: Any) -> Iterator[None]:
        """As torch's: a capture that fails leaves its stream the current one, and does not end the
        allocation of memory for it."""
        self.captures.append({"graph": graph, **options})
        before, self.current = self.current, options["stream"]
        self.allocating = options["pool"]
        yield
        self.allocating = None
        self.current = before

    def end_allocating(self, _device: int, pool: object) -> None:
        if self.allocating is None or self.allocating != pool:
            raise RuntimeError("not currently recording to mempool_id")
        self.allocating = None

    def mem_get_info(self, _device: torch.device) -> tuple[int, int]:
        return self.total - self.used, self.total

    def synchronize(self, _device: torch.device | None = None) -> None:
        self.noted.append("synchronize")

    def empty_cache(self) -> None:
        if self.allocating is not None:
            raise RuntimeError("captures_underway.empty() INTERNAL ASSERT FAILED")
        self.emptied += 1

    def reset_peak_memory_stats(self, _device: torch.device) -> None: ...

    def memory_allocated(self, _device: torch.device) -> int:
        return self.used

    def max_memory_allocated(self, _device: torch.device) -> int:
        return self.used + self.peak
