"""embedding of a vocabulary; on a CPU also from the packed weight that its head shares."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch.nn import functional

from benchmarks.kernels.case import ON_CPU, Case, Place
from inferd_kernels.embedding import embedding
from inferd_kernels.linear import PackedWeight

TESTS = ("tests/kernels/test_embedding.py",)
GPU_TESTS = ("tests/kernels/test_pointwise_gpu.py",)


def cases(place: Place) -> Iterator[Case]:
    size = place.shape.vocabulary, place.shape.hidden
    table = torch.randn(*size, dtype=place.dtypes[0], device=place.device)
    weights: dict[str, torch.Tensor | PackedWeight] = {"table": table}
    if place is ON_CPU:
        weights = {"packed": PackedWeight.of(table), **weights}
    for rows in place.rows:
        for name, weight in weights.items():
            yield _case(rows, name, table, weight)


def _case(rows: int, name: str, table: torch.Tensor, weight: torch.Tensor | PackedWeight) -> Case:
    vocabulary, width = table.shape
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(vocabulary, (rows,), generator=generator).to(table.device)
    return Case(
        f"{rows} of {vocabulary} x {width} {name}",
        partial(embedding, ids, weight),
        bytes=2 * rows * width * table.element_size(),
        torch=partial(functional.embedding, ids, table),
        reference=False,
    )
