"""Parameters that are kept in int8, and those of a checkpoint that are stored so."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from inferd.engines.native.parameters import Param
from inferd.engines.native.stores import Int8Rows, PackedPlace, PackedStore, Place, Rows
from inferd_kernels.linear.int8 import Int8Weight
from inferd_kernels.linear.weight import PackedWeight


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
        weights = [
            Int8Weight.empty(rows, columns, self._dtype, group)
            for _ in range(several[0] if several else 1)
        ]
        return PackedPlace(weights, single=not several, put=_put)


def _put(weight: PackedWeight, row: int, part: Rows) -> None:
    assert isinstance(weight, Int8Weight)
    if isinstance(part, Int8Rows):
        weight.fill_int8(row, part.q, part.scales)
    else:
        weight.fill(row, part)
