"""`attention` in C++."""

from __future__ import annotations

import ctypes

import torch

from inferd_kernels.cpu.library import DTYPES, Args, operation


class AttentionBatch(ctypes.Structure):
    """See cpu.h: what changes from step to step."""

    _fields_ = (
        ("block_tables", ctypes.c_void_p),
        ("cu_seqlens_q", ctypes.c_void_p),
        ("seq_lens", ctypes.c_void_p),
        ("num_seqs", ctypes.c_int64),
        ("max_blocks", ctypes.c_int64),
        ("max_seqlen_q", ctypes.c_int64),
        ("max_seqlen_k", ctypes.c_int64),
    )


class AttentionArgs(Args):
    """See cpu.h."""

    _fields_ = (
        ("q", ctypes.c_void_p),
        ("k_cache", ctypes.c_void_p),
        ("v_cache", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        ("batch", ctypes.POINTER(AttentionBatch)),
        ("q_stride", ctypes.c_int64),
        ("out_stride", ctypes.c_int64),
        ("heads", ctypes.c_int64),
        ("kv_heads", ctypes.c_int64),
        ("head_dim", ctypes.c_int64),
        ("block_size", ctypes.c_int64),
        ("window", ctypes.c_int64),
        ("scale", ctypes.c_float),
        ("softcap", ctypes.c_float),
        ("dtype", ctypes.c_int32),
    )


_run = operation("attention", AttentionArgs)


def attention(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    block_tables: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    seq_lens: torch.Tensor,
    *,
    max_seqlen_q: int,
    max_seqlen_k: int,
    scale: float,
    window: int,
    softcap: float,
) -> torch.Tensor:
    if q.stride(2) != 1 or q.stride(1) != q.shape[2]:
        q = q.contiguous()
    assert block_tables.dtype == cu_seqlens_q.dtype == seq_lens.dtype == torch.int32
    out = torch.empty(q.shape, dtype=q.dtype)
    batch = AttentionBatch(
        block_tables=block_tables.data_ptr(),
        cu_seqlens_q=cu_seqlens_q.data_ptr(),
        seq_lens=seq_lens.data_ptr(),
        num_seqs=len(seq_lens),
        max_blocks=block_tables.stride(0),
        max_seqlen_q=max_seqlen_q,
        max_seqlen_k=max_seqlen_k,
    )
    assert _run is not None
    args = arguments(
        q,
        k_cache,
        v_cache,
        batch,
        out.flatten(1),
        scale=scale,
        window=window,
        softcap=softcap,
    )
    _run(args, len(q))
    return out


def arguments(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    batch: AttentionBatch,
    out: torch.Tensor,
    *,
    scale: float,
    window: int,
    softcap: float,
) -> AttentionArgs:
    """For q [T, heads, D] and out [T, heads * D], rows at any distance; they and the caches must
    outlive what is returned, which keeps `batch`."""
    assert k_cache.is_contiguous(), "a cache is contiguous"
    assert v_cache.is_contiguous(), "a cache is contiguous"
    assert q.dtype == k_cache.dtype == v_cache.dtype == out.dtype
    return AttentionArgs(
        q=q.data_ptr(),
        k_cache=k_cache.data_ptr(),
        v_cache=v_cache.data_ptr(),
        out=out.data_ptr(),
        batch=ctypes.pointer(batch),
        q_stride=q.stride(0),
        out_stride=out.stride(0),
        heads=q.shape[1],
        kv_heads=k_cache.shape[2],
        head_dim=q.shape[2],
        block_size=k_cache.shape[1],
        window=window,
        scale=scale,
        softcap=softcap,
        dtype=DTYPES[q.dtype],
    )


IMPLEMENTATIONS = {"attention": attention} if _run is not None else {}
