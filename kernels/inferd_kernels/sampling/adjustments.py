"""Changes to single logits before sampling: bias, masks and penalties."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Words = npt.NDArray[np.int32]
NO_INTS: Ints = np.empty(0, np.int64)
NO_FLOATS: Floats = np.empty(0, np.float32)


class Adjustment(NamedTuple):
    """What to change in one row. Arrays live on the host; each lists a token at most once."""

    bias_ids: Ints = NO_INTS
    bias: Floats = NO_FLOATS  # added to the logits of bias_ids
    masked_ids: Ints = NO_INTS  # cannot be chosen
    allowed: Words | None = None  # [≥ vocab / 32]: only set bits can be chosen
    seen_ids: Ints = NO_INTS  # tokens of the prompt or the output
    seen_counts: Ints = NO_INTS  # how often each is in the output (0: in the prompt only)
    repetition: float = 1.0
    presence: float = 0.0
    frequency: float = 0.0


def adjust(logits: torch.Tensor, rows: Sequence[Adjustment | None]) -> torch.Tensor:
    present = [(i, row) for i, row in enumerate(rows) if row is not None]
    if not present:
        return logits
    logits = logits.clone()
    index, ids = _flatten(present, lambda row: row.bias_ids, logits.device)
    if len(ids):
        bias = np.concatenate([row.bias for _, row in present])
        logits[index, ids] += torch.from_numpy(bias).to(logits.device)
    index, ids = _flatten(present, lambda row: row.masked_ids, logits.device)
    if len(ids):
        logits[index, ids] = -torch.inf
    _allow(logits, present)
    index, ids = _flatten(present, lambda row: row.seen_ids, logits.device)
    if len(ids):
        _penalize(logits, present, index, ids)
    return logits


def _allow(logits: torch.Tensor, present: list[tuple[int, Adjustment]]) -> None:
    """Keep only what the rows that have `allowed` allow."""
    chosen = [(i, row.allowed) for i, row in present if row.allowed is not None]
    if not chosen:
        return
    packed = torch.from_numpy(np.stack([words for _, words in chosen])).to(logits.device)
    rows = torch.tensor([i for i, _ in chosen], device=logits.device)
    logits[rows] = logits[rows].masked_fill_(~unpack(packed, logits.shape[-1]), -torch.inf)


def unpack(words: torch.Tensor, vocab: int) -> torch.Tensor:
    """Bits as bool [N, vocab]; words [N, vocab / 32, rounded up] int32.

    Token t is bit t mod 32, the lowest first, of word t div 32 (on little-endian machines: bit
    t mod 8 of byte t div 8).
    """
    bits = torch.tensor([1 << bit for bit in range(8)], dtype=torch.uint8, device=words.device)
    octets = words.contiguous().view(torch.uint8)
    return ((octets[:, :, None] & bits) != 0).flatten(1)[:, :vocab]


def _penalize(
    logits: torch.Tensor,
    present: list[tuple[int, Adjustment]],
    index: torch.Tensor,
    ids: torch.Tensor,
) -> None:
    """Repetition as in CTRL (arXiv 1909.05858), then frequency and presence as OpenAI's API."""
    device = logits.device
    lengths = torch.tensor([len(row.seen_ids) for _, row in present], device=device)
    values = [(row.repetition, row.frequency, row.presence) for _, row in present]
    per_token = torch.tensor(values, device=device).repeat_interleave(lengths, 0)
    repetition, frequency, presence = per_token.unbind(-1)
    counts = torch.from_numpy(np.concatenate([row.seen_counts for _, row in present])).to(device)
    x = logits[index, ids]
    x = torch.where(x > 0, x / repetition, x * repetition)
    logits[index, ids] = x - frequency * counts - presence * (counts > 0)


def _flatten(
    present: list[tuple[int, Adjustment]],
    pick: Callable[[Adjustment], Ints],
    device: torch.device,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(row index, token id) of every token picked, both [M] int64."""
    parts = [pick(row) for _, row in present]
    index = np.repeat(np.array([i for i, _ in present]), [len(part) for part in parts])
    return torch.from_numpy(index).to(device), torch.from_numpy(np.concatenate(parts)).to(device)
