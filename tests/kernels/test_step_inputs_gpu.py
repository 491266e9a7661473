"""`step_inputs` on hand-made steps, against plain Python: nothing beside is written or read; the
GPU's compiles well, once for all steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from random import Random

import pytest
import torch

from inferd_kernels.dispatch import only
from inferd_kernels.step_inputs import RECORD, StepInputs, step_inputs
from tests.kernels.compiled import CAPABILITIES, Compile
from tests.kernels.gpu_device import DEVICE

SIZE, MAX_BLOCKS, ROWS, TOKENS = 4, 9, 6, 60
POISON = -77


@pytest.fixture(params=["reference", "gpu"], autouse=True)
def implementation(request: pytest.FixtureRequest) -> Iterator[None]:
    with only(request.param):
        yield


@dataclass
class Part:
    """One sequence: a record, its ids and its new blocks."""

    row: int
    start: int
    ids: list[int]
    begin: int
    new: list[int]
    slot: int = -1


def packed(parts: list[Part], extra: int = 7) -> torch.Tensor:
    """Blocks in an order of their own, with poison before, between and after them."""
    ids = [token for part in parts for token in part.ids]
    records: list[int] = []
    blocks = [POISON]
    places: dict[int, int] = {}
    for b in reversed(range(len(parts))):
        places[b] = RECORD * len(parts) + len(ids) + len(blocks)
        blocks += [*parts[b].new, POISON]
    first = 0
    for b, part in enumerate(parts):
        size, count = len(part.ids), len(part.new)
        place = places[b] if count else 0
        records += [part.row, part.start, size, first, part.begin, count, place, part.slot]
        first += size
    words = [*records, *ids, *blocks, *[POISON] * extra]
    return torch.tensor(words, dtype=torch.int32, device=DEVICE)


def outputs() -> StepInputs:
    def full(*shape: int, dtype: torch.dtype = torch.int32) -> torch.Tensor:
        return torch.full(shape, POISON, dtype=dtype, device=DEVICE)

    return StepInputs(
        input_ids=full(TOKENS, dtype=torch.int64),
        positions=full(TOKENS, dtype=torch.int64),
        slot_mapping=full(TOKENS, dtype=torch.int64),
        row_slots=full(TOKENS),
        cu_seqlens_q=full(ROWS + 1),
        seq_lens=full(ROWS),
        block_tables=full(ROWS, MAX_BLOCKS),
    )


def expected(
    parts: list[Part], sampled: list[int], tables: list[list[int]], out: StepInputs
) -> dict[str, list[object]]:
    """What `out` holds afterwards; `tables` are changed in place."""
    held = {field.name: getattr(out, field.name).tolist() for field in fields(out)}
    held["cu_seqlens_q"][0] = row = 0
    for b, part in enumerate(parts):
        table = [*(tables[part.row][: part.begin] if part.row >= 0 else []), *part.new]
        if part.row >= 0:
            tables[part.row][: len(table)] = table
        for t, token in enumerate(part.ids):
            position = part.start + t
            held["input_ids"][row] = token if token >= 0 else max(0, sampled[-1 - token])
            held["positions"][row] = position
            held["slot_mapping"][row] = table[position // SIZE] * SIZE + position % SIZE
            held["row_slots"][row] = part.slot
            row += 1
        held["cu_seqlens_q"][b + 1] = row
        held["seq_lens"][b] = length = part.start + len(part.ids)
        used = -(-length // SIZE)
        held["block_tables"][b][:used] = table[:used]
    return held


def check(parts: list[Part], sampled: list[int], tables: list[list[int]]) -> None:
    out = outputs()
    on_device = torch.tensor(tables, dtype=torch.int32, device=DEVICE)
    want = expected(parts, sampled, tables, out)
    step_inputs(
        packed(parts),
        torch.tensor(sampled, device=DEVICE),
        on_device,
        out,
        num_sequences=len(parts),
        block_size=SIZE,
    )
    for field in fields(out):
        assert getattr(out, field.name).tolist() == want[field.name], field.name
    assert on_device.tolist() == tables


def tables() -> list[list[int]]:
    return [[100 * row + i for i in range(MAX_BLOCKS)] for row in range(ROWS)]


def test_decode_chunks_padding_and_ids_that_are_not_known_yet() -> None:
    scratch = [999]
    check(
        [
            Part(3, 11, [-2], 3, [], slot=1),
            Part(0, 8, [-1], 2, [41, 42]),  # more blocks than the step uses
            Part(5, 0, list(range(30, 50)), 0, [7, 6, 5, 4, 3], slot=0),
            Part(2, 6, [12, 13, 14], 2, [55]),  # begins and ends within a block
            Part(-1, 0, [0], 0, scratch),
            Part(-1, 0, [0], 0, scratch),
        ],
        [-5, 17],
        tables(),
    )


def test_a_row_that_was_another_s_and_a_table_that_is_full() -> None:
    full = SIZE * MAX_BLOCKS
    check(
        [
            Part(4, 0, [9], 0, [70, 71, 72]),
            Part(1, full - 1, [3], MAX_BLOCKS, []),
            Part(0, full - 5, [1, 2, 3, 4, 5], MAX_BLOCKS - 2, [80, 81]),
        ],
        [0],
        tables(),
    )


@pytest.mark.parametrize("seed", range(6))
def test_anything(seed: int) -> None:
    random = Random(seed)
    sampled = [random.randrange(-3, 1000) for _ in range(5)]
    parts = []
    for row in random.sample(range(ROWS), random.randrange(1, ROWS + 1)):
        start = random.randrange(SIZE * MAX_BLOCKS - 10)
        ids = [random.randrange(-5, 1000) for _ in range(random.randrange(1, 11))]
        needed = -(-(start + len(ids)) // SIZE)
        total = random.randrange(needed, MAX_BLOCKS + 1)
        begin = random.randrange(total + 1)
        new = [random.randrange(500) for _ in range(total - begin)]
        parts.append(Part(row, start, ids, begin, new, random.randrange(-1, 3)))
    check(parts, sampled, tables())


def test_a_long_prompt() -> None:
    """More tokens and blocks than a program takes at a time."""
    out = outputs()
    count, size = 2500, 1
    large = StepInputs(
        input_ids=torch.full((count,), POISON, dtype=torch.int64, device=DEVICE),
        positions=torch.full((count,), POISON, dtype=torch.int64, device=DEVICE),
        slot_mapping=torch.full((count,), POISON, dtype=torch.int64, device=DEVICE),
        row_slots=torch.full((count,), POISON, dtype=torch.int32, device=DEVICE),
        cu_seqlens_q=out.cu_seqlens_q,
        seq_lens=out.seq_lens,
        block_tables=torch.full((1, count), POISON, dtype=torch.int32, device=DEVICE),
    )
    table = torch.zeros(1, count, dtype=torch.int32, device=DEVICE)
    blocks = list(range(count, 0, -1))
    words = [0, 0, count, 0, 0, count, RECORD + count, 2, *range(count), *blocks]
    step_inputs(
        torch.tensor(words, dtype=torch.int32, device=DEVICE),
        torch.zeros(1, dtype=torch.int64, device=DEVICE),
        table,
        large,
        num_sequences=1,
        block_size=size,
    )
    assert large.input_ids.tolist() == large.positions.tolist() == list(range(count))
    assert large.slot_mapping.tolist() == blocks
    assert large.block_tables[0].tolist() == table[0].tolist() == blocks
    assert set(large.row_slots.tolist()) == {2}


def specimen(sequences: int, tokens: int) -> None:
    blocks = 131072 // 16
    longs = torch.empty(3, 16 * tokens, dtype=torch.int64)
    shorts = torch.empty(3, 16 * (sequences + tokens), dtype=torch.int32)
    out = StepInputs(
        input_ids=longs[0],
        positions=longs[1],
        slot_mapping=longs[2],
        row_slots=shorts[0],
        cu_seqlens_q=shorts[1],
        seq_lens=shorts[2],
        block_tables=torch.empty(256, blocks, dtype=torch.int32),
    )
    step_inputs(
        torch.empty(8 * sequences + tokens + 5, dtype=torch.int32),
        torch.empty(sequences, dtype=torch.int64),
        torch.empty(256, blocks, dtype=torch.int32),
        out,
        num_sequences=sequences,
        block_size=16,
    )


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_compiled(compiled: Compile, capability: int) -> None:
    (kernel,) = compiled(specimen, 64, 64, capability=capability)
    assert kernel.spills == kernel.stack == 0
    assert kernel.registers <= 64
    assert kernel.shared <= 16 << 10


def test_compiled_once_for_all_lengths(compiled: Compile) -> None:
    sizes = [(1, 1), (16, 16), (64, 8192), (2, 2048)]
    kernels = [compiled(specimen, *size) for size in sizes]
    assert all(found == kernels[0] for found in kernels)
