"""`kv_write` in Triton: a program for a token's heads, or for some of them."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

ELEMENTS, WARPS = 1024, 2
"""Of one program: 16 per thread, so that accesses to halves of heads are 16 bytes wide, too."""


def kv_write(
    k: torch.Tensor,
    v: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    slot_mapping: torch.Tensor,
) -> None:
    count, heads, size = k.shape
    check(k, v, k_cache, v_cache, slot_mapping)
    if not k.numel():
        return
    dims = triton.next_power_of_2(size)
    group = heads_of_a_program(heads, dims)
    _kv_write[(count, triton.cdiv(heads, group))](
        k,
        v,
        k_cache,
        v_cache,
        slot_mapping,
        *k.stride()[:2],
        *v.stride()[:2],
        HEADS=heads,
        SIZE=size,
        GROUP=group,
        DIMS=dims,
        num_warps=WARPS,
    )


def check(
    k: torch.Tensor,
    v: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    slot_mapping: torch.Tensor,
) -> None:
    """What the kernels take for granted."""
    assert k.stride(2) == v.stride(2) == slot_mapping.stride(0) == 1
    assert k_cache.is_contiguous()
    assert v_cache.is_contiguous()
    assert k.dtype == v.dtype == k_cache.dtype == v_cache.dtype


def heads_of_a_program(heads: int, dims: int) -> int:
    """A power of two."""
    return min(int(triton.next_power_of_2(heads)), max(1, ELEMENTS // dims))


@triton.jit
def _kv_write(
    k,
    v,
    k_cache,
    v_cache,
    slots,
    k_token,
    k_head,
    v_token,
    v_head,
    HEADS: tl.constexpr,
    SIZE: tl.constexpr,
    GROUP: tl.constexpr,
    DIMS: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * GROUP + tl.arange(0, GROUP)
    slot = tl.load(slots + token)
    copy_heads(k + token * k_token, k_head, k_cache, slot, head, HEADS, SIZE, DIMS)
    copy_heads(v + token * v_token, v_head, v_cache, slot, head, HEADS, SIZE, DIMS)


@triton.jit
def copy_heads(
    x,
    stride,
    cache,
    slot,
    head,
    HEADS: tl.constexpr,
    SIZE: tl.constexpr,
    DIMS: tl.constexpr,
    FIRST: tl.constexpr = 0,
):
    """Dimensions from FIRST on of these heads of a token into its slot of the cache."""
    dims = FIRST + tl.arange(0, DIMS)
    inside = (head < HEADS)[:, None] & (dims < SIZE)[None, :]
    value = tl.load(x + head[:, None] * stride + dims[None, :], inside)
    places = (slot * HEADS + head)[:, None] * SIZE + dims[None, :]
    tl.store(cache + places, value, inside)


IMPLEMENTATIONS = {"kv_write": kv_write}
