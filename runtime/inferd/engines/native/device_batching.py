"""From a scheduler's step to a flat batch that lives on the device; block tables live there too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch

from inferd.engines.native.batching import Batcher, KVCache, StepBatcher
from inferd.engines.native.model import Batch
from inferd.engines.native.staging import Staging
from inferd_kernels.lora import LoraSegments
from inferd_kernels.step_inputs import RECORD, StepInputs, step_inputs
from inferd_scheduler import Step

SCRATCH_BLOCKS = 1
"""Blocks at the end of a cache that the scheduler does not know of: what padding rows write goes
there."""

_Numbers = np.ndarray[Any, np.dtype[Any]]


def batcher_for(
    device: torch.device,
    kv_cache: KVCache,
    block_size: int,
    max_batch_size: int,
    max_blocks: int,
    max_batch_tokens: int,
) -> StepBatcher:
    """The host's on a CPU; elsewhere one whose cache ends with `SCRATCH_BLOCKS`."""
    kind = Batcher if device.type == "cpu" else DeviceBatcher
    return kind(kv_cache, block_size, max_batch_size, max_blocks, max_batch_tokens)


class DeviceBatcher:
    """The block tables of all rows and the last sampled ids, on the device that holds the cache.

    A step costs one copy from page-locked memory and one launch, and waits for neither.

    Args:
        kv_cache: its last `SCRATCH_BLOCKS` are for padding.
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
        self.device = kv_cache[0][0].device
        self.max_batch_size = max_batch_size
        self.padded: Callable[[int], int] = lambda count: count
        """With how many rows a step of so many, each of one token, lies in the static tensors."""
        self._block_size = block_size
        self._lengths = np.zeros(max_batch_size, np.int64)  # of block tables
        self._sources = np.full(max_batch_size, -1, np.int32)  # row → index into _sampled
        self._num_sampled = 0
        tokens = max(max_batch_tokens, max_batch_size)
        self._staging = Staging(RECORD * max_batch_size + 2 * tokens, self.device)

        def numbers(*shape: int, dtype: torch.dtype = torch.int32) -> torch.Tensor:
            return torch.zeros(shape, dtype=dtype, device=self.device)

        self._sampled = numbers(1, dtype=torch.int64)
        self._tables = numbers(max_batch_size, max_blocks)
        self._inputs = StepInputs(
            input_ids=numbers(tokens, dtype=torch.int64),
            positions=numbers(tokens, dtype=torch.int64),
            slot_mapping=numbers(tokens, dtype=torch.int64),
            row_slots=numbers(tokens),
            cu_seqlens_q=numbers(max_batch_size + 1),
            seq_lens=numbers(max_batch_size),
            block_tables=numbers(max_batch_size, max_blocks),
        )

    def sampled(self, rows: Sequence[int], tokens: torch.Tensor) -> None:
        assert len(rows) == len(tokens)
        if not len(rows):
            return
        self._sources[list(rows)] = range(self._num_sampled, self._num_sampled + len(rows))
        self._sampled = torch.cat((self._sampled, tokens)) if self._num_sampled else tokens
        self._num_sampled += len(rows)

    def build(self, step: Step) -> Batch:
        works = _Works(step)
        count = len(works.rows)
        self._pack(works, self.padded(count) - count if works.widest == 1 else 0)
        slots = self._inputs.row_slots[: works.total]
        segments = LoraSegments(row_slots=slots) if works.slots.max() >= 0 else None
        return self._batch(count, works.total, works.widest, works.longest, segments)

    def build_idle(self, count: int) -> None:
        """`count` padding rows as the step: whoever runs it changes no sequence's keys and
        values."""
        self._pack(_Works(None), count)

    def rows(self, count: int, max_seqlen_k: int, *, adapters: bool) -> Batch:
        """The static tensors' first `count` rows, each of one token, whatever is in them now or
        later."""
        slots = self._inputs.row_slots[:count]
        segments = LoraSegments(row_slots=slots, every=True) if adapters else None
        return self._batch(count, count, 1, max_seqlen_k, segments)

    def _pack(self, works: _Works, padding: int) -> None:
        """Describe a step to the device (see `step_inputs`), and have it expanded there."""
        count, total = len(works.rows), works.total
        begins = self._grow(works)
        records_end = RECORD * (count + padding)
        ids_end = records_end + total + padding
        host = self._staging.take(ids_end + len(works.new_blocks) + 1)
        records = host[:records_end].reshape(-1, RECORD)
        columns = records[:count].T
        columns[:4] = works.rows, works.starts, works.sizes, works.sizes.cumsum() - works.sizes
        columns[4:6] = begins, works.added
        columns[6] = works.added.cumsum() - works.added + ids_end
        columns[7] = works.slots
        host[records_end : records_end + total] = self._known(works)
        host[ids_end:-1] = works.new_blocks
        if padding:
            records[count:] = (-1, 0, 1, 0, 0, 1, len(host) - 1, -1)
            records[count:, 3] = range(total, total + padding)
            host[records_end + total : ids_end] = 0
        host[-1] = len(self.kv_cache[0][0]) - SCRATCH_BLOCKS
        step_inputs(
            self._staging.send(),
            self._sampled,
            self._tables,
            self._inputs,
            num_sequences=count + padding,
            block_size=self._block_size,
        )

    def _grow(self, works: _Works) -> _Numbers:
        """How long the rows' tables were before the new blocks."""
        begins = np.where(works.firsts, 0, self._lengths[works.rows])
        lengths = begins + works.added
        short = lengths * self._block_size < works.starts + works.sizes
        assert not short.any(), "a token without a block"
        self._lengths[works.rows] = lengths
        return begins

    def _known(self, works: _Works) -> _Numbers:
        """The step's ids; those that are not known yet as `step_inputs` has them."""
        ids = works.ids
        unknown = np.flatnonzero(ids < 0)
        if len(unknown):
            rows = works.rows if works.widest == 1 else works.rows.repeat(works.sizes)
            sources = self._sources[rows[unknown]]
            ids[unknown] = np.where(sources < 0, 0, -1 - sources)
        self._sources[:] = -1
        self._num_sampled = 0
        return ids

    def _batch(
        self, count: int, total: int, widest: int, longest: int, segments: LoraSegments | None
    ) -> Batch:
        inputs = self._inputs
        return Batch(
            input_ids=inputs.input_ids[:total],
            positions=inputs.positions[:total],
            slot_mapping=inputs.slot_mapping[:total],
            block_tables=inputs.block_tables[:count],
            cu_seqlens_q=inputs.cu_seqlens_q[: count + 1],
            seq_lens=inputs.seq_lens[:count],
            max_seqlen_q=widest,
            max_seqlen_k=longest,
            kv_cache=self.kv_cache,
            segments=segments,
        )


class _Works:
    """A step's works as columns; None: no work at all."""

    def __init__(self, step: Step | None) -> None:
        works = () if step is None else step.works
        count = len(works)
        columns = zip(*works, strict=True) if works else [()] * 8
        _, rows, starts, tokens, new_blocks, _, firsts, slots = columns
        self.total = 0 if step is None else step.num_tokens
        self.rows = np.array(rows, np.int64)
        self.starts = np.array(starts, np.int64)
        self.sizes = np.fromiter(map(len, tokens), np.int64, count)
        self.ids = np.fromiter(chain.from_iterable(tokens), np.int32, self.total)
        self.added = np.fromiter(map(len, new_blocks), np.int64, count)
        self.new_blocks = np.fromiter(
            chain.from_iterable(new_blocks), np.int32, int(self.added.sum())
        )
        self.firsts = np.array(firsts, bool)
        self.slots = np.array(slots, np.int64)
        self.widest = int(self.sizes.max()) if count else 1
        self.longest = int((self.starts + self.sizes).max()) if count else 1
