"""rmsnorm and add_rmsnorm on hidden states of Qwen3-0.6B's width, and on heads of a fused row."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.nn import functional

from benchmarks.kernels.case import Case
from inferd_kernels.rmsnorm import add_rmsnorm, rmsnorm

TESTS = ("tests/kernels/test_pointwise.py",)
WIDTH, EPS = 1024, 1e-6


def cases() -> Iterator[Case]:
    for dtype in (torch.bfloat16, torch.float32):
        for rows in (1, 32, 512):
            yield _plain(rows, dtype)
            yield _added(rows, dtype)
    yield _heads(32, torch.bfloat16)


def _plain(rows: int, dtype: torch.dtype) -> Case:
    x, weight = torch.randn(rows, WIDTH).to(dtype), torch.randn(WIDTH)
    narrow = weight.to(dtype)
    return Case(
        f"{rows} x {WIDTH} {dtype}",
        lambda: rmsnorm(x, weight, EPS),
        bytes=2 * x.nbytes + weight.nbytes,
        operations=4 * x.numel(),
        torch=lambda: functional.rms_norm(x, (WIDTH,), narrow, EPS),
    )


def _added(rows: int, dtype: torch.dtype) -> Case:
    x, residual = torch.randn(2, rows, WIDTH).to(dtype)
    weight = torch.randn(WIDTH)
    return Case(
        f"{rows} x {WIDTH} {dtype}, added",
        lambda: add_rmsnorm(x, residual, weight, EPS, 1e-3),
        bytes=4 * x.nbytes + weight.nbytes,
        operations=6 * x.numel(),
    )


def _heads(rows: int, dtype: torch.dtype) -> Case:
    fused = torch.randn(rows, 32, 128).to(dtype)
    q, weight = fused[:, :16], torch.randn(128)
    return Case(
        f"{rows} x 16 heads of 128 {dtype}",
        lambda: rmsnorm(q, weight, EPS),
        bytes=2 * q.numel() * q.element_size() + weight.nbytes,
        operations=4 * q.numel(),
    )
