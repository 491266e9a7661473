"""Which rows of a step belong to which adapter slot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch


@dataclass(frozen=True, slots=True)
class Segment:
    """The rows of one slot: a slice where they lie side by side, else [N] int64 on the device."""

    slot: int
    rows: slice | torch.Tensor


@dataclass(slots=True)
class LoraSegments:
    """The slots that a step uses, each once and in ascending order. Falsy: no adapter at all.

    Said by `each` or by `row_slots`. `prepared` is what an implementation made of them, once per
    step: a step has segments of its own, even where it fills the same `row_slots` anew.
    """

    each: tuple[Segment, ...] = ()
    row_slots: torch.Tensor | None = None
    """[T] int32 on the device, each row's slot, -1: none. Kernels that read it are launched alike
    in every step, so that a graph of launches may hold them."""
    every: bool = field(default=False, kw_only=True)
    """Whether kernels are launched for layers, too, that no slot changes now: the launches go into
    a graph, which is to serve adapters that come later."""
    prepared: object = field(default=None, compare=False, repr=False)

    def __bool__(self) -> bool:
        return bool(self.each) or self.row_slots is not None


NO_SEGMENTS = LoraSegments()


def segments(slots: Sequence[int], lengths: Sequence[int], device: torch.device) -> LoraSegments:
    """Which of a flat batch's rows use which slot, once per step; on a GPU without waiting for it.

    Args:
        slots: each sequence's slot; -1: none.
        lengths: each sequence's rows (≥ 0), in the same order.
        device: where `lora` will run.
    """
    if device.type == "cuda":
        return _on_gpu(slots, lengths, device)
    spans: dict[int, list[tuple[int, int]]] = {}
    row = 0
    for slot, length in zip(slots, lengths, strict=True):
        if slot >= 0 and length:
            _extend(spans.setdefault(slot, []), row, row + length)
        row += length
    if not spans:
        return NO_SEGMENTS
    return LoraSegments(tuple(Segment(slot, _rows(spans[slot], device)) for slot in sorted(spans)))


def _on_gpu(slots: Sequence[int], lengths: Sequence[int], device: torch.device) -> LoraSegments:
    """Their `row_slots`, from page-locked memory."""
    rows = torch.from_numpy(np.repeat(np.asarray(slots, np.int32), lengths))
    if not (rows >= 0).any():
        return NO_SEGMENTS
    return LoraSegments(row_slots=rows.pin_memory().to(device, non_blocking=True))


def grouped(step: LoraSegments) -> tuple[Segment, ...]:
    """`each`, made from `row_slots` where there is nothing else; that waits for the device."""
    if step.each or step.row_slots is None:
        return step.each
    used = sorted(set(step.row_slots.tolist()) - {-1})
    return tuple(Segment(slot, (step.row_slots == slot).nonzero()[:, 0]) for slot in used)


def _extend(spans: list[tuple[int, int]], begin: int, end: int) -> None:
    if spans and spans[-1][1] == begin:
        begin = spans.pop()[0]
    spans.append((begin, end))


def _rows(spans: list[tuple[int, int]], device: torch.device) -> slice | torch.Tensor:
    if len(spans) == 1:
        return slice(*spans[0])
    return torch.tensor([row for span in spans for row in range(*span)], device=device)
