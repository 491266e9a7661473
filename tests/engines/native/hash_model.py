"""A model without weights whose logits depend on every token and slot of its context.

It writes (token, position) into the paged cache and reads its context back through the block
tables; a wrong slot, table or position changes every number after it, or trips an assertion.
Some tokens are faults: see SOUR, POISON and RAISE.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch

from inferd.engines.native.model import Batch, KVSpec
from inferd_kernels import layout
from inferd_kernels.kv_write import kv_write
from inferd_kernels.lora import LoraSegments

VOCAB = 50
SOUR = 47  # asking for logits after a context that holds this token raises
POISON = 48  # logits after a context that holds this token are NaN
RAISE = 49  # a forward pass with this token raises


class HashModel:
    """Implements `Model`; `forward`'s states are (a hash of the context, its fault)."""

    runner = "hash"
    quantization = ""
    quantization_loss = None
    architecture = "Hash"
    vocab_size = VOCAB
    max_position = 1000
    dtype = torch.float64
    device = torch.device("cpu")
    kv_specs = (KVSpec(1, 2),)
    weight_bytes = 0
    weights: tuple[torch.Tensor, ...] = ()
    adaptable = None

    def __init__(self) -> None:
        self.steps: list[list[int]] = []  # tokens per sequence of each step

    def forward(self, batch: Batch) -> torch.Tensor:
        starts = batch.cu_seqlens_q.tolist()
        sizes = [end - start for start, end in pairwise(starts)]
        self.steps.append(sizes)
        assert max(sizes) == batch.max_seqlen_q
        assert int(batch.seq_lens.max()) == batch.max_seqlen_k
        if bool((batch.input_ids == RAISE).any()):
            raise RuntimeError("a token that raises")
        keys, values = batch.kv_cache[0]
        row = torch.stack((batch.input_ids, batch.positions), -1).double()[:, None]
        kv_write(row, row, keys, values, batch.slot_mapping)
        states = []
        for b, size in enumerate(sizes):
            length = int(batch.seq_lens[b])
            slots = layout.slots(batch.block_tables[b], torch.arange(length), keys.shape[1])
            context = layout.flat(keys)[slots, 0]
            assert context[:, 1].tolist() == list(range(length)), "a slot of another position"
            tokens = [int(token) for token in context[:, 0]]
            states += [state(tokens[: length - size + i + 1]) for i in range(size)]
        return torch.tensor(states, dtype=self.dtype)

    def logits(self, hidden: torch.Tensor, _segments: LoraSegments | None = None) -> torch.Tensor:
        if bool((hidden[:, 1] == SOUR).any()):
            raise RuntimeError("a sour row")
        logits = 3 * torch.sin(hidden[:, :1] * torch.arange(1, VOCAB + 1) + 1)
        logits[:, [SOUR, POISON, RAISE]] = -1e4  # never chosen
        logits[hidden[:, 1] == POISON] = torch.nan
        return logits.float()


class SmallModel(HashModel):
    """Has memory for `fits` tokens at a time, and none for a batch with a `cursed` token."""

    def __init__(self, fits: int, cursed: int = -1) -> None:
        super().__init__()
        self.fits = fits
        self.cursed = cursed
        self.refused = 0

    def forward(self, batch: Batch) -> torch.Tensor:
        if len(batch.input_ids) > self.fits or bool((batch.input_ids == self.cursed).any()):
            self.refused += 1
            raise torch.OutOfMemoryError("no memory")
        return super().forward(batch)


def state(tokens: Sequence[int]) -> tuple[float, float]:
    """The model's whole function of a context."""
    value = 0.5
    for token in tokens:
        value = (value * 1.37 + token * 0.618 + 0.1) % 1.0
    return value, float(next((token for token in (SOUR, POISON) if token in tokens), 0))


def logits_after(tokens: Sequence[int]) -> list[float]:
    """What the model must answer after `tokens`."""
    model = HashModel()
    row: list[float] = model.logits(torch.tensor([state(tokens)], dtype=model.dtype))[0].tolist()
    return row


def greedy(prompt: Sequence[int], count: int) -> list[int]:
    """`count` tokens of greedy generation, without any engine."""
    tokens = list(prompt)
    for _ in range(count):
        logits = logits_after(tokens)
        tokens.append(logits.index(max(logits)))
    return tokens[len(prompt) :]
