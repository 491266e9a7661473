"""Recording what a function launches on a device, to launch all of it again at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch

from inferd.engines.native.model import Model


@dataclass(frozen=True, slots=True)
class Recording:
    """A function's launches, and the tensor that it returned: each replay writes it anew."""

    output: torch.Tensor
    replay: Callable[[], None]


@runtime_checkable
class Capturable(Model, Protocol):
    """A model whose forward pass never waits for its device, and launches the same for any batch of
    the same sizes and bounds."""

    def reserve(self, length: int) -> None:
        """Prepare for contexts of `length` tokens: none of them moves a table."""

    def places(self) -> tuple[int, ...]:
        """Some addresses on the device. They tell whether anything moved that `forward` reads
        besides the batch: weights (which move together) and tables."""


class Capture(Protocol):
    """Makes recordings, which share memory: one replay's output holds until the next one's."""

    def __call__(self, run: Callable[[], torch.Tensor]) -> Recording:
        """Run it, so that all it needs is compiled and allocated, then record it. Whatever `run`
        reads must stay where it is. Raises whatever `run` does, and RuntimeError, torch's, for
        what can't be recorded."""

    def room(self) -> int:
        """Bytes that are free on the device."""

    def clear(self) -> None:
        """Give the recordings' memory back; none of them is replayed again."""


class CudaCapture:
    """CUDA graphs, all in one pool of memory."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool: Any = None  # a handle of torch

    def __call__(self, run: Callable[[], torch.Tensor]) -> Recording:
        current = torch.cuda.current_stream(self._device)
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        self._stream.wait_stream(current)
        try:
            with torch.cuda.stream(self._stream):
                run()
            with torch.cuda.graph(
                graph,
                pool=self._pool,
                stream=self._stream,
                capture_error_mode="thread_local",  # adapters are read on threads of their own
            ):
                output = run()
        except BaseException:
            self._end_allocating()
            raise
        finally:
            torch.cuda.set_stream(current)  # a capture that fails leaves its own
            current.wait_stream(self._stream)
        return Recording(output, graph.replay)

    def _end_allocating(self) -> None:
        """Before 2.12 torch leaves that out where a capture fails (its #180395); from then on it
        would raise when it is to give memory back."""
        try:
            torch._C._cuda_endAllocateToPool(self._device.index or 0, self._pool)
        except RuntimeError:  # torch's: it does not allocate there, as it should be
            pass

    def room(self) -> int:
        torch.cuda.empty_cache()
        return int(torch.cuda.mem_get_info(self._device)[0])

    def clear(self) -> None:
        self._pool = None
        torch.cuda.empty_cache()
