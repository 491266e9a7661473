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

A, RANK, KIND, INPUTS, HEADER = 0, 1, 2, 3, 4
"""Of a slot: a's address, its rows, dtype and columns. Behind them come the parts. Zeros: there is
no such part, or nothing at all."""
B, BEGIN, SPAN, B_KIND, OFFSET, WIDTH, B_RANK, FIELDS = 0, 1, 2, 3, 4, 5, 6, 7
"""Of a part: b's address; the first column of y that b's rows reach, and how many; b's dtype; the
part's own columns, which lie within those; its rank."""
NUMBERS = HEADER + MAX_PARTS * FIELDS
KINDS = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}

ALIGN = 16
"""Columns: where b's rows begin and end in y. Kernels then read 16 bytes at a time."""


class Table:
    """One module's slots.

    Args:
        rows: [slots, NUMBERS] int64 on the device, zeros; rows may lie apart.

    Attributes:
        weights: what the slots hold, as the table says.
        kinds: inputs and dtypes of the first factors.
        width: of outputs that they all fit into.
        rank: the largest of any part.
    """

    def __init__(self, rows: torch.Tensor) -> None:
        self.rows = rows
        self.weights: list[LoraWeights | None] = [None] * len(rows)
        self.kinds: set[tuple[int, torch.dtype]] = set()
        self.width = self.rank = 0
        self._copies: list[Sequence[torch.Tensor]] = [()] * len(rows)

    @property
    def used(self) -> bool:
        """Whether any slot changes the layer."""
        return bool(self.kinds)

    def take(self, slot: int, weights: LoraWeights | None) -> list[int]:
        """Hold these; returns the row that says so, which is to be written."""
        self.weights[slot] = weights
        numbers, self._copies[slot] = ([0] * NUMBERS, ()) if weights is None else _row(weights)
        held = [one for one in self.weights if one is not None]
        parts = [part for one in held for part in one.parts]
        self.kinds = {(one.a.shape[1], one.a.dtype) for one in held}
        self.width = max((part.offset + len(part.b) for part in parts), default=0)
        self.rank = max((part.b.shape[1] for part in parts), default=0)
        return numbers


class Tables:
    """All modules' slots. What one slot holds in all of them is written by one copy."""

    def __init__(self, modules: Iterable[LoraModule], num_slots: int, device: torch.device) -> None:
        self._modules = tuple(modules)
        shape = num_slots, len(self._modules), NUMBERS
        self._rows = torch.zeros(shape, dtype=torch.int64, device=device)
        self._tables = [Table(self._rows[:, i]) for i in range(len(self._modules))]
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
        for slot, weights in enumerate(module.slots):
            if weights is not table.weights[slot]:
                put(table.rows[slot], table.take(slot, weights))
    return table


def put(place: torch.Tensor, numbers: Sequence[object]) -> None:
    """Write them behind all that was launched. The page-locked memory that they leave from is the
    allocator's, which uses it again when the copy is done."""
    host = torch.tensor(numbers, dtype=torch.int64)
    place.copy_(host.pin_memory() if place.is_cuda else host, non_blocking=True)


def _row(weights: LoraWeights) -> tuple[list[int], Sequence[torch.Tensor]]:
    """And the copies that it points to, beside the weights."""
    a = weights.a if _aligned(weights.a) else weights.a.clone()
    assert a.is_contiguous()
    assert len(weights.parts) <= MAX_PARTS
    numbers, copies = [a.data_ptr(), len(a), KINDS[a.dtype], a.shape[1]], [a]
    for part in weights.parts:
        begin, rows = _rows(part)
        copies.append(rows)
        width, rank = part.b.shape
        numbers += [rows.data_ptr(), begin, rows.shape[1], KINDS[rows.dtype]]
        numbers += [part.offset, width, rank]
    return numbers + [0] * (NUMBERS - len(numbers)), copies


def _rows(part: LoraPart) -> tuple[int, torch.Tensor]:
    """A column of y, and b's transpose from there on, widened by zeros so that rows begin and end
    at multiples of ALIGN; b's own memory where it lies so already, as real models' does."""
    width, rank = part.b.shape
    begin = part.offset // ALIGN * ALIGN
    span = -(-(part.offset + width) // ALIGN) * ALIGN - begin
    rows = part.b.t()
    if span == width and rows.is_contiguous() and _aligned(rows):
        return begin, rows
    wide = rows.new_zeros(rank, span)
    wide[:, part.offset - begin : part.offset - begin + width] = rows
    return begin, wide


def _aligned(tensor: torch.Tensor) -> bool:
    return tensor.data_ptr() % 16 == 0
