"""Host memory that a device copies from without anybody waiting."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

BUFFERS = 2  # one is filled while the device reads the other


class Staging:
    """Words (int32) on their way to one tensor on the device, one message at a time.

    Args:
        size: words; a longer message moves everything to larger memory, and waits for the device.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        self._device = device
        self._turn = 0
        self._used = 0
        self._allocate(size)

    def take(self, count: int) -> np.ndarray[Any, np.dtype[Any]]:
        """Memory for the next message, with anything in it. Waits while the device still reads what
        was sent from it, two messages ago."""
        if count > len(self._words):
            self._allocate(1 << (count - 1).bit_length())
        self._turn = (self._turn + 1) % BUFFERS
        self._used = count
        sent = self._sent[self._turn]
        if sent is not None:
            sent.synchronize()
        return self._arrays[self._turn][:count]

    def send(self) -> torch.Tensor:
        """Have what was taken copied. The tensor holds it until the next `send`, for whoever comes
        later on the device's current stream."""
        words = self._words[: self._used]
        words.copy_(self._hosts[self._turn][: self._used], non_blocking=True)
        if self._device.type == "cuda":
            event = self._sent[self._turn]
            if event is None:
                event = torch.cuda.Event()  # type: ignore[no-untyped-call]
                self._sent[self._turn] = event
            event.record()
        return words

    def _allocate(self, size: int) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # nobody reads what goes now
        pinned = self._device.type == "cuda"
        self._hosts = [
            torch.empty(size, dtype=torch.int32, pin_memory=pinned) for _ in range(BUFFERS)
        ]
        self._arrays = [host.numpy() for host in self._hosts]
        self._sent: list[torch.cuda.Event | None] = [None] * BUFFERS
        self._words = torch.empty(size, dtype=torch.int32, device=self._device)
