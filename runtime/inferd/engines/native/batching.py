"""From a scheduler's step to a model's flat batch; keeps the block table of every row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import Protocol

import numpy as np
import torch

from inferd.engines.native.model import Batch, KVSpec
from inferd_kernels import layout
from inferd_kernels.cpu.memory import allocate
from inferd_kernels.lora import segments
from inferd_scheduler import Step, Work

CPU = torch.device("cpu")
PAGE_BYTES = 4096  # the smallest in use; larger ones are touched more often

KVCache = tuple[tuple[torch.Tensor, torch.Tensor], ...]


def allocate_kv(
    specs: tuple[KVSpec, ...],
    num_blocks: int,
    block_size: int,
    dtype: torch.dtype,
    device: torch.device,
) -> KVCache:
    """Per layer (keys, values), as `inferd_kernels.layout` has them. In main memory all of it lies
    in one piece, so that huge pages hold little else. Raises RuntimeError, torch's."""
    if device.type != "cpu":
        return tuple(
            layout.allocate(
                num_blocks, block_size, spec.num_kv_heads, spec.head_dim, dtype=dtype, device=device
            )
            for spec in specs
        )
    shapes = [(num_blocks, block_size, spec.num_kv_heads, spec.head_dim) for spec in specs]
    sizes = [math.prod(shape) for shape in shapes for _ in ("keys", "values")]
    parts = iter(torch.split(allocate((sum(sizes),), dtype), sizes))
    return tuple((next(parts).view(shape), next(parts).view(shape)) for shape in shapes)


def touch(kv_cache: KVCache) -> None:
    """Have the system give every page of a cache in main memory now, so that what is reserved is
    there when it is needed, and counted as taken."""
    for tensor in (tensor for pair in kv_cache for tensor in pair):
        if tensor.device.type == "cpu":
            tensor.view(-1)[:: PAGE_BYTES // tensor.itemsize] = 0


class StepBatcher(Protocol):
    """Makes batches of steps, one after another; `kv_cache` is theirs, and its owner may change it
    between steps."""

    kv_cache: KVCache

    def build(self, step: Step) -> Batch:
        """The step's flat batch; sequence b of it is `step.works[b]`. Its tensors hold until the
        next call, and begin at the same addresses in every step."""

    def sampled(self, rows: Sequence[int], tokens: torch.Tensor) -> None:
        """What the step that was built last sampled, tokens [N] int64 on the device, for N rows of
        the block tables (`Work.row`): ids that are `UNKNOWN` in the next step. Rows may come in
        several calls; of those that never come, the next step's token is any."""


class Batcher:
    """The block tables of all rows, on the host, and the batches made from them, for a CPU.

    Args:
        max_blocks: the longest block table a row can have.
        max_batch_tokens: no step has more.
    """

    def __init__(
        self,
        kv_cache: KVCache,
        block_size: int,
        max_batch_size: int,
        max_blocks: int,
        max_batch_tokens: int,
    ) -> None:
        self.kv_cache = kv_cache
        self._block_size = block_size
        self._tables = np.zeros((max_batch_size, max_blocks), np.int32)
        self._lengths = [0] * max_batch_size
        self._input_ids = _Index(max_batch_tokens, np.int64)
        self._positions = _Index(max_batch_tokens, np.int64)
        self._slot_mapping = _Index(max_batch_tokens, np.int64)
        self._block_tables = _Index(max_batch_size * max_blocks, np.int32)
        self._cu_seqlens_q = _Index(max_batch_size + 1, np.int32)
        self._seq_lens = _Index(max_batch_size, np.int32)

    def sampled(self, rows: Sequence[int], tokens: torch.Tensor) -> None:
        """Nothing: the next step brings its ids."""

    def build(self, step: Step) -> Batch:
        works, count, total = step.works, len(step.works), step.num_tokens
        for work in works:
            self._extend(work)
        sizes = np.fromiter((len(work.tokens) for work in works), np.int64, count)
        starts = np.fromiter((work.start for work in works), np.int64, count)
        rows = np.fromiter((work.row for work in works), np.int64, count)
        seq_lens = starts + sizes
        longest, widest = int(seq_lens.max()), int(sizes.max())
        tokens = chain.from_iterable(work.tokens for work in works)
        self._input_ids.array[:total] = np.fromiter(tokens, np.int64, total)
        self._cu_seqlens_q.array[1 : count + 1] = ends = sizes.cumsum()
        self._seq_lens.array[:count] = seq_lens
        self._place(rows, starts, sizes, ends)
        width = -(-longest // self._block_size)
        table = self._block_tables.array[: count * width].reshape(count, width)
        table[:] = self._tables[rows, :width]
        slots = [work.slot for work in works]
        return Batch(
            input_ids=self._input_ids.first(total),
            positions=self._positions.first(total),
            slot_mapping=self._slot_mapping.first(total),
            block_tables=self._block_tables.first(count * width).view(count, width),
            cu_seqlens_q=self._cu_seqlens_q.first(count + 1),
            seq_lens=self._seq_lens.first(count),
            max_seqlen_q=widest,
            max_seqlen_k=longest,
            kv_cache=self.kv_cache,
            segments=segments(slots, sizes.tolist(), CPU) if max(slots) >= 0 else None,
        )

    def _place(
        self, rows: np.ndarray, starts: np.ndarray, sizes: np.ndarray, ends: np.ndarray
    ) -> None:
        """Each token's position, and the slot that its KV goes to."""
        total = int(ends[-1])
        positions = self._positions.array[:total]
        if total == len(rows):
            positions[:] = starts
        else:
            positions[:] = np.arange(total)
            positions += (starts - ends + sizes).repeat(sizes)
            rows = rows.repeat(sizes)
        block, offset = np.divmod(positions, self._block_size)
        places = self._slot_mapping.array[:total]
        places[:] = self._tables[rows, block]
        places *= self._block_size
        places += offset

    def _extend(self, work: Work) -> None:
        """Append the work's new blocks to its row's table."""
        begin = 0 if work.first else self._lengths[work.row]
        end = begin + len(work.new_blocks)
        if work.new_blocks:
            self._tables[work.row, begin:end] = work.new_blocks
        self._lengths[work.row] = end
        assert end * self._block_size >= work.start + len(work.tokens), "a token without a block"


class _Index:
    """Numbers on the host, filled as an array, handed out as a tensor."""

    def __init__(self, size: int, dtype: type[np.generic]) -> None:
        self.array = np.zeros(size, dtype)
        self._tensor = torch.from_numpy(self.array)

    def first(self, count: int) -> torch.Tensor:
        return self._tensor[:count]
