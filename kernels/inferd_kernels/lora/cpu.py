"""`lora` and `lora_embedding` in C++.

What C reads of a module's slots and of a step's segments is made once and kept with them; slots
that changed are noticed by the next call.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
import torch

from inferd_kernels.cpu.library import DTYPES, Args, operation
from inferd_kernels.lora.module import LoraModule, LoraWeights
from inferd_kernels.lora.segments import LoraSegments, Segment, grouped


class LoraPartArgs(ctypes.Structure):
    """See cpu.h: LoraPart."""

    _fields_ = (
        ("b", ctypes.c_void_p),
        ("offset", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("rank", ctypes.c_int64),
        ("dtype", ctypes.c_int32),
    )


class LoraSlot(ctypes.Structure):
    """See cpu.h."""

    _fields_ = (
        ("a", ctypes.c_void_p),
        ("parts", ctypes.POINTER(LoraPartArgs)),
        ("num_parts", ctypes.c_int64),
        ("rank", ctypes.c_int64),
    )


class LoraBatch(ctypes.Structure):
    """See cpu.h."""

    _fields_ = (
        ("rows", ctypes.c_void_p),
        ("starts", ctypes.c_void_p),
        ("slots", ctypes.c_void_p),
        ("num_segments", ctypes.c_int64),
    )


class LoraArgs(Args):
    """See cpu.h."""

    _fields_ = (
        ("y", ctypes.c_void_p),
        ("x", ctypes.c_void_p),
        ("ids", ctypes.c_void_p),
        ("batch", ctypes.POINTER(LoraBatch)),
        ("slots", ctypes.POINTER(LoraSlot)),
        ("in_", ctypes.c_int64),
        ("out", ctypes.c_int64),
        ("x_stride", ctypes.c_int64),
        ("y_stride", ctypes.c_int64),
        ("x_dtype", ctypes.c_int32),
        ("y_dtype", ctypes.c_int32),
    )


class Slots:
    """A module's slots as C reads them, in an array that stays where it is.

    Attributes:
        weights: what the slots hold.
        array: the same for C.
        args: a call's arguments, but for what the call sets.
        kinds: inputs and dtypes of the first factors.
        width: of outputs that they all fit into.
    """

    def __init__(self, count: int) -> None:
        self.weights: list[LoraWeights | None] = [None] * count
        self.array = (LoraSlot * count)()
        self.args = LoraArgs(slots=self.array)
        self.kinds: set[tuple[int, torch.dtype]] = set()
        self.width = 0
        self._keep: list[object] = [None] * count  # what the array's entries point into

    def update(self, weights: Sequence[LoraWeights | None]) -> None:
        """Take over what changed."""
        for i, one in enumerate(weights):
            if one is not self.weights[i]:
                self.weights[i] = one
                self.array[i], self._keep[i] = (LoraSlot(), None) if one is None else _slot(one)
        held = [one for one in weights if one is not None]
        self.kinds = {(one.a.shape[1], one.a.dtype) for one in held}
        self.width = max(
            (part.offset + len(part.b) for one in held for part in one.parts), default=0
        )


def _slot(weights: LoraWeights) -> tuple[LoraSlot, object]:
    """And what it points into."""
    assert weights.a.is_contiguous()
    transposed = [part.b.t().contiguous() for part in weights.parts]
    parts = (LoraPartArgs * len(transposed))(
        *(
            LoraPartArgs(
                b=b.data_ptr(),
                offset=part.offset,
                width=b.shape[1],
                rank=b.shape[0],
                dtype=DTYPES[b.dtype],
            )
            for part, b in zip(weights.parts, transposed, strict=True)
        )
    )
    slot = LoraSlot(weights.a.data_ptr(), parts, len(parts), len(weights.a))
    return slot, (parts, transposed)


class Batch:
    """A step's segments as C reads them.

    Attributes:
        num_slots: so many slots there are, or more.
    """

    def __init__(self, segments: Sequence[Segment]) -> None:
        rows = [_rows(segment) for segment in segments]
        self._rows = np.concatenate([np.empty(0, np.int32), *rows]).astype(np.int32)
        self._starts = np.cumsum([0, *map(len, rows)], dtype=np.int32)
        self._slots = np.fromiter((segment.slot for segment in segments), np.int32, len(segments))
        self.num_slots = max((segment.slot for segment in segments), default=-1) + 1
        self.args = LoraBatch(
            rows=self._rows.ctypes.data,
            starts=self._starts.ctypes.data,
            slots=self._slots.ctypes.data,
            num_segments=len(segments),
        )
        self.pointer = ctypes.pointer(self.args)


def _rows(segment: Segment) -> np.ndarray:
    if isinstance(segment.rows, slice):
        return np.arange(segment.rows.start, segment.rows.stop)
    rows: np.ndarray = segment.rows.numpy()
    return rows


_run = operation("lora", LoraArgs)


def lora(y: torch.Tensor, x: torch.Tensor, module: LoraModule, segments: LoraSegments) -> None:
    slots = slots_of(module)
    assert slots.kinds <= {(x.shape[1], x.dtype)}, "first factors of other inputs"
    assert x.stride(1) == 1 or x.shape[1] == 1
    args = slots.args
    args.x = x.data_ptr()
    args.ids = None
    args.in_ = x.shape[1]
    args.x_stride = x.stride(0)
    args.x_dtype = DTYPES[x.dtype]
    _add(y, segments, slots)


def lora_embedding(
    y: torch.Tensor, ids: torch.Tensor, module: LoraModule, segments: LoraSegments
) -> None:
    slots = slots_of(module)
    if not slots.kinds:
        return
    ((vocab, dtype),) = slots.kinds
    ids = ids.long().contiguous()
    args = slots.args
    args.ids = ids.data_ptr()
    args.in_ = vocab
    args.x_dtype = DTYPES[dtype]
    _add(y, segments, slots)


def _add(y: torch.Tensor, segments: LoraSegments, slots: Slots) -> None:
    batch, args = batch_of(segments), slots.args
    assert batch.num_slots <= len(slots.weights), "a segment of a slot that there is not"
    assert y.shape[1] >= slots.width
    assert y.stride(1) == 1 or y.shape[1] == 1
    args.y = y.data_ptr()
    args.batch = batch.pointer
    args.out = y.shape[1]
    args.y_stride = y.stride(0)
    args.y_dtype = DTYPES[y.dtype]
    assert _run is not None
    _run(args, len(y))


def slots_of(module: LoraModule) -> Slots:
    """The module's slots for C, as they are now."""
    held = module.prepared
    if not isinstance(held, Slots) or len(held.weights) != len(module.slots):
        held = module.prepared = Slots(len(module.slots))
    if held.weights != module.slots:
        held.update(module.slots)
    return held


def batch_of(segments: LoraSegments) -> Batch:
    """The segments for C."""
    if not isinstance(segments.prepared, Batch):
        segments.prepared = Batch(grouped(segments))
    return segments.prepared


IMPLEMENTATIONS = {"lora": lora, "lora_embedding": lora_embedding} if _run is not None else {}
