"""Weights packed as int8."""

from __future__ import annotations

import ctypes
from typing import Self

import torch

from inferd_kernels.cpu.library import DTYPES, Args, Operation
from inferd_kernels.cpu.memory import allocate
from inferd_kernels.linear.int8_reference import dequantize
from inferd_kernels.linear.weight import PANEL, PackedWeight, WeightArgs

FORMAT = 3  # of weight.h
GROUP = 64
"""Inputs that share a scale."""
MAX_GROUP = 1024


class Int8PackArgs(Args):
    """See int8.h."""

    _fields_ = (
        ("weight", WeightArgs),
        ("source", ctypes.c_void_p),
        ("given", ctypes.c_void_p),
        ("stride", ctypes.c_int64),
        ("given_group", ctypes.c_int64),
        ("first", ctypes.c_int64),
        ("dtype", ctypes.c_int32),
    )


_pack = Operation("int8_pack", Int8PackArgs)


class Int8Weight(PackedWeight):
    """A weight [out, in] in int8, with a float32 scale for each output and `group` inputs.

    Attributes:
        dtype: of the activations it is multiplied with, and of embedded rows.
        group: a multiple of 4, at most MAX_GROUP.
    """

    def __init__(
        self,
        data: torch.Tensor,
        scales: torch.Tensor,
        out_features: int,
        in_features: int,
        dtype: torch.dtype,
        group: int,
    ) -> None:
        self.shape = torch.Size((out_features, in_features))
        self.dtype = dtype
        self.device = data.device
        self.group = group
        self._data = data
        self._scales = scales
        self.descriptor = WeightArgs(
            data=data.data_ptr(),
            scales=scales.data_ptr(),
            out=out_features,
            in_=in_features,
            group=group,
            format=FORMAT,
        )

    @classmethod
    def empty(
        cls, out_features: int, in_features: int, dtype: torch.dtype, group: int = GROUP
    ) -> Self:
        assert group % 4 == 0, group
        assert 0 < group <= MAX_GROUP, group
        panels, groups = -(-out_features // PANEL), -(-in_features // group)
        data = allocate((panels, -(-in_features // 4), PANEL, 4), torch.uint8)
        scales = allocate((panels, groups, PANEL), torch.float32)
        if out_features % PANEL:
            data[-1].fill_(0x80)
            scales[-1].zero_()
        return cls(data, scales, out_features, in_features, dtype, group)

    def fill(self, row: int, part: torch.Tensor) -> None:
        """Quantise and pack rows `row` … from part [rows, in] of floats."""
        part = part if part.dtype in DTYPES else part.float()
        self._fill(row, part, DTYPES[part.dtype], None, self.group)

    def fill_int8(self, row: int, part: torch.Tensor, scales: torch.Tensor) -> None:
        """Pack rows `row` … of int8 [rows, in] with scales [rows, groups] or [rows, 1], each of
        a multiple of this weight's `group` inputs."""
        assert part.dtype == torch.int8
        assert len(scales) == len(part)
        given = self.shape[1] // scales.shape[1]
        assert scales.shape[1] == 1 or given % self.group == 0
        self._fill(row, part, 0, scales.float().contiguous(), given)

    def _fill(
        self,
        row: int,
        part: torch.Tensor,
        dtype: int,
        scales: torch.Tensor | None,
        given_group: int,
    ) -> None:
        count, width = part.shape
        assert width == self.shape[1]
        assert 0 <= row <= row + count <= self.shape[0]
        part = part if part.stride(1) == 1 or width == 1 else part.contiguous()
        _pack(
            Int8PackArgs(
                weight=self.descriptor,
                source=part.data_ptr(),
                given=None if scales is None else scales.data_ptr(),
                stride=part.stride(0),
                given_group=given_group,
                first=row,
                dtype=dtype,
            ),
            count,
        )

    def quantized(self, rows: slice | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """int8 [out, in] and scales [out, groups], or their rows start … stop."""
        start, stop, _ = (rows or slice(None)).indices(self.shape[0])
        first, last = start // PANEL, -(-stop // PANEL)
        panels = self._data[first:last].permute(0, 2, 1, 3)
        flat = panels.reshape(-1, panels.shape[2] * 4)[:, : self.shape[1]]
        scales = self._scales[first:last].permute(0, 2, 1).flatten(0, 1)
        wanted = slice(start - first * PANEL, stop - first * PANEL)
        return (flat[wanted] ^ 0x80).view(torch.int8), scales[wanted]

    def unpack(self, rows: slice | None = None) -> torch.Tensor:
        q, scales = self.quantized(rows)
        return dequantize(q, scales, self.group).to(self.dtype)

    @property
    def tensors(self) -> list[torch.Tensor]:
        return [self._data, self._scales]
