"""The messages to and from the engine: what to compute in one step, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

UNKNOWN = -1
"""In place of a token id: what the step before, which is in flight, samples for the same row."""


class Work(NamedTuple):
    """One sequence's part of a step. A tuple, since hundreds are made per step."""

    request_id: str
    row: int  # 0 <= row < max_batch_size; the sequence's own while it runs
    start: int  # position of tokens[0] in the sequence
    tokens: tuple[int, ...]  # ids at [start, start + len(tokens)); at least one; see `UNKNOWN`
    new_blocks: tuple[int, ...]  # appended to the row's block table; the whole table when `first`
    samples: bool  # whether one token is sampled after the last of `tokens`
    first: bool  # newly (re)admitted: the row's state of before is void
    slot: int = -1  # of its adapter; -1: the bare model


@dataclass(frozen=True, slots=True)
class Step:
    """One forward pass. KV positions below each work's `start` are already in its blocks."""

    number: int  # counts up from 1
    works: Sequence[Work]  # one per sequence, decodes first; never empty
    num_tokens: int  # sum of len(work.tokens), at most max_batch_tokens
    preempted: tuple[str, ...] = ()  # lost their rows and blocks just before this step
    slot_loads: tuple[tuple[int, str], ...] = ()  # (slot, adapter), to be done before the pass


@dataclass(frozen=True, slots=True)
class Result:
    """What an engine answers to a `Step`."""

    tokens: Sequence[int | None]  # aligned with `Step.works`; None where `samples` is False
    failed: Mapping[str, str] = field(default_factory=dict)  # request id → reason, for the client
