"""`add` and `scale` in C++."""

from __future__ import annotations

import ctypes

import torch

from inferd_kernels.cpu.library import DTYPES, Args, operation


class AddArgs(Args):
    """See cpu.h."""

    _fields_ = (
        ("out", ctypes.c_void_p),
        ("x", ctypes.c_void_p),
        ("out_stride", ctypes.c_int64),
        ("x_stride", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("alpha", ctypes.c_float),
        ("dtype", ctypes.c_int32),
    )


class ScaleArgs(Args):
    """See cpu.h."""

    _fields_ = (
        ("x", ctypes.c_void_p),
        ("stride", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("factor", ctypes.c_float),
        ("dtype", ctypes.c_int32),
    )


_add = operation("add", AddArgs)
_scale = operation("scale", ScaleArgs)


def add(out: torch.Tensor, x: torch.Tensor, alpha: float) -> None:
    assert _add is not None
    _add(add_arguments(out, x, alpha), len(out))


def add_arguments(out: torch.Tensor, x: torch.Tensor, alpha: float) -> AddArgs:
    """Pointers into these tensors: they must outlive what is returned."""
    assert out.stride(1) == x.stride(1) == 1
    assert out.dtype == x.dtype
    return AddArgs(
        out=out.data_ptr(),
        x=x.data_ptr(),
        out_stride=out.stride(0),
        x_stride=x.stride(0),
        width=out.shape[1],
        alpha=alpha,
        dtype=DTYPES[out.dtype],
    )


def scale(x: torch.Tensor, factor: float) -> None:
    assert _scale is not None
    assert x.stride(1) == 1
    args = ScaleArgs(
        x=x.data_ptr(),
        stride=x.stride(0),
        width=x.shape[1],
        factor=factor,
        dtype=DTYPES[x.dtype],
    )
    _scale(args, len(x))


IMPLEMENTATIONS = {"add": add, "scale": scale} if _add is not None else {}
