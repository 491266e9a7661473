"""`embedding` in C++."""

from __future__ import annotations

import ctypes

import torch

from inferd_kernels.cpu.library import DTYPES, Args, operation
from inferd_kernels.linear.weight import PackedWeight, WeightArgs


class EmbeddingArgs(Args):
    """See cpu.h."""

    _fields_ = (
        ("weight", WeightArgs),
        ("table", ctypes.c_void_p),
        ("ids", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        ("width", ctypes.c_int64),
        ("stride", ctypes.c_int64),
        ("out_stride", ctypes.c_int64),
        ("scale", ctypes.c_float),
        ("wide_ids", ctypes.c_int32),
        ("dtype", ctypes.c_int32),
    )


_run = operation("embedding", EmbeddingArgs)


def embedding(ids: torch.Tensor, weight: torch.Tensor | PackedWeight, scale: float) -> torch.Tensor:
    ids = ids.contiguous()
    out = torch.empty(len(ids), weight.shape[1], dtype=weight.dtype)
    assert _run is not None
    _run(arguments(ids, weight, scale, out), len(ids))
    return out


def arguments(
    ids: torch.Tensor, weight: torch.Tensor | PackedWeight, scale: float, out: torch.Tensor
) -> EmbeddingArgs:
    """For contiguous ids and out [T, D], rows at any distance; they must outlive the call."""
    args = EmbeddingArgs(
        ids=ids.data_ptr(),
        out=out.data_ptr(),
        width=weight.shape[1],
        out_stride=out.stride(0),
        scale=scale,
        wide_ids=ids.dtype == torch.int64,
        dtype=DTYPES[out.dtype],
    )
    if isinstance(weight, PackedWeight):
        args.weight = weight.descriptor
    else:
        args.table = weight.data_ptr()
        args.stride = weight.stride(0)
    return args


IMPLEMENTATIONS = {"embedding": embedding} if _run is not None else {}
