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
    rows = x if x.dim() == 2 or (x.dim() == 3 and x.stride(1) == width) else x.reshape(-1, width)
    out = torch.empty(rows.shape, dtype=x.dtype)
    assert _run is not None
    _run(arguments(rows, weight, eps, out), len(rows))
    return out.view(x.shape)


def add_rmsnorm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float, alpha: float
) -> torch.Tensor:
    out = torch.empty(x.shape, dtype=x.dtype)
    assert _run is not None
    _run(arguments(x, weight, eps, out, residual, alpha), len(x))
    return out


def arguments(
    x: torch.Tensor,
    weight: torch.Tensor,
    eps: float,
    out: torch.Tensor,
    residual: torch.Tensor | None = None,
    alpha: float = 1.0,
) -> RmsnormArgs:
    """For rows at any distance, whose groups lie one after another; see `Recorder.rmsnorm`. The
    tensors must outlive what is returned."""
    width = x.shape[-1]
    assert weight.dtype == torch.float32
    assert weight.is_contiguous()
    for each in (x, out) if residual is None else (x, out, residual):
        assert each.dtype == x.dtype
        assert each.stride(-1) == 1 or width == 1
        assert each.dim() == 2 or each.stride(1) == width or each.shape[1] == 1
    return RmsnormArgs(
        x=x.data_ptr(),
        residual=None if residual is None else residual.data_ptr(),
        out=out.data_ptr(),
        weight=weight.data_ptr(),
        x_stride=x.stride(0),
        residual_stride=0 if residual is None else residual.stride(0),
        out_stride=out.stride(0),
        groups=x.shape[1] if x.dim() == 3 else 1,
        width=width,
        eps=eps,
        alpha=alpha,
        dtype=DTYPES[x.dtype],
    )


IMPLEMENTATIONS = {"rmsnorm": rmsnorm, "add_rmsnorm": add_rmsnorm} if _run is not None else {}
