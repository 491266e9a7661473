"""rmsnorm and add_rmsnorm on hidden states, and on heads of a fused row."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.nn import functional

from benchmarks.kernels.case import Case, Place, short
from inferd_kernels.rmsnorm import add_rmsnorm, rmsnorm

TESTS = ("tests/kernels/test_pointwise.py",)
GPU_TESTS = ("tests/kernels/test_rmsnorm_gpu.py",)
EPS = 1e-6


def cases(place: Place) -> Iterator[Case]:
    for dtype in place.dtypes:
        for rows in place.rows:
            yield _plain(place, rows, dtype)
            yield _added(place, rows, dtype)
    yield _heads(place, place.rows[1], place.dtypes[0])


def _plain(place: Place, rows: int, dtype: torch.dtype) -> Case:
    width = place.shape.hidden
    x = torch.randn(rows, width, device=place.device).to(dtype)
    weight = torch.randn(width, device=place.device)
    narrow = weight.to(dtype)
    return Case(
        f"{rows} x {width} {short(dtype)}",
        lambda: rmsnorm(x, weight, EPS),
        bytes=2 * x.nbytes + weight.nbytes,
        operations=4 * x.numel(),
        torch=lambda: functional.rms_norm(x, (width,), narrow, EPS),
    )


def _added(place: Place, rows: int, dtype: torch.dtype) -> Case:
    width = place.shape.hidden
    x, residual = torch.randn(2, rows, width, device=place.device).to(dtype)
    weight = torch.randn(width, device=place.device)
    return Case(
        f"{rows} x {width} {short(dtype)}, added",
        lambda: add_rmsnorm(x, residual, weight, EPS, 1e-3),
        bytes=4 * x.nbytes + weight.nbytes,
        operations=6 * x.numel(),
    )


def _heads(place: Place, rows: int, dtype: torch.dtype) -> Case:
    heads, size = place.shape.heads, place.shape.head_dim
    fused = torch.randn(rows, 2 * heads, size, device=place.device).to(dtype)
    q, weight = fused[:, :heads], torch.randn(size, device=place.device)
    return Case(
        f"{rows} x {heads} heads of {size} {short(dtype)}",
        lambda: rmsnorm(q, weight, EPS),
        bytes=2 * q.numel() * q.element_size() + weight.nbytes,
        operations=4 * q.numel(),
    )
