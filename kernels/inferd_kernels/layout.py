"""The paged KV cache: its shape and its slot arithmetic, said once.

One layer's keys (and likewise its values) are [num_blocks, block_size, num_kv_heads, head_dim],
contiguous. Token `position` of a sequence lies in block `block_table[position // block_size]` at
offset `position % block_size`; its slot is `block * block_size + offset`, a row of the cache seen
as [num_blocks * block_size, num_kv_heads, head_dim].
"""

from __future__ import annotations

import torch


def allocate(
    num_blocks: int,
    block_size: int,
    num_kv_heads: int,
    head_dim: int,
    *,
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One layer's (keys, values), with anything in them.

    Not zeroed: on a CPU, memory that no sequence has come to yet is then never really taken.
    """
    shape = (num_blocks, block_size, num_kv_heads, head_dim)
    return (
        torch.empty(shape, dtype=dtype, device=device),
        torch.empty(shape, dtype=dtype, device=device),
    )


def flat(cache: torch.Tensor) -> torch.Tensor:
    """The cache as rows: [num_blocks * block_size, num_kv_heads, head_dim]. A view."""
    return cache.view(-1, cache.shape[2], cache.shape[3])


def slots(block_tables: torch.Tensor, positions: torch.Tensor, block_size: int) -> torch.Tensor:
    """Where positions of one sequence, or of each of B, lie.

    Args:
        block_tables: [max_blocks] or [B, max_blocks], int32 or int64.
        positions: [N] or [B, N] int64, each < max_blocks * block_size.

    Returns: positions' shape, int64.

    Semantics: slot[b, n] = block_tables[b, positions[b, n] // block_size] * block_size
        + positions[b, n] % block_size
    """
    blocks = block_tables.gather(-1, positions // block_size)
    return blocks.long() * block_size + positions % block_size
