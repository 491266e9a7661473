"""What the GPU's kernels read of a module's slots: a row of numbers each, where it stays for ever.

A graph of launches holds a table's address; what the slots hold changes behind it, by copies that
go into the stream between the steps. Whoever changes slots, allocates factors and launches steps
does so on one stream, and that orders everything: a step that is in flight reads the row that its
launch found, and the allocator gives the memory of factors that were let go of to work behind that
step only. So nothing is kept longer than its slot holds it, and nobody waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from inferd_kernels.lora.module import MAX_PARTS, LoraModule, LoraPart, LoraWeights

A, RANK, INPUTS, HEADER = 0, 1, 2, 3
"""Of a slot: a's address, its rows and columns. Behind them come the parts. Zeros: there is no such
part, or nothing at all."""
B, BEGIN, SPAN, OFFSET, WIDTH, B_RANK, FIELDS = 0, 1, 2, 3, 4, 5, 6
"""Of a part: b's address; where b's rows begin in y's columns, and how wide they are, in ALIGN
columns; the part's own columns, which lie within those; its rank."""
NUMBERS = -(-(HEADER + MAX_PARTS * FIELDS) // 2) * 2
"""Even, so that every module's table lies at a multiple of 16 bytes, which kernels are compiled
for."""

NOTHING = (0,) * NUMBERS

ALIGN = 16
"""Columns: b's rows begin and end at multiples of it. Kernels then read 16 bytes at a time."""


class Table:
    """One module's slots.

    Args:
        rows: [slots, NUMBERS] int64 on the device, zeros; rows may lie apart.
        dtype: that all factors have and will have; None: what they have, and kernels of their own
            where that changes.

    Attributes:
        weights: what the slots hold, as the table says.
        used: how many of them change the layer.
        kind: inputs and dtype of all first factors that came so far; None: none did.
        b_dtype: of all second factors, as kernels find them.
        width: of outputs that all that came so far fit into.
        rank: the largest part's so far.
    """

    def __init__(self, rows: torch.Tensor, dtype: torch.dtype | None = None) -> None:
        self.rows = rows
        self.weights: list[LoraWeights | None] = [None] * len(rows)
        self.used = 0
        self.kind: tuple[int, torch.dtype] | None = None
        self.b_dtype = dtype
        self.width = self.rank = 0
        self._fixed = dtype is not None
        self._copies: list[Sequence[torch.Tensor]] = [()] * len(rows)

    def take(self, slot: int, weights: LoraWeights | None) -> Sequence[int]:
        """Hold these; returns the row that says so, which is to be written."""
        self.used += (weights is not None) - (self.weights[slot] is not None)
        self.weights[slot] = weights
        self._copies[slot] = ()
        if weights is None or not weights.parts:
            return NOTHING
        kind = weights.a.shape[1], weights.a.dtype
        assert self.kind in (None, kind), "first factors of other inputs"
        self.kind = kind
        for part in weights.parts:
            width, rank = part.b.shape
            self.width = max(self.width, part.offset + width)
            self.rank = max(self.rank, rank)
            if self.b_dtype not in (None, part.b.dtype):
                assert not self._fixed, "second factors of another dtype"
                self.b_dtype = torch.float32
            self.b_dtype = self.b_dtype or part.b.dtype
        assert self.b_dtype is not None
        numbers, self._copies[slot] = _row(weights, self.b_dtype)
        return numbers

    def update(self, slots: Sequence[LoraWeights | None]) -> None:
        """Have the next launch see these."""
        before = self.b_dtype
        changed = [i for i, one in enumerate(slots) if one is not self.weights[i]]
        for slot in changed:
            put(self.rows[slot], self.take(slot, slots[slot]))
        if self.b_dtype != before:  # the others' factors, too, are to have it
            for slot, weights in enumerate(slots):
                put(self.rows[slot], self.take(slot, weights))


class Tables:
    """All modules' slots, of factors of one dtype. What one slot holds in all of them is written by
    one copy."""

    def __init__(
        self,
        modules: Iterable[LoraModule],
        num_slots: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._modules = tuple(modules)
        shape = num_slots, len(self._modules), NUMBERS
        self._rows = torch.zeros(shape, dtype=torch.int64, device=device)
        self._tables = [Table(self._rows[:, i], dtype) for i in range(len(self._modules))]
        for module, table in zip(self._modules, self._tables, strict=True):
            module.prepared = table

    def write(self, slot: int) -> None:
        """Have the next launch see what the modules hold in a slot now."""
        pairs = zip(self._modules, self._tables, strict=True)
        numbers = [table.take(slot, module.slots[slot]) for module, table in pairs]
        put(self._rows[slot], numbers)


def table_of(module: LoraModule, device: torch.device) -> Table:
    """The module's table, as its slots are now."""
    table = module.prepared
    if not isinstance(table, Table) or len(table.weights) != len(module.slots):
        rows = torch.zeros(len(module.slots), NUMBERS, dtype=torch.int64, device=device)
        table = module.prepared = Table(rows)
    if table.weights != module.slots:
        table.update(module.slots)
    return table


def put(place: torch.Tensor, numbers: Sequence[object]) -> None:
    """Write them behind all that was launched. The page-locked memory that they leave from is the
    allocator's, which uses it again when the copy is done."""
    host = torch.tensor(numbers, dtype=torch.int64)
    place.copy_(host.pin_memory() if place.is_cuda else host, non_blocking=True)


def _row(weights: LoraWeights, b_dtype: torch.dtype) -> tuple[list[int], Sequence[torch.Tensor]]:
    """And the copies that it points to, beside the weights."""
    a = weights.a if _aligned(weights.a) else weights.a.clone()
    assert a.is_contiguous()
    assert len(weights.parts) <= MAX_PARTS
    numbers, copies = [a.data_ptr(), *a.shape], [a]
    for part in weights.parts:
        begin, rows = _rows(part, b_dtype)
        copies.append(rows)
        numbers += [rows.data_ptr(), begin // ALIGN, rows.shape[1] // ALIGN]
        numbers += [part.offset, *part.b.shape]
    return numbers + [0] * (NUMBERS - len(numbers)), copies


def _rows(part: LoraPart, dtype: torch.dtype) -> tuple[int, torch.Tensor]:
    """A column of y, and b's transpose from there on, widened by zeros so that rows begin and end
    at multiples of ALIGN; b's own memory where it lies so already, as real models' does."""
    width, rank = part.b.shape
    begin = part.offset // ALIGN * ALIGN
    span = -(-(part.offset + width) // ALIGN) * ALIGN - begin
    rows = part.b.t().to(dtype)
    if span == width and rows.is_contiguous() and _aligned(rows):
        return begin, rows
    wide = rows.new_zeros(rank, span)
    wide[:, part.offset - begin : part.offset - begin + width] = rows
    return begin, wide


def _aligned(tensor: torch.Tensor) -> bool:
    return tensor.data_ptr() % 16 == 0
