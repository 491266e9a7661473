"""A step that the device has no memory for is run in parts, so that the engine lives."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple, TypeVar

import torch

from inferd.engines.native.model import Batch
from inferd_kernels.lora import LoraSegments, Segment

_log = logging.getLogger("inferd.engines.native")

Forward = Callable[[Batch], torch.Tensor]
"""As `Model.forward`."""

R = TypeVar("R")


class PartlyFailed(Exception):
    """Some sequences could not be computed, not even a token at a time.

    Args:
        hidden: [T, hidden], of the others; anything in the rows of those that failed.
        failed: what happened, by the sequence's number in the batch.
    """

    def __init__(self, hidden: torch.Tensor, failed: dict[int, torch.OutOfMemoryError]) -> None:
        super().__init__(f"{len(failed)} sequences do not fit on the device")
        self.hidden = hidden
        self.failed = failed


class Splitting:
    """A forward pass that makes do with the memory there is.

    A batch that does not fit is halved by sequences, as often as need be, and one sequence by its
    tokens. Parts write their keys and values in order, so the results are the whole batch's.

    Args:
        forward: tried first.
        part: runs what it could not; the parts' tensors lie anywhere.
    """

    def __init__(self, forward: Forward, part: Forward) -> None:
        self._forward = forward
        self._part = part

    def __call__(self, batch: Batch) -> torch.Tensor:
        """Raises torch.OutOfMemoryError if nothing of it fits, `PartlyFailed` if some does not."""
        try:
            return self._forward(batch)
        except torch.OutOfMemoryError as error:
            tokens, sequences = len(batch.input_ids), len(batch.seq_lens)
            _log.warning(
                "no memory for a step of %d tokens of %d sequences: run in parts (%s)",
                tokens,
                sequences,
                error,
            )
        # Here, not above: the exception holds what the pass had allocated.
        return _Parts(self._part, batch).run()


def with_room(call: Callable[[], R]) -> R:
    """What `call` returns; if the device has no memory for it, it is called once more with all that
    torch keeps for later given back."""
    try:
        return call()
    except torch.OutOfMemoryError:
        pass
    give_back()
    return call()


def give_back() -> None:
    """Return what torch keeps of a device's memory to the device."""
    torch.cuda.empty_cache()


class _Part(NamedTuple):
    """Sequences `begin` … `end` - 1, or some tokens of one; their rows."""

    begin: int
    end: int
    first: int
    last: int  # exclusive


class _Parts:
    """One batch on its way in parts."""

    def __init__(self, forward: Forward, batch: Batch) -> None:
        self._forward = forward
        self._batch = batch
        self._starts: list[int] = batch.cu_seqlens_q.tolist()
        self._lens: list[int] = batch.seq_lens.tolist()
        self._hidden: torch.Tensor | None = None
        self._failed: dict[int, torch.OutOfMemoryError] = {}

    def run(self) -> torch.Tensor:
        whole = _Part(0, len(self._lens), 0, self._starts[-1])
        left = list(reversed(_halves(whole, self._starts) or [whole]))
        while left:
            part = left.pop()
            if part.begin in self._failed:
                continue  # more of a sequence that is lost
            error = self._try(part)
            if error is None:
                continue
            halves = _halves(part, self._starts)
            if halves:
                left += reversed(halves)
            else:
                self._failed[part.begin] = error
        if self._hidden is None:
            raise next(iter(self._failed.values()))
        if self._failed:
            raise PartlyFailed(self._hidden, self._failed)
        return self._hidden

    def _try(self, part: _Part) -> torch.OutOfMemoryError | None:
        """Run it, or say what was in the way, of which nothing is kept."""
        give_back()
        try:
            hidden = self._forward(self._cut(part))
            if self._hidden is None:
                self._hidden = hidden.new_zeros(self._starts[-1], *hidden.shape[1:])
            self._hidden[part.first : part.last] = hidden
        except torch.OutOfMemoryError as error:
            return error.with_traceback(None)
        return None

    def _cut(self, part: _Part) -> Batch:
        """The part as a batch."""
        batch = self._batch
        begin, end, first, last = part
        rows, sequences = slice(first, last), slice(begin, end)
        starts = batch.cu_seqlens_q[begin : end + 1] - first
        lens, widest = batch.seq_lens[sequences], max(_sizes(self._starts)[sequences])
        longest = max(self._lens[sequences])
        if end - begin == 1:
            missing = self._starts[end] - last  # tokens of it that come later
            starts = starts.clamp(min=0, max=last - first)
            lens, longest, widest = lens - missing, longest - missing, last - first
        return replace(
            batch,
            input_ids=batch.input_ids[rows],
            positions=batch.positions[rows],
            slot_mapping=batch.slot_mapping[rows],
            block_tables=batch.block_tables[sequences],
            cu_seqlens_q=starts,
            seq_lens=lens,
            max_seqlen_q=widest,
            max_seqlen_k=longest,
            segments=_segments_of(batch.segments, first, last),
        )


def _sizes(starts: list[int]) -> list[int]:
    return [end - start for start, end in pairwise(starts)]


def _halves(part: _Part, starts: list[int]) -> list[_Part]:
    """Two parts, or none: it is one token."""
    begin, end, first, last = part
    if end - begin > 1:
        middle = (begin + end) // 2
        cut = starts[middle]
        return [_Part(begin, middle, first, cut), _Part(middle, end, cut, last)]
    if last - first > 1:
        cut = (first + last) // 2
        return [_Part(begin, end, first, cut), _Part(begin, end, cut, last)]
    return []


def _segments_of(segments: LoraSegments | None, first: int, last: int) -> LoraSegments | None:
    """Those of rows `first` … `last` - 1. Waits for the device."""
    if segments is None:
        return None
    each = []
    for segment in segments.each:
        rows = segment.rows
        if isinstance(rows, slice):
            begin, end = max(rows.start, first), min(rows.stop, last)
            if begin < end:
                each.append(Segment(segment.slot, slice(begin - first, end - first)))
        elif len(mine := rows[(rows >= first) & (rows < last)]):
            each.append(Segment(segment.slot, mine - first))
    slots = None if segments.row_slots is None else segments.row_slots[first:last]
    return LoraSegments(tuple(each), slots) or None
