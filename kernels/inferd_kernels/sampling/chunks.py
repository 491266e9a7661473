"""How many rows of logits are worked on at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch

ELEMENTS = {"cpu": 1 << 18, "cuda": 1 << 26}
"""Per chunk: intermediate results stay in a CPU's cache, or take under a few GiB of a GPU."""


def row_chunks(logits: torch.Tensor) -> Iterator[slice]:
    """Slices that cover the rows of logits [N, vocab]."""
    size = max(1, ELEMENTS.get(logits.device.type, 1 << 18) // logits.shape[-1])
    return (slice(begin, begin + size) for begin in range(0, len(logits), size))
