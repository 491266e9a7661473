"""The meaning of `attention`, in plain torch: decode rows as one padded batch, the rest one by one.

Padding reads the sequence's own last slot again and masks its score, so that no slot outside a
sequence ever reaches a result. Contexts are padded to a multiple of ALIGN, which keeps the order of
summation, and so the last bit, the same whatever a sequence's neighbours are (measured on CPU).
"""

from __future__ import annotations

import itertools

import torch
from torch.nn import functional

from inferd_kernels import layout

GATHER_TOKENS = {"cpu": 4096, "cuda": 65536}
"""Rows of KV copied out of the cache at a time while decoding: a CPU's caches should hold them."""
QUERY_ROWS = 256  # rows of a prompt that share a mask
ALIGN = 16  # positions


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
    window: int = 0,
    softcap: float = 0.0,
) -> torch.Tensor:
    if max_seqlen_q == 1:
        return _decode(
            q, k_cache, v_cache, block_tables, seq_lens, max_seqlen_k, scale, window, softcap
        )
    out = q.new_empty(q.shape)
    starts, lens = cu_seqlens_q.tolist(), seq_lens.tolist()
    sizes = [end - start for start, end in itertools.pairwise(starts)]
    for b, size in enumerate(sizes):
        if size > 1:
            rows = slice(starts[b], starts[b + 1])
            out[rows] = _prefill(
                q[rows], k_cache, v_cache, block_tables[b], lens[b], scale, window, softcap
            )
    single = [b for b, size in enumerate(sizes) if size == 1]
    if single:
        which = torch.tensor(single, device=q.device)
        rows_of = torch.tensor([starts[b] for b in single], device=q.device)
        longest = max(lens[b] for b in single)
        out[rows_of] = _decode(
            q[rows_of],
            k_cache,
            v_cache,
            block_tables[which],
            seq_lens[which],
            longest,
            scale,
            window,
            softcap,
        )
    return out


def _decode(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    block_tables: torch.Tensor,
    seq_lens: torch.Tensor,
    max_seqlen_k: int,
    scale: float,
    window: int,
    softcap: float,
) -> torch.Tensor:
    """One query per sequence: q [B, Hq, D] → [B, Hq, D]."""
    last = seq_lens.long().clamp(min=1).unsqueeze(1) - 1
    length = min(window, max_seqlen_k) if window else max_seqlen_k
    positions = torch.arange(_aligned(length), device=q.device)
    if length < max_seqlen_k:
        positions = positions + (last - window + 1).clamp(min=0)
    mask = (positions <= last)[:, None, None]
    slots = layout.slots(block_tables, positions.minimum(last), k_cache.shape[1])
    out = q.new_empty(q.shape)
    step = max(1, GATHER_TOKENS.get(q.device.type, 4096) // slots.shape[1])
    for b in range(0, len(q), step):
        part = slice(b, b + step)
        keys, values = _gather(k_cache, v_cache, slots[part])
        attended = _attend(q[part].unsqueeze(2), keys, values, mask[part], scale, softcap)
        out[part] = attended.squeeze(2)
    return out


def _prefill(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    block_table: torch.Tensor,
    seq_len: int,
    scale: float,
    window: int,
    softcap: float,
) -> torch.Tensor:
    """One sequence's last tokens: q [M, Hq, D] → [M, Hq, D]."""
    before = seq_len - len(q)
    begin = max(0, before - window + 1) if window else 0
    positions = torch.arange(begin, begin + _aligned(seq_len - begin), device=q.device)
    slots = layout.slots(block_table, positions.clamp(max=seq_len - 1), k_cache.shape[1])
    keys, values = _gather(k_cache, v_cache, slots.unsqueeze(0))
    q = q.transpose(0, 1).unsqueeze(0)
    parts = []
    for row in range(0, q.shape[2], QUERY_ROWS):
        chunk = q[:, :, row : row + QUERY_ROWS]
        at = torch.arange(chunk.shape[2], device=q.device).unsqueeze(1) + (before + row)
        low = max(0, before + row - window + 1) - begin if window else 0
        size = before + row + chunk.shape[2] - begin - low
        span = slice(low, low + _aligned(size))
        mask = positions[span] <= at
        if window:
            mask &= positions[span] > at - window
        parts.append(
            _attend(chunk, keys[:, :, span], values[:, :, span], mask[None, None], scale, softcap)
        )
    return torch.cat(parts, dim=2).squeeze(0).transpose(0, 1)


def _aligned(length: int) -> int:
    """The next multiple of ALIGN."""
    return length + -length % ALIGN


def _gather(
    k_cache: torch.Tensor, v_cache: torch.Tensor, slots: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Slots [B, K] → keys and values [B, Hkv, K, D]."""
    shape = (*slots.shape, *k_cache.shape[2:])
    rows = slots.flatten()
    keys = layout.flat(k_cache).index_select(0, rows).view(shape)
    values = layout.flat(v_cache).index_select(0, rows).view(shape)
    return keys.transpose(1, 2), values.transpose(1, 2)


def _attend(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor,
    scale: float,
    softcap: float,
) -> torch.Tensor:
    """q [B, Hq, M, D], keys and values [B, Hkv, K, D], mask [B, 1, M, K] → [B, Hq, M, D]."""
    batch, heads, rows, dim = q.shape
    groups = heads // keys.shape[1]
    if softcap:
        grouped = q.reshape(batch, -1, groups, rows, dim).float()
        scores = grouped @ keys.float().unsqueeze(2).transpose(-1, -2) * scale
        scores = torch.tanh(scores / softcap) * softcap
        weights = scores.masked_fill(~mask.unsqueeze(1), -torch.inf).softmax(dim=-1)
        return (weights @ values.float().unsqueeze(2)).to(q.dtype).view(q.shape)
    if rows == 1:  # the heads of a group become rows of their kv head: no copy of keys and values
        folded = q.reshape(batch, -1, groups, dim)
        out = functional.scaled_dot_product_attention(
            folded, keys, values, attn_mask=mask, scale=scale
        )
        return out.reshape(q.shape)
    return functional.scaled_dot_product_attention(
        q, keys, values, attn_mask=mask, scale=scale, enable_gqa=groups > 1
    )
