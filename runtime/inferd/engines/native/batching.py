"""From a scheduler's step to a model's flat batch; keeps the block table of every row."""

from __future__ import annotations

from itertools import chain

import numpy as np
import torch

from inferd.engines.native.model import Batch, KVSpec
from inferd_kernels import layout
from inferd_kernels.lora import segments
from inferd_scheduler import Step, Work

PAGE_BYTES = 4096  # the smallest in use; larger ones are touched more often

KVCache = tuple[tuple[torch.Tensor, torch.Tensor], ...]


def allocate_kv(
    specs: tuple[KVSpec, ...],
    num_blocks: int,
    block_size: int,
    dtype: torch.dtype,
    device: torch.device,
) -> KVCache:
    """Per layer (keys, values); the layout is that of `inferd_kernels.layout`."""
    return tuple(
        layout.allocate(
            num_blocks, block_size, spec.num_kv_heads, spec.head_dim, dtype=dtype, device=device
        )
        for spec in specs
    )


def touch(kv_cache: KVCache) -> None:
    """Have the system give every page of a cache in main memory now, so that what is reserved is
    there when it is needed, and counted as taken."""
    for tensor in (tensor for pair in kv_cache for tensor in pair):
        if tensor.device.type == "cpu":
            tensor.view(-1)[:: PAGE_BYTES // tensor.itemsize] = 0


class Batcher:
    """The block tables of all rows, on the host, and the batches made from them.

    Args:
        max_blocks: the longest block table a row can have.
    """

    def __init__(
        self, kv_cache: KVCache, block_size: int, max_batch_size: int, max_blocks: int
    ) -> None:
        self.kv_cache = kv_cache
        self._block_size = block_size
        self._tables = np.zeros((max_batch_size, max_blocks), np.int32)
        self._lengths = [0] * max_batch_size

    def build(self, step: Step, device: torch.device) -> Batch:
        """The step's flat batch; sequence b of it is `step.works[b]`."""
        works = step.works
        for work in works:
            self._extend(work)
        sizes = np.fromiter((len(work.tokens) for work in works), np.int64, len(works))
        starts = np.fromiter((work.start for work in works), np.int64, len(works))
        rows = np.fromiter((work.row for work in works), np.int64, len(works))
        ends = sizes.cumsum()
        positions = np.arange(step.num_tokens) + (starts - ends + sizes).repeat(sizes)
        block, offset = np.divmod(positions, self._block_size)
        places = (
            self._tables[rows.repeat(sizes), block].astype(np.int64) * self._block_size + offset
        )
        seq_lens = starts + sizes
        longest = int(seq_lens.max())
        tokens = chain.from_iterable(work.tokens for work in works)
        slots = [work.slot for work in works]

        def put(array: np.ndarray, dtype: type[np.generic]) -> torch.Tensor:
            return torch.from_numpy(array.astype(dtype, copy=False)).to(device)

        return Batch(
            input_ids=put(np.fromiter(tokens, np.int64, step.num_tokens), np.int64),
            positions=put(positions, np.int64),
            slot_mapping=put(places, np.int64),
            block_tables=put(self._tables[rows, : -(-longest // self._block_size)], np.int32),
            cu_seqlens_q=put(np.concatenate(([0], ends)), np.int32),
            seq_lens=put(seq_lens, np.int32),
            max_seqlen_q=int(sizes.max()),
            max_seqlen_k=longest,
            kv_cache=self.kv_cache,
            segments=segments(slots, sizes.tolist(), device) if max(slots) >= 0 else None,
        )

    def _extend(self, work: Work) -> None:
        """Append the work's new blocks to its row's table."""
        begin = 0 if work.first else self._lengths[work.row]
        end = begin + len(work.new_blocks)
        if work.new_blocks:
            self._tables[work.row, begin:end] = work.new_blocks
        self._lengths[work.row] = end
        assert end * self._block_size >= work.start + len(work.tokens), "a token without a block"
