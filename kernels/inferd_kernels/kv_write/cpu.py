"""`kv_write` in C++."""

from __future__ import annotations

import ctypes

import torch

from inferd_kernels.cpu.library import Args, operation


class KvWriteArgs(Args):
    """See cpu.h."""

    _fields_ = (
        ("k", ctypes.c_void_p),
        ("v", ctypes.c_void_p),
        ("k_cache", ctypes.c_void_p),
        ("v_cache", ctypes.c_void_p),
        ("slots", ctypes.c_void_p),
        ("k_stride", ctypes.c_int64),
        ("k_head_stride", ctypes.c_int64),
        ("v_stride", ctypes.c_int64),
        ("v_head_stride", ctypes.c_int64),
        ("heads", ctypes.c_int64),
        ("head_bytes", ctypes.c_int64),
    )


_run = operation("kv_write", KvWriteArgs)


def arguments(
    k: torch.Tensor,
    v: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    slot_mapping: torch.Tensor,
) -> KvWriteArgs:
    """Pointers into these tensors: they must outlive what is returned."""
    assert k.stride(2) == v.stride(2) == slot_mapping.stride(0) == 1
    assert k_cache.is_contiguous()
    assert v_cache.is_contiguous()
    assert k.dtype == v.dtype == k_cache.dtype == v_cache.dtype
    size = k.element_size()
    return KvWriteArgs(
        k=k.data_ptr(),
        v=v.data_ptr(),
        k_cache=k_cache.data_ptr(),
        v_cache=v_cache.data_ptr(),
        slots=slot_mapping.data_ptr(),
        k_stride=k.stride(0) * size,
        k_head_stride=k.stride(1) * size,
        v_stride=v.stride(0) * size,
        v_head_stride=v.stride(1) * size,
        heads=k.shape[1],
        head_bytes=k.shape[2] * size,
    )


def kv_write(
    k: torch.Tensor,
    v: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    slot_mapping: torch.Tensor,
) -> None:
    assert _run is not None
    _run(arguments(k, v, k_cache, v_cache, slot_mapping), len(k))


IMPLEMENTATIONS = {"kv_write": kv_write} if _run is not None else {}
