"""How parameters are kept: as tensors, or packed for the CPU's kernels.

A store gives each parameter a place that the loader fills from the first row to the last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from inferd.engines.native.parameters import Param
from inferd_kernels.linear.weight import PackedWeight

Weight = torch.Tensor | PackedWeight
"""[out, in], as `linear` and `embedding` take it."""
Experts = torch.Tensor | tuple[PackedWeight, ...]
"""A weight for each expert."""
Kept = torch.Tensor | PackedWeight | tuple[PackedWeight, ...]


@dataclass(frozen=True, slots=True)
class Int8Rows:
    """Rows of a matrix as a checkpoint holds them in int8: [rows, in], and scales [rows, groups] of
    as many inputs each."""

    q: torch.Tensor
    scales: torch.Tensor

    def __len__(self) -> int:
        return len(self.q)

    def __getitem__(self, rows: slice | torch.Tensor) -> Int8Rows:
        return Int8Rows(self.q[rows], self.scales[rows])

    def floats(self) -> torch.Tensor:
        """What they mean, in float32."""
        group = self.q.shape[1] // self.scales.shape[1]
        return self.q.float() * self.scales.float().repeat_interleave(group, dim=1)


Rows = torch.Tensor | Int8Rows


def floats(part: Rows) -> torch.Tensor:
    return part.floats() if isinstance(part, Int8Rows) else part


class Place(Protocol):
    """One parameter while it is loaded."""

    def fill(self, row: int, part: Rows) -> None:
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


class PackedStore:
    """Matrices as the CPU's kernels read them, one by one where there are several (experts);
    vectors as tensors."""

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._tensors = TensorStore(dtype, torch.device("cpu"))

    def place(self, param: Param) -> Place:
        if len(param.shape) == 1:
            return self._tensors.place(param)
        *several, rows, columns = param.shape
        packed = [
            PackedWeight.empty(rows, columns, self._dtype)
            for _ in range(several[0] if several else 1)
        ]
        return PackedPlace(packed, single=not several, put=_put_floats)


class _TensorPlace:
    def __init__(self, param: Param, tensor: torch.Tensor) -> None:
        self._tensor = tensor
        self._rows = tensor.view(-1, param.columns)
        self._offset = param.offset

    def fill(self, row: int, part: Rows) -> None:
        self._rows[row : row + len(part)].copy_(floats(part))

    def finish(self) -> torch.Tensor:
        return self._tensor.add_(self._offset) if self._offset else self._tensor


class PackedPlace:
    """One packed weight, or several one after another.

    Args:
        put: packs rows of a weight, from the row of that number on.
    """

    def __init__(
        self,
        weights: Sequence[PackedWeight],
        *,
        single: bool,
        put: Callable[[PackedWeight, int, Rows], None],
    ) -> None:
        self._weights = tuple(weights)
        self._single = single
        self._put = put

    def fill(self, row: int, part: Rows) -> None:
        height = self._weights[0].shape[0]
        while len(part):
            which, first = divmod(row, height)
            now = part[: height - first]
            self._put(self._weights[which], first, now)
            row, part = row + len(now), part[len(now) :]

    def finish(self) -> Kept:
        return self._weights[0] if self._single else self._weights


def _put_floats(weight: PackedWeight, row: int, part: Rows) -> None:
    numbers = floats(part)
    weight.fill(row, numbers.float() if numbers.dtype == torch.float64 else numbers)


class Parameters:
    """A model's parameters by key, each as what it must be."""

    def __init__(self, kept: Mapping[str, Kept], prefix: str = "") -> None:
        self._kept = kept
        self._prefix = prefix

    def of_layer(self, number: int) -> Parameters:
        """Its parameters, by what follows the number in their keys."""
        return Parameters(self._kept, f"{number}.")

    def matrix(self, key: str) -> Weight:
        found = self._kept[self._prefix + key]
        assert not isinstance(found, tuple), key
        return found

    def experts(self, key: str) -> Experts:
        found = self._kept[self._prefix + key]
        assert not isinstance(found, PackedWeight), key
        return found

    def vector(self, key: str) -> torch.Tensor | None:
        found = self._kept.get(self._prefix + key)
        assert found is None or isinstance(found, torch.Tensor), key
        return found

    def __contains__(self, key: str) -> bool:
        return self._prefix + key in self._kept

    @property
    def tensors(self) -> list[torch.Tensor]:
        """The memory that all of them are in."""
        found: list[torch.Tensor] = []
        for kept in self._kept.values():
            for one in kept if isinstance(kept, tuple) else (kept,):
                found += one.tensors if isinstance(one, PackedWeight) else [one]
        return found
