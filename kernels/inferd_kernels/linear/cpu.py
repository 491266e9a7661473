"""`linear` and `linear_f32` in C++, for packed weights; torch has the others."""

from __future__ import annotations

import ctypes

import torch

from inferd_kernels.cpu.library import DTYPES, Args, operation
from inferd_kernels.linear import reference
from inferd_kernels.linear.weight import PackedWeight, WeightArgs


class LinearArgs(Args):
    """See cpu.h."""

    _fields_ = (
        ("weight", WeightArgs),
        ("x", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        ("x_stride", ctypes.c_int64),
        ("out_stride", ctypes.c_int64),
        ("x_dtype", ctypes.c_int32),
        ("out_dtype", ctypes.c_int32),
    )


run = operation("linear", LinearArgs)
"""Takes what `arguments` returns, and a number of rows."""


def linear(
    x: torch.Tensor, weight: torch.Tensor | PackedWeight, bias: torch.Tensor | None
) -> torch.Tensor:
    if isinstance(weight, PackedWeight):
        return _packed(x, weight, bias, x.dtype)
    return reference.linear(x, weight, bias)


def linear_f32(
    x: torch.Tensor, weight: torch.Tensor | PackedWeight, out: torch.Tensor | None = None
) -> torch.Tensor:
    if isinstance(weight, PackedWeight):
        return _packed(x, weight, None, torch.float32, out)
    return reference.linear_f32(x, weight, out)


def arguments(
    x: torch.Tensor, weight: PackedWeight, bias: torch.Tensor | None, out: torch.Tensor
) -> LinearArgs:
    """For x [T, in] and out [T, out], rows at any distance; they must outlive the call."""
    assert x.stride(1) == 1 or x.shape[1] == 1, "a row's elements lie side by side"
    return LinearArgs(
        weight=weight.descriptor,
        x=x.data_ptr(),
        bias=None if bias is None else bias.data_ptr(),
        out=out.data_ptr(),
        x_stride=x.stride(0),
        out_stride=out.stride(0),
        x_dtype=DTYPES[x.dtype],
        out_dtype=DTYPES[out.dtype],
    )


def _packed(
    x: torch.Tensor,
    weight: PackedWeight,
    bias: torch.Tensor | None,
    dtype: torch.dtype,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    assert x.dtype == weight.dtype
    assert bias is None or bias.dtype == x.dtype
    assert x.shape == (len(x), weight.shape[1])
    x = x if x.stride(1) == 1 or x.shape[1] == 1 else x.contiguous()
    if out is None:
        out = torch.empty(len(x), weight.shape[0], dtype=dtype)
    assert out.shape == (len(x), weight.shape[0])
    assert out.dtype == dtype
    assert run is not None
    run(arguments(x, weight, bias, out), len(x))
    return out


IMPLEMENTATIONS = {"linear": linear, "linear_f32": linear_f32} if run is not None else {}
