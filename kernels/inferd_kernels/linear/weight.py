"""Weights packed once for the CPU's `linear` and `embedding`."""

from __future__ import annotations

import ctypes
from typing import Self

import torch

from inferd_kernels.cpu.library import DTYPES, Args, Operation
from inferd_kernels.cpu.memory import allocate

PANEL = 32
_PAIRED = torch.bfloat16  # whose inputs lie in pairs


class WeightArgs(Args):
    """See weight.h."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("out", ctypes.c_int64),
        ("in_", ctypes.c_int64),
        ("group", ctypes.c_int64),
        ("format", ctypes.c_int32),
    )


class PackArgs(Args):
    """See weight.h."""

    _fields_ = (
        ("weight", WeightArgs),
        ("source", ctypes.c_void_p),
        ("stride", ctypes.c_int64),
        ("first", ctypes.c_int64),
        ("dtype", ctypes.c_int32),
    )


_pack = Operation("pack", PackArgs)


class PackedWeight:
    """A weight [out, in] in the CPU's memory, in the order in which `linear` reads it.

    Outputs lie in panels of 32, in a panel input by input, for bfloat16 by pairs of inputs.

    Attributes:
        shape: (out, in).
        dtype: of the numbers, and of the activations it is multiplied with.
        descriptor: what C++ reads; valid as long as this object lives.
    """

    def __init__(self, data: torch.Tensor, out_features: int, in_features: int) -> None:
        self.shape = torch.Size((out_features, in_features))
        self.dtype = data.dtype
        self.device = data.device
        self._data = data
        self.descriptor = WeightArgs(
            data=data.data_ptr(), out=out_features, in_=in_features, format=DTYPES[data.dtype]
        )

    @classmethod
    def empty(cls, out_features: int, in_features: int, dtype: torch.dtype) -> Self:
        """Space for a weight; `fill` every row of it."""
        panels = -(-out_features // PANEL)
        if dtype == _PAIRED:
            data = allocate((panels, -(-in_features // 2), PANEL, 2), dtype)
        else:
            data = allocate((panels, in_features, PANEL), dtype)
        if out_features % PANEL:
            data[-1].zero_()
        return cls(data, out_features, in_features)

    @classmethod
    def of(cls, weight: torch.Tensor) -> Self:
        """Pack a whole tensor [out, in], in its own dtype."""
        packed = cls.empty(weight.shape[0], weight.shape[1], weight.dtype)
        packed.fill(0, weight)
        return packed

    def fill(self, row: int, part: torch.Tensor) -> None:
        """Pack rows `row` … from part [rows, in], rounded to this weight's dtype."""
        count, width = part.shape
        assert width == self.shape[1]
        assert 0 <= row <= row + count <= self.shape[0]
        part = part if part.stride(1) == 1 or width == 1 else part.contiguous()
        _pack(
            PackArgs(
                weight=self.descriptor,
                source=part.data_ptr(),
                stride=part.stride(0),
                first=row,
                dtype=DTYPES[part.dtype],
            ),
            count,
        )

    def unpack(self, rows: slice | None = None) -> torch.Tensor:
        """The weight as a tensor [out, in], or its rows start … stop."""
        start, stop, _ = (rows or slice(None)).indices(self.shape[0])
        first, last = start // PANEL, -(-stop // PANEL)
        panels = self._data[first:last]
        if self.dtype == _PAIRED:
            flat = panels.permute(0, 2, 1, 3).reshape(-1, 2 * panels.shape[1])
        else:
            flat = panels.permute(0, 2, 1).reshape(-1, panels.shape[1])
        return flat[start - first * PANEL : stop - first * PANEL, : self.shape[1]]

    @property
    def tensors(self) -> list[torch.Tensor]:
        """What it holds in memory."""
        return [self._data]

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors)
