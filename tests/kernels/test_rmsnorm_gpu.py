"""The GPU's `rmsnorm` and `add_rmsnorm` do what the references do."""

from __future__ import annotations

import pytest
import torch

from inferd_kernels.rmsnorm import add_rmsnorm, reference, rmsnorm
from tests.kernels.compiled import CAPABILITIES, Compile
from tests.kernels.gpu_device import DTYPES

TOLERANCE = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "size"), [(1, 1), (3, 80), (2, 129)])
def test_norm_of_a_sum(
    gpu: torch.device, dtype: torch.dtype, rows: int, size: int, poisoned_memory: None
) -> None:
    torch.manual_seed(rows * size)
    x = torch.randn(rows, size).to(gpu, dtype)
    residual = torch.randn(rows, size).to(gpu, dtype)
    weight = torch.randn(size, device=gpu)
    expected_residual = residual.clone()
    expected = reference.add_rmsnorm(x, expected_residual, weight, 1e-5, 0.5)
    found = add_rmsnorm(x, residual, weight, 1e-5, 0.5)
    torch.testing.assert_close(found, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    torch.testing.assert_close(residual, expected_residual)


@pytest.mark.parametrize("dtype", DTYPES)
def test_heads_of_a_fused_projection(
    gpu: torch.device, dtype: torch.dtype, poisoned_memory: None
) -> None:
    torch.manual_seed(1)
    fused = torch.randn(5, 3 * 24).to(gpu, dtype)
    heads = fused[:, 24:].view(5, 2, 24)
    weight = torch.randn(24, device=gpu)
    found = rmsnorm(heads, weight, 1e-6)
    expected = reference.rmsnorm(heads, weight, 1e-6)
    torch.testing.assert_close(found, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def norms_8b(rows: int) -> None:
    x = torch.empty(rows, 4096, dtype=torch.bfloat16)
    add_rmsnorm(x, torch.empty_like(x), torch.empty(4096), 1e-5)


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_compiled(compiled: Compile, capability: int) -> None:
    (kernel,) = compiled(norms_8b, 64, capability=capability)
    assert kernel.spills == kernel.stack == 0
    assert kernel.registers <= 64
    assert kernel.widths("ld.global")[:2] == [16, 16]
