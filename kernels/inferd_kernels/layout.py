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


def slots(block_table: torch.Tensor, positions: torch.Tensor, block_size: int) -> torch.Tensor:
    """Where positions of one sequence lie.

    Args:
        block_table: [max_blocks] int32 or int64.
        positions: [N] int64, each < max_blocks * block_size.

    Returns: [N] int64.

    Semantics: slot[n] = block_table[positions[n] // block_size] * block_size
        + positions[n] % block_size
    """
    return block_table[positions // block_size].long() * block_size + positions % block_size


def context_slots(block_tables: torch.Tensor, length: int, block_size: int) -> torch.Tensor:
    """The slots of positions 0 … length - 1 of B sequences: [B, max_blocks] → [B, length] int64.

    Semantics: slot[b, p] = block_tables[b, p // block_size] * block_size + p % block_size
    """
    blocks = block_tables[:, : -(-length // block_size)].long() * block_size
    offsets = torch.arange(block_size, device=blocks.device)
    return (blocks.unsqueeze(-1) + offsets).flatten(1)[:, :length]
