"""Parameters that are kept in int8, and those of a checkpoint that are stored so."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from inferd.engines.native.parameters import Param
from inferd.engines.native.stores import Int8Rows, Kept, PackedStore, Place, Rows
from inferd_kernels.linear.int8 import Int8Weight


class Int8Store:
    """Some matrices in int8, the others as `PackedStore` keeps them."""

    def __init__(self, dtype: torch.dtype, groups: Mapping[str, int]) -> None:
        """`groups`: key → inputs that share a scale; see `quantization.int8_groups`."""
        self._dtype = dtype
        self._groups = groups
        self._others = PackedStore(dtype)

    def place(self, param: Param) -> Place:
        group = self._groups.get(param.key)
        if group is None:
            return self._others.place(param)
        *several, rows, columns = param.shape
        weights = tuple(
            Int8Weight.empty(rows, columns, self._dtype, group)
            for _ in range(several[0] if several else 1)
        )
        return _Int8Place(weights, single=not several)


class _Int8Place:
    def __init__(self, weights: tuple[Int8Weight, ...], *, single: bool) -> None:
        self._weights = weights
        self._single = single

    def fill(self, row: int, part: Rows) -> None:
        height = self._weights[0].shape[0]
        while len(part):
            which, first = divmod(row, height)
            now, weight = part[: height - first], self._weights[which]
            if isinstance(now, Int8Rows):
                weight.fill_int8(first, now.q, now.scales)
            else:
                weight.fill(first, now)
            row, part = row + len(now), part[len(now) :]

    def finish(self) -> Kept:
        return self._weights[0] if self._single else self._weights
