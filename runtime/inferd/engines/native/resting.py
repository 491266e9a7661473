"""Sleep at level 1: the device's memory goes back, the weights stay in host memory.

In ordinary memory: torch rounds page-locked blocks up to a power of two and keeps them for itself
when they are freed, so that host memory would stay taken while the model is awake.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch


class Rest:
    """A model's weights, on their device or beside it. On a CPU they stay where they are."""

    def __init__(self, weights: Sequence[torch.Tensor], device: torch.device) -> None:
        self._weights = weights
        self._device = device

    def leave_device(self) -> None:
        """Move the weights to host memory, and give the device's memory back."""
        if self._device.type != "cpu":
            for tensor in self._weights:
                tensor.data = tensor.data.to("cpu")
            torch.cuda.empty_cache()

    def return_to_device(self) -> None:
        """Raises torch.OutOfMemoryError."""
        if self._device.type != "cpu":
            for tensor in self._weights:
                tensor.data = tensor.data.to(self._device)
