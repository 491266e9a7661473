"""`gated` in C++."""

from __future__ import annotations

import ctypes

import torch

from inferd_kernels.cpu.library import DTYPES, Args, operation

KINDS = {"silu": 0, "gelu": 1, "gelu_tanh": 2}
"""As cpu.h numbers them."""


class GatedArgs(Args):
    """See cpu.h."""

    _fields_ = (
        ("gate_up", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        ("stride", ctypes.c_int64),
        ("out_stride", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("kind", ctypes.c_int32),
        ("dtype", ctypes.c_int32),
    )


_run = operation("gated", GatedArgs)


def gated(gate_up: torch.Tensor, kind: str) -> torch.Tensor:
    rows, both = gate_up.shape
    out = torch.empty((rows, both // 2), dtype=gate_up.dtype)
    assert _run is not None
    _run(arguments(gate_up, kind, out), rows)
    return out


def arguments(gate_up: torch.Tensor, kind: str, out: torch.Tensor) -> GatedArgs:
    """Pointers into these tensors: they must outlive what is returned."""
    assert gate_up.stride(1) == 1
    assert gate_up.shape[1] == 2 * out.shape[1]
    assert gate_up.dtype == out.dtype
    return GatedArgs(
        gate_up=gate_up.data_ptr(),
        out=out.data_ptr(),
        stride=gate_up.stride(0),
        out_stride=out.stride(0),
        width=out.shape[1],
        kind=KINDS[kind],
        dtype=DTYPES[out.dtype],
    )


IMPLEMENTATIONS = {"gated": gated} if _run is not None else {}
