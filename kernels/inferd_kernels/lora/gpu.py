"""`lora` and `lora_embedding` in Triton: two launches a module, behind one that orders the rows.

Grids and compiled code depend on the number of rows, the layer's shape, the number of slots and
`LoraModule.max_rank` alone, and compiled code not even on the first. There are two ways to cut the
work, for few rows and for many; `warm` runs both, so that no adapter and no step waits for a
compiler.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from inferd_kernels.lora import gpu_kernels as kernels
from inferd_kernels.lora.gpu_tables import Table, table_of
from inferd_kernels.lora.module import MAX_PARTS, LoraModule
from inferd_kernels.lora.segments import LoraSegments, grouped

PIECES = 8
"""That the input is cut into, at most, and each summed up by itself."""
PIECE_STEP = 128  # columns
MIN_PIECE = 256
EXPAND_RANKS = 16
TYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


@dataclass(frozen=True, slots=True)
class Shape:
    """How work is cut. None of these was measured on a GPU yet."""

    tile: int  # rows
    split: bool  # whether each piece of the input has a program of its own
    ranks: int  # of a program of `shrink` at a time
    block: int  # columns of the input at a time
    columns: int  # of a program of `expand`
    warps: int  # of a program of `shrink`
    stages: int
    expand_warps: int


FEW = Shape(16, True, 16, 128, 256, 2, 4, 4)
"""Decoding: few rows of each slot; factors are read once, by as many programs as can be."""
MANY = Shape(32, False, 64, 64, 128, 8, 3, 4)
"""Prefill: a slot's factors serve many rows."""
MANY_ROWS = 257
TURNS = 4  # programs that share a slot's ranks, at most
OVERLAP = False
"""Whether `expand` begins beside `shrink` and waits there for its results: programmatic dependent
launch, which GPUs have from Hopper on. Not measured; to be tried where adapters cost too much."""


@dataclass(frozen=True, slots=True)
class Order:
    """A step's rows, ordered by slot into tiles of one slot each."""

    num_slots: int
    count: int
    shape: Shape
    rows: torch.Tensor  # [tiles * tile] int32
    slots: torch.Tensor  # [tiles] int32


def lora(y: torch.Tensor, x: torch.Tensor, module: LoraModule, segments: LoraSegments) -> None:
    table = table_of(module, x.device)
    if not (len(x) and (table.used or segments.every)):
        return
    size = x.shape[1]
    assert table.kind in (None, (size, x.dtype)), "first factors of other inputs"
    assert x.stride(1) == 1 or size == 1
    order = order_of(segments, len(x), len(module.slots), x.device)
    shape = order.shape
    piece = max(MIN_PIECE, triton.cdiv(triton.cdiv(size, PIECES), PIECE_STEP) * PIECE_STEP)
    pieces = max(1, triton.cdiv(size, piece))
    stored = pieces if shape.split else 1
    low = _low(module, stored, len(x), x.device)
    ranks, block = (16, 32) if x.dtype == torch.float32 else (shape.ranks, shape.block)
    turns = min(TURNS, triton.cdiv(low.shape[2], ranks))
    kernels.shrink[(len(order.slots), turns, stored)](
        x,
        low,
        order.rows,
        order.slots,
        table.rows,
        table.rows.stride(0),
        x.stride(0),
        low.stride(1),
        low.stride(0),
        size,
        piece,
        pieces,
        pieces // stored,
        TILE=shape.tile,
        RANKS=ranks,
        BLOCK=block,
        PRECISION="ieee",
        OVERLAP=OVERLAP,
        num_warps=shape.warps,
        num_stages=shape.stages,
    )
    _expand(y, low, table, order, module, x.dtype)


def lora_embedding(
    y: torch.Tensor, ids: torch.Tensor, module: LoraModule, segments: LoraSegments
) -> None:
    table = table_of(module, ids.device)
    if not (len(ids) and (table.used or segments.every)):
        return
    dtype = table.kind[1] if table.kind is not None else table.b_dtype or y.dtype
    order = order_of(segments, len(ids), len(module.slots), ids.device)
    low = _low(module, 1, len(ids), ids.device)
    kernels.look_up[(len(order.slots),)](
        ids.contiguous(),
        low,
        order.rows,
        order.slots,
        table.rows,
        table.rows.stride(0),
        low.stride(1),
        TILE=order.shape.tile,
        RANKS=EXPAND_RANKS,
        DTYPE=TYPES[dtype],
    )
    _expand(y, low, table, order, module, dtype)


def _low(module: LoraModule, pieces: int, count: int, device: torch.device) -> torch.Tensor:
    ranks = MAX_PARTS * -(-module.max_rank // 16) * 16
    return torch.empty(pieces, count, ranks, dtype=torch.float32, device=device)


def _expand(
    y: torch.Tensor,
    low: torch.Tensor,
    table: Table,
    order: Order,
    module: LoraModule,
    dtype: torch.dtype,
) -> None:
    """`dtype`: of the second factors, where no slot has any yet."""
    assert table.rank <= module.max_rank
    assert y.shape[1] >= table.width
    assert y.stride(1) == 1 or y.shape[1] == 1
    shape = order.shape
    columns = triton.cdiv(y.shape[1], shape.columns) + MAX_PARTS
    kernels.expand[(len(order.slots), columns)](
        y,
        low,
        order.rows,
        order.slots,
        table.rows,
        table.rows.stride(0),
        y.stride(0),
        low.stride(1),
        low.stride(0),
        y.shape[1],
        len(low),
        TILE=shape.tile,
        PIECES=PIECES if shape.split else 1,
        RANKS=EXPAND_RANKS,
        COLUMNS=shape.columns,
        DTYPE=TYPES[table.b_dtype or dtype],
        OVERLAP=OVERLAP,
        num_warps=shape.expand_warps,
        num_stages=1,
        launch_pdl=OVERLAP,
    )


def order_of(segments: LoraSegments, count: int, num_slots: int, device: torch.device) -> Order:
    """The step's order, made by its first operation and shared by the others."""
    held = segments.prepared
    if isinstance(held, Order) and (held.num_slots, held.count) == (num_slots, count):
        return held
    row_slots = segments.row_slots
    if row_slots is None:
        row_slots = _row_slots(segments, count, device)
    assert len(row_slots) == count
    shape = FEW if count < MANY_ROWS else MANY
    tiles = min(count, count // shape.tile + num_slots)
    rows = torch.empty(tiles * shape.tile, dtype=torch.int32, device=device)
    slots = torch.empty(tiles, dtype=torch.int32, device=device)
    wide = triton.next_power_of_2(max(2, num_slots))
    kernels.order[(tiles,)](
        row_slots,
        rows,
        slots,
        count,
        num_slots,
        SLOTS=wide,
        TILE=shape.tile,
        BLOCK=max(64, min(1024, 8192 // wide)),
    )
    found = segments.prepared = Order(num_slots, count, shape, rows, slots)
    return found


def _row_slots(segments: LoraSegments, count: int, device: torch.device) -> torch.Tensor:
    """Of segments that say it by rows."""
    row_slots = torch.full((count,), -1, dtype=torch.int32, device=device)
    for segment in grouped(segments):
        row_slots[segment.rows] = segment.slot
    return row_slots


IMPLEMENTATIONS = {"lora": lora, "lora_embedding": lora_embedding}
