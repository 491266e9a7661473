"""`rope` and `rope_kv_write` in C++: one function, that writes where there are slots."""

from __future__ import annotations

import ctypes

import torch

from inferd_kernels.cpu.library import DTYPES, Args, operation
from inferd_kernels.kv_write.cpu import KvWriteArgs
from inferd_kernels.kv_write.cpu import arguments as kv_write_arguments


class RopeArgs(Args):
    """See cpu.h."""

    _fields_ = (
        ("q", ctypes.c_void_p),
        ("k", ctypes.c_void_p),
        ("positions", ctypes.c_void_p),
        ("cos", ctypes.c_void_p),
        ("sin", ctypes.c_void_p),
        ("q_stride", ctypes.c_int64),
        ("q_head_stride", ctypes.c_int64),
        ("k_stride", ctypes.c_int64),
        ("k_head_stride", ctypes.c_int64),
        ("q_heads", ctypes.c_int64),
        ("k_heads", ctypes.c_int64),
        ("half", ctypes.c_int64),
        ("kv", KvWriteArgs),
        ("dtype", ctypes.c_int64),
    )


_run = operation("rope", RopeArgs)


def arguments(
    q: torch.Tensor,
    k: torch.Tensor,
    positions: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
) -> RopeArgs:
    """Pointers into these tensors: they must outlive what is returned."""
    assert q.dtype == k.dtype
    assert q.stride(2) == k.stride(2) == positions.stride(0) == 1
    assert cos.is_contiguous()
    assert sin.is_contiguous()
    return RopeArgs(
        q=q.data_ptr(),
        k=k.data_ptr(),
        positions=positions.data_ptr(),
        cos=cos.data_ptr(),
        sin=sin.data_ptr(),
        q_stride=q.stride(0),
        q_head_stride=q.stride(1),
        k_stride=k.stride(0),
        k_head_stride=k.stride(1),
        q_heads=q.shape[1],
        k_heads=k.shape[1],
        half=cos.shape[1],
        dtype=DTYPES[q.dtype],
    )


def rope(
    q: torch.Tensor,
    k: torch.Tensor,
    positions: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
) -> None:
    assert _run is not None
    _run(arguments(q, k, positions, cos, sin), len(q))


def rope_kv_write(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    positions: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    slot_mapping: torch.Tensor,
) -> None:
    assert _run is not None
    args = arguments(q, k, positions, cos, sin)
    args.kv = kv_write_arguments(k, v, k_cache, v_cache, slot_mapping)
    _run(args, len(q))


IMPLEMENTATIONS = {"rope": rope, "rope_kv_write": rope_kv_write} if _run is not None else {}
