"""Causal attention of a flat (varlen) batch over the paged KV cache."""

from __future__ import annotations

import torch

from inferd_kernels.attention import reference
from inferd_kernels.dispatch import Op

ATTENTION = Op(
    "attention",
    reference.attention,
    cpu="inferd_kernels.attention.cpu",
    gpu="inferd_kernels.attention.gpu",
    gpu_invariant="inferd_kernels.attention.gpu_invariant",
)


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
    """Attend from each sequence's new tokens to its context, which the cache already holds.

    Sequence b owns the rows cu_seqlens_q[b] … cu_seqlens_q[b + 1] - 1 of q, its last
    m = cu_seqlens_q[b + 1] - cu_seqlens_q[b] tokens: row r of them has position
    p = seq_lens[b] - m + r. Slots that no position of the sequence uses are never read into the
    result, whatever they hold (NaN included).

    Args:
        q: [T, Hq, D], fp32, bf16 or fp16; may be a view into a fused projection.
        k_cache, v_cache: [num_blocks, block_size, Hkv, D] of q's dtype; Hq a multiple of Hkv,
            head h reads kv head h // (Hq / Hkv).
        block_tables: [B, max_blocks] int32, block_size * max_blocks ≥ max_seqlen_k.
        cu_seqlens_q: [B + 1] int32, from 0 to T.
        seq_lens: [B] int32, context length including the new tokens; each ≥ its m ≥ 0.
        max_seqlen_q, max_seqlen_k: upper bounds on m and on seq_lens, known to the host. Where
            max_seqlen_q is 1 every sequence has exactly one row, and nothing waits for the device.
        scale: multiplies q·k.
        window: a token sees itself and the window - 1 before it; 0: all before it.
        softcap: scores become softcap * tanh(score / softcap); 0: as they are.

    Returns: [T, Hq, D] of q's dtype, contiguous. Softmax in fp32.

    Semantics, at row r of sequence b and head h, over positions j with max(0, p - window + 1) ≤
    j ≤ p (or 0 ≤ j ≤ p without a window):
        score[j] = cap(scale * q[r, h] · K[b, j, h // G])
        out[r, h] = sum_j softmax(score)[j] * V[b, j, h // G]
    """
    return ATTENTION.on(q.device.type)(
        q,
        k_cache,
        v_cache,
        block_tables,
        cu_seqlens_q,
        seq_lens,
        max_seqlen_q=max_seqlen_q,
        max_seqlen_k=max_seqlen_k,
        scale=scale,
        window=window,
        softcap=softcap,
    )
