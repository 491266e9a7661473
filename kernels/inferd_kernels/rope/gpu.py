"""`rope` and `rope_kv_write` in Triton, one launch each.

A program has one token and some of its heads: the first programs of a token have heads of queries,
those behind them heads of keys, and of the values beside them.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from inferd_kernels.kv_write.gpu import WARPS, check, copy_heads, heads_of_a_program


def rope(
    q: torch.Tensor,
    k: torch.Tensor,
    positions: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
) -> None:
    _launch(q, k, positions, cos, sin, None)


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
    check(k, v, k_cache, v_cache, slot_mapping)
    _launch(q, k, positions, cos, sin, (v, k_cache, v_cache, slot_mapping))


def _launch(
    q: torch.Tensor,
    k: torch.Tensor,
    positions: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    write: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor] | None,
) -> None:
    """write: v, k_cache, v_cache and slots, where keys and values are to be written."""
    count, q_heads, size = q.shape
    half = cos.shape[1]
    assert q.stride(2) == k.stride(2) == positions.stride(0) == 1
    assert cos.is_contiguous()
    assert sin.is_contiguous()
    if not count:
        return
    k_heads, dims = k.shape[1], triton.next_power_of_2(size)
    v, k_cache, v_cache, slots = write or (k, k, k, positions)
    group, half_dims = heads_of_a_program(max(q_heads, k_heads), dims), triton.next_power_of_2(half)
    # Changed in place: a pair that two warps had loaded, one might turn twice.
    warps = max(1, min(WARPS, group * half_dims // 32))
    _rope[(count, triton.cdiv(q_heads, group) + triton.cdiv(k_heads, group))](
        q,
        k,
        v,
        positions,
        cos,
        sin,
        k_cache,
        v_cache,
        slots,
        *q.stride()[:2],
        *k.stride()[:2],
        *v.stride()[:2],
        Q_HEADS=q_heads,
        K_HEADS=k_heads,
        SIZE=size,
        HALF=half,
        WRITE=write is not None,
        GROUP=group,
        DIMS=dims,
        HALF_DIMS=half_dims,
        REST_DIMS=triton.next_power_of_2(size - 2 * half),
        num_warps=warps,
    )


@triton.jit
def _rope(
    q,
    k,
    v,
    positions,
    cos,
    sin,
    k_cache,
    v_cache,
    slots,
    q_token,
    q_head,
    k_token,
    k_head,
    v_token,
    v_head,
    Q_HEADS: tl.constexpr,
    K_HEADS: tl.constexpr,
    SIZE: tl.constexpr,
    HALF: tl.constexpr,
    WRITE: tl.constexpr,
    GROUP: tl.constexpr,
    DIMS: tl.constexpr,
    HALF_DIMS: tl.constexpr,
    REST_DIMS: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    of_queries: tl.constexpr = (Q_HEADS + GROUP - 1) // GROUP
    position = tl.load(positions + token)
    dims = tl.arange(0, HALF_DIMS)
    # For each head anew, so that each thread loads what it needs, without shared memory.
    angles = tl.broadcast_to((position * HALF + dims)[None, :], GROUP, HALF_DIMS)
    if part < of_queries:
        head = part * GROUP + tl.arange(0, GROUP)
        inside = (head < Q_HEADS)[:, None] & (dims < HALF)[None, :]
        places = q + token * q_token + head[:, None] * q_head + dims[None, :]
        _turn(places, cos + angles, sin + angles, inside, HALF)
    else:
        head = (part - of_queries) * GROUP + tl.arange(0, GROUP)
        inside = (head < K_HEADS)[:, None] & (dims < HALF)[None, :]
        keys = k + token * k_token
        places = keys + head[:, None] * k_head + dims[None, :]
        first, second = _turn(places, cos + angles, sin + angles, inside, HALF)
        if WRITE:
            slot = tl.load(slots + token)
            kept = k_cache + (slot * K_HEADS + head)[:, None] * SIZE + dims[None, :]
            tl.store(kept, first, inside)
            tl.store(kept + HALF, second, inside)
            if SIZE > 2 * HALF:
                copy_heads(
                    keys, k_head, k_cache, slot, head, K_HEADS, SIZE, REST_DIMS, FIRST=2 * HALF
                )
            copy_heads(v + token * v_token, v_head, v_cache, slot, head, K_HEADS, SIZE, DIMS)


@triton.jit
def _turn(places, cos, sin, inside, HALF: tl.constexpr):
    """Rotate in place; returns both halves as they are now."""
    first = tl.load(places, inside, 0.0)
    second = tl.load(places + HALF, inside, 0.0)
    turn_cos, turn_sin = tl.load(cos, inside, 0.0), tl.load(sin, inside, 0.0)
    x, y = first.to(tl.float32), second.to(tl.float32)
    first = (x * turn_cos - y * turn_sin).to(first.dtype)
    second = (y * turn_cos + x * turn_sin).to(second.dtype)
    tl.store(places, first, inside)
    tl.store(places + HALF, second, inside)
    return first, second


IMPLEMENTATIONS = {"rope": rope, "rope_kv_write": rope_kv_write}
