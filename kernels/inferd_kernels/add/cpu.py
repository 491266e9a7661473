"""`add` in C++."""

from __future__ import annotations

import ctypes

import torch

from inferd_kernels.cpu.library import DTYPES, Args, operation


class AddArgs(Args):
    """See cpu.h."""

    _fields_ = (
        ("x", ctypes.c_void_p),
        ("residual", ctypes.c_void_p),
        ("x_stride", ctypes.c_int64),
        ("residual_stride", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("alpha", ctypes.c_float),
        ("dtype", ctypes.c_int32),
    )


_run = operation("add", AddArgs)


def arguments(x: torch.Tensor, residual: torch.Tensor, alpha: float) -> AddArgs:
    """For [T, D] tensors whose rows are contiguous."""
    return AddArgs(
        x=x.data_ptr(),
        residual=residual.data_ptr(),
        x_stride=x.stride(0),
        residual_stride=residual.stride(0),
        width=x.shape[1],
        alpha=alpha,
        dtype=DTYPES[x.dtype],
    )


def add(x: torch.Tensor, residual: torch.Tensor, alpha: float) -> None:
    assert _run is not None
    _run(arguments(x, residual, alpha), len(x))


IMPLEMENTATIONS = {"add": add} if _run is not None else {}
