"""The gated activations on an MLP's width."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.nn import functional

from benchmarks.kernels.case import Case, Place, short
from inferd_kernels.activation import Kind, gated

TESTS = ("tests/kernels/test_pointwise.py",)
GPU_TESTS = ("tests/kernels/test_pointwise_gpu.py",)


def cases(place: Place) -> Iterator[Case]:
    for rows in place.rows:
        for dtype in place.dtypes:
            yield _case(place, rows, "silu", dtype)
    yield _case(place, place.rows[1], "gelu", place.dtypes[0])
    yield _case(place, place.rows[1], "gelu_tanh", place.dtypes[0])


def _case(place: Place, rows: int, kind: Kind, dtype: torch.dtype) -> Case:
    width = place.shape.mlp
    x = torch.randn(rows, 2 * width, device=place.device).to(dtype)

    def by_torch() -> torch.Tensor:
        gate, up = x.chunk(2, -1)
        if kind == "silu":
            return functional.silu(gate) * up
        return functional.gelu(gate, approximate="none" if kind == "gelu" else "tanh") * up

    name = f"{rows} x {width} {kind} {short(dtype)}"
    return Case(name, lambda: gated(x, kind), bytes=3 * x.nbytes // 2, torch=by_torch)
