"""Sequences of random KV in a paged cache, and what attention over them should give."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate

import torch

from inferd_kernels import layout
from inferd_kernels.attention import attention

CPU = torch.device("cpu")
_GIVEN = ("q", "k_cache", "v_cache", "block_tables")


@dataclass
class Paged:
    """Sequences of random KV in a cache whose every other slot is NaN."""

    q: torch.Tensor
    keys: list[torch.Tensor]
    values: list[torch.Tensor]
    sizes: list[int]
    k_cache: torch.Tensor
    v_cache: torch.Tensor
    block_tables: torch.Tensor

    def to(self, device: torch.device) -> Paged:
        """With what the operation is given there."""
        moved = {name: getattr(self, name).to(device) for name in _GIVEN}
        return replace(self, **moved)

    def run(self, *, scale: float = 0.3, window: int = 0, softcap: float = 0.0) -> torch.Tensor:
        lens = [len(keys) for keys in self.keys]
        device = self.q.device
        return attention(
            self.q,
            self.k_cache,
            self.v_cache,
            self.block_tables,
            torch.tensor([0, *accumulate(self.sizes)], dtype=torch.int32, device=device),
            torch.tensor(lens, dtype=torch.int32, device=device),
            max_seqlen_q=max(self.sizes),
            max_seqlen_k=max(lens),
            scale=scale,
            window=window,
            softcap=softcap,
        )

    def expected(
        self, *, scale: float = 0.3, window: int = 0, softcap: float = 0.0
    ) -> torch.Tensor:
        """Row by row, head by head, in float64, on the CPU."""
        q = self.q.cpu()
        out, row = torch.empty(q.shape, dtype=torch.float64), 0
        groups = q.shape[1] // self.k_cache.shape[2]
        for keys, values, size in zip(self.keys, self.values, self.sizes, strict=True):
            for position in range(len(keys) - size, len(keys)):
                first = max(0, position - window + 1) if window else 0
                for head in range(q.shape[1]):
                    seen = slice(first, position + 1)
                    scores = keys[seen, head // groups].double() @ q[row, head].double()
                    scores = scores * scale
                    if softcap:
                        scores = softcap * torch.tanh(scores / softcap)
                    shares = torch.softmax(scores, dim=0)
                    out[row, head] = shares @ values[seen, head // groups].double()
                row += 1
        return out


def paged(
    lengths: list[tuple[int, int]],
    *,
    heads: int = 6,
    kv_heads: int = 3,
    head_dim: int = 10,
    block_size: int = 4,
    dtype: torch.dtype = torch.float32,
) -> Paged:
    """`lengths`: per sequence (new tokens, context with them)."""
    generator = torch.Generator().manual_seed(len(lengths))

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    tables = [-(-context // block_size) for _, context in lengths]
    num_blocks = sum(tables) + 3
    k_cache, v_cache = layout.allocate(
        num_blocks, block_size, kv_heads, head_dim, dtype=dtype, device=CPU
    )
    k_cache.fill_(torch.nan)
    v_cache.fill_(torch.nan)
    free: list[int] = torch.randperm(num_blocks, generator=generator).tolist()
    block_tables = torch.zeros(len(lengths), max(tables), dtype=torch.int32)
    keys, values = [], []
    for b, (_, context) in enumerate(lengths):
        table = torch.tensor([free.pop() for _ in range(tables[b])], dtype=torch.int32)
        block_tables[b, : len(table)] = table
        keys.append(normal(context, kv_heads, head_dim))
        values.append(normal(context, kv_heads, head_dim))
        slots = layout.slots(table, torch.arange(context), block_size)
        layout.flat(k_cache)[slots] = keys[-1]
        layout.flat(v_cache)[slots] = values[-1]
    sizes = [new for new, _ in lengths]
    return Paged(
        q=normal(sum(sizes), heads, head_dim),
        keys=keys,
        values=values,
        sizes=sizes,
        k_cache=k_cache,
        v_cache=v_cache,
        block_tables=block_tables,
    )
