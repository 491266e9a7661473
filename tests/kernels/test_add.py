"""`add` changes the stream as it says, whatever the type and however many the rows."""

from __future__ import annotations

import pytest
import torch

from inferd_kernels.add import add
from inferd_kernels.rmsnorm import add_rmsnorm

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 7, 16, 60, 257])
@pytest.mark.parametrize("alpha", [1.0, 0.25])
def test_the_sum_is_rounded_once(dtype: torch.dtype, width: int, alpha: float) -> None:
    x, residual = torch.randn(2, 19, width).to(dtype)
    wide = residual.double() + alpha * x.double()
    add(x, residual, alpha)
    error = (residual.double() - wide).abs()
    assert bool((error <= 0.51 * torch.finfo(dtype).eps * wide.abs() + 1e-7).all())


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("dtype", DTYPES)
def test_it_adds_as_the_norm_does(dtype: torch.dtype) -> None:
    x, one = torch.randn(2, 33, 60).to(dtype)
    other = one.clone()
    add(x, one, 0.3)
    add_rmsnorm(x, other, torch.ones(60), 1e-6, 0.3)
    assert torch.equal(one, other)


@pytest.mark.usefixtures("implementation")
def test_rows_apart_in_memory() -> None:
    x, residual = torch.randn(5, 40)[:, :24], torch.randn(5, 31)[:, 3:27]
    before = residual.clone()
    add(x, residual)
    assert torch.allclose(residual, before + x)
