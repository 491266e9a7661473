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


@pytest.mark.parametrize("shape", [(5, 3, 128), (2, 3, 2, 6), (7,)])
def test_rows_that_share_a_program(
    gpu: torch.device, shape: tuple[int, ...], poisoned_memory: None
) -> None:
    """Not as many as it has room for, with NaN around them."""
    torch.manual_seed(2)
    wide = torch.full((*shape[:-1], shape[-1] + 2), torch.nan, device=gpu)
    x = wide[..., 1:-1]
    x.copy_(torch.randn(shape))
    weight = torch.randn(shape[-1], device=gpu)
    expected = reference.rmsnorm(x, weight, 1e-6)
    torch.testing.assert_close(rmsnorm(x, weight, 1e-6), expected, rtol=1e-6, atol=1e-6)


def test_rows_at_a_distance(gpu: torch.device, poisoned_memory: None) -> None:
    torch.manual_seed(3)
    x, residual = torch.randn(2, 3, 40, device=gpu)
    weight, before = torch.randn(16, device=gpu), residual.clone()
    expected_residual = residual.clone()
    expected = reference.add_rmsnorm(x[:, 4:20], expected_residual[:, 8:24], weight, 1e-6, 1.0)
    found = add_rmsnorm(x[:, 4:20], residual[:, 8:24], weight, 1e-6)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(residual, expected_residual)
    assert torch.equal(residual[:, :8], before[:, :8])


def test_no_rows(gpu: torch.device) -> None:
    assert rmsnorm(torch.empty(0, 3, 8, device=gpu), torch.ones(8), 1e-6).shape == (0, 3, 8)


def specimen(rows: int, hidden: int) -> None:
    x, weight = torch.empty(rows, hidden, dtype=torch.bfloat16), torch.empty(hidden)
    add_rmsnorm(x, torch.empty_like(x), weight, 1e-5)
    rmsnorm(x, weight, 1e-5)
    heads = torch.empty(rows, 32, 128, dtype=torch.bfloat16)
    rmsnorm(heads[:, :16], torch.empty(128), 1e-5)


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("hidden", [4096, 1024])
def test_compiled(compiled: Compile, hidden: int, capability: int) -> None:
    kernels = compiled(specimen, 64, hidden, capability=capability)
    assert len(kernels) == 3
    for kernel in kernels:
        assert kernel.spills == kernel.stack == 0
        assert kernel.registers <= 64
        assert set(kernel.widths("ld.global")) == set(kernel.widths("st.global")) == {16}


def test_compiled_once_for_all_lengths(compiled: Compile) -> None:
    kernels = {rows: compiled(specimen, rows, 4096) for rows in (1, 2, 16, 100, 8192)}
    assert all(found == kernels[1] for found in kernels.values())
