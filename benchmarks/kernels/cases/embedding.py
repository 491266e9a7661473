"""embedding of Qwen3-0.6B's vocabulary, from the packed weight that its head shares."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch.nn import functional

from benchmarks.kernels.case import Case
from inferd_kernels.embedding import embedding
from inferd_kernels.linear import PackedWeight

TESTS = ("tests/kernels/test_embedding.py",)
VOCABULARY, WIDTH = 151_936, 1024


def cases() -> Iterator[Case]:
    table = torch.randn(VOCABULARY, WIDTH, dtype=torch.bfloat16)
    packed = PackedWeight.of(table)
    for rows in (1, 32, 512):
        yield from _cases(rows, table, packed)


def _cases(rows: int, table: torch.Tensor, packed: PackedWeight) -> Iterator[Case]:
    ids = torch.randint(VOCABULARY, (rows,), generator=torch.Generator().manual_seed(0))
    num_bytes = 2 * rows * WIDTH * table.element_size()
    for name, weight in (("packed", packed), ("table", table)):
        yield Case(
            f"{rows} of {VOCABULARY} x {WIDTH} {name}",
            partial(embedding, ids, weight),
            bytes=num_bytes,
            torch=partial(functional.embedding, ids, table),
            reference=False,
        )
