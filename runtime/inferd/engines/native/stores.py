"""How parameters are kept.

A store gives each parameter a place that the loader fills from the first row to the last.
"""

from __future__ import annotations

from typing import Protocol

import torch

from inferd.engines.native.parameters import Param

Kept = torch.Tensor


class Place(Protocol):
    """One parameter while it is loaded."""

    def fill(self, row: int, part: torch.Tensor) -> None:
        """Put `part`, [rows, Param.columns] of any float type, at `row` and the rows after it."""

    def finish(self) -> Kept:
        """The whole parameter; it is not filled any more."""


class Store(Protocol):
    """Where a model's parameters go."""

    def place(self, param: Param) -> Place: ...


class TensorStore:
    """Everything as contiguous tensors on a device."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self._dtype = dtype
        self._device = device

    def place(self, param: Param) -> Place:
        dtype = torch.float32 if param.float32 else self._dtype
        return _TensorPlace(param, torch.empty(param.shape, dtype=dtype, device=self._device))


class _TensorPlace:
    def __init__(self, param: Param, tensor: torch.Tensor) -> None:
        self._tensor = tensor
        self._rows = tensor.view(-1, param.columns)
        self._offset = param.offset

    def fill(self, row: int, part: torch.Tensor) -> None:
        self._rows[row : row + len(part)].copy_(part)

    def finish(self) -> torch.Tensor:
        return self._tensor.add_(self._offset) if self._offset else self._tensor
