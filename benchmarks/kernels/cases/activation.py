"""The gated activations on an MLP of Qwen3-0.6B's width."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.nn import functional

from benchmarks.kernels.case import Case
from inferd_kernels.activation import Kind, gated

TESTS = ("tests/kernels/test_pointwise.py",)
WIDTH = 3072


def cases() -> Iterator[Case]:
    for rows in (1, 32, 512):
        yield _case(rows, "silu", torch.bfloat16)
        yield _case(rows, "silu", torch.float32)
    yield _case(32, "gelu", torch.bfloat16)
    yield _case(32, "gelu_tanh", torch.bfloat16)


def _case(rows: int, kind: Kind, dtype: torch.dtype) -> Case:
    x = torch.randn(rows, 2 * WIDTH).to(dtype)

    def by_torch() -> torch.Tensor:
        gate, up = x.chunk(2, -1)
        if kind == "silu":
            return functional.silu(gate) * up
        return functional.gelu(gate, approximate="none" if kind == "gelu" else "tanh") * up

    name = f"{rows} x {WIDTH} {kind} {dtype}"
    return Case(name, lambda: gated(x, kind), bytes=3 * x.nbytes // 2, torch=by_torch)
