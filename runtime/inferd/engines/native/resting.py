"""Sleep at level 1: the device's memory goes back, the weights stay in host memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch


class Rest:
    """A model's weights, on their device or beside it. On a CPU they stay where they are."""

    def __init__(self, weights: Sequence[torch.Tensor], device: torch.device) -> None:
        self._weights = weights
        self._device = device

    def leave_device(self) -> None:
        """Move the weights to page-locked host memory, and give the device's memory back."""
        if self._device.type != "cpu":
            for tensor in self._weights:
                tensor.data = tensor.data.to("cpu").pin_memory()
            torch.cuda.empty_cache()

    def return_to_device(self) -> None:
        """Raises torch.OutOfMemoryError."""
        if self._device.type != "cpu":
            for tensor in self._weights:
                tensor.data = tensor.data.to(self._device, non_blocking=True)
            torch.cuda.synchronize(self._device)
