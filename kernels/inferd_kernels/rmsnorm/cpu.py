"""`rmsnorm` and `add_rmsnorm` in C++."""

from __future__ import annotations

import ctypes

import torch

from inferd_kernels.cpu.library import DTYPES, Args, operation


class RmsnormArgs(Args):
    """See cpu.h."""

    _fields_ = (
        ("x", ctypes.c_void_p),
        ("residual", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        ("weight", ctypes.c_void_p),
        ("x_stride", ctypes.c_int64),
        ("residual_stride", ctypes.c_int64),
        ("out_stride", ctypes.c_int64),
        ("groups", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("eps", ctypes.c_float),
        ("alpha", ctypes.c_float),
        ("dtype", ctypes.c_int32),
    )


_run = operation("rmsnorm", RmsnormArgs)


def rmsnorm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    width = x.shape[-1]
    groups = x.shape[-2] if x.dim() == 3 and x.stride(1) == width else 1
    rows = x if groups > 1 or x.dim() == 2 else x.reshape(-1, width)
    out = torch.empty(x.shape, dtype=x.dtype)
    assert _run is not None
    _run(
        RmsnormArgs(
            x=rows.data_ptr(),
            out=out.data_ptr(),
            weight=weight.data_ptr(),
            x_stride=rows.stride(0),
            out_stride=groups * width,
            groups=groups,
            width=width,
            eps=eps,
            dtype=DTYPES[x.dtype],
        ),
        len(rows),
    )
    return out


def add_rmsnorm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float, alpha: float
) -> torch.Tensor:
    out = torch.empty(x.shape, dtype=x.dtype)
    assert _run is not None
    _run(
        RmsnormArgs(
            x=x.data_ptr(),
            residual=residual.data_ptr(),
            out=out.data_ptr(),
            weight=weight.data_ptr(),
            x_stride=x.stride(0),
            residual_stride=residual.stride(0),
            out_stride=x.shape[1],
            groups=1,
            width=x.shape[1],
            eps=eps,
            alpha=alpha,
            dtype=DTYPES[x.dtype],
        ),
        len(x),
    )
    return out


IMPLEMENTATIONS = {"rmsnorm": rmsnorm, "add_rmsnorm": add_rmsnorm} if _run is not None else {}
