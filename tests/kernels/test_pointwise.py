"""rmsnorm, rope, activation and kv_write against their formulas, element by element."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from inferd_kernels import layout
from inferd_kernels.activation import Kind, gated
from inferd_kernels.kv_write import kv_write
from inferd_kernels.rmsnorm import add_rmsnorm, rmsnorm
from inferd_kernels.rope import rope

pytestmark = pytest.mark.usefixtures("implementation")

DTYPES = {torch.float32: 2e-6, torch.bfloat16: 4e-2, torch.float16: 4e-3}
each_dtype = pytest.mark.parametrize(("dtype", "atol"), DTYPES.items(), ids=str)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def check(got: torch.Tensor, expected: torch.Tensor, atol: float) -> None:
    torch.testing.assert_close(got.double(), expected, atol=atol, rtol=0)


def naive_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    x = x.double()
    return x / ((x * x).mean(-1, keepdim=True) + eps).sqrt() * weight.double()


@each_dtype
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (2, 5, 12)])
def test_rmsnorm(
    shape: tuple[int, ...], dtype: torch.dtype, atol: float, generator: torch.Generator
) -> None:
    x = torch.randn(shape, generator=generator).to(dtype)
    weight = torch.randn(shape[-1], generator=generator)
    got = rmsnorm(x, weight, 0.01)
    assert got.dtype == dtype
    check(got, naive_norm(x, weight, 0.01), atol)


def test_rmsnorm_of_a_view(generator: torch.Generator) -> None:
    wide = torch.randn(4, 3, 10, generator=generator)
    x, weight = wide[..., 2:8], torch.randn(6, generator=generator)
    check(rmsnorm(x, weight, 1e-5), naive_norm(x, weight, 1e-5), 2e-6)


def test_rmsnorm_does_not_overflow_in_half() -> None:
    x = torch.full((1, 4), 60000.0, dtype=torch.float16)
    check(rmsnorm(x, torch.ones(4), 1e-6), torch.ones(1, 4, dtype=torch.float64), 1e-3)


@each_dtype
def test_add_rmsnorm(dtype: torch.dtype, atol: float, generator: torch.Generator) -> None:
    x = torch.randn(3, 9, generator=generator).to(dtype)
    residual = torch.randn(3, 9, generator=generator).to(dtype)
    weight = torch.randn(9, generator=generator)
    total = residual.double() + 0.25 * x.double()
    got = add_rmsnorm(x, residual, weight, 1e-6, 0.25)
    check(residual, total, atol)
    check(got, naive_norm(residual, weight, 1e-6), atol)


@each_dtype
@pytest.mark.parametrize("rotated", [8, 6, 2])
def test_rope(rotated: int, dtype: torch.dtype, atol: float, generator: torch.Generator) -> None:
    head_dim, half = 8, rotated // 2
    positions = torch.tensor([5, 0, 3, 3])
    angles = torch.rand(6, half, generator=generator) * 6
    fused = torch.randn(4, 5 * head_dim, generator=generator).to(dtype)
    q = fused[:, : 3 * head_dim].view(4, 3, head_dim)
    k = fused[:, 3 * head_dim :].view(4, 2, head_dim)
    expected = [x.double().clone() for x in (q, k)]
    for x in expected:
        for token, position in enumerate(positions.tolist()):
            for i in range(half):
                turn = complex(math.cos(angles[position, i]), math.sin(angles[position, i]))
                for head in range(x.shape[1]):
                    old = complex(x[token, head, i], x[token, head, i + half])
                    x[token, head, i] = (old * turn).real
                    x[token, head, i + half] = (old * turn).imag
    rope(q, k, positions, angles.cos(), angles.sin())
    check(q, expected[0], atol)
    check(k, expected[1], atol)


@each_dtype
@pytest.mark.parametrize("kind", ["silu", "gelu", "gelu_tanh"])
def test_gated(kind: Kind, dtype: torch.dtype, atol: float, generator: torch.Generator) -> None:
    x = (3 * torch.randn(3, 14, generator=generator)).to(dtype)
    got = gated(x, kind)
    assert got.shape == (3, 7)
    formulas: dict[str, Callable[[float], float]] = {
        "silu": lambda a: a / (1 + math.exp(-a)),
        "gelu": lambda a: a * 0.5 * (1 + math.erf(a / math.sqrt(2))),
        "gelu_tanh": lambda a: (
            a * 0.5 * (1 + math.tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * a**3)))
        ),
    }
    gate, up = x.double()[:, :7], x.double()[:, 7:]
    expected = torch.tensor([[formulas[kind](a) for a in row] for row in gate.tolist()]) * up
    check(got, expected, 10 * atol)


def test_kv_write_touches_its_slots_only(generator: torch.Generator) -> None:
    k_cache, v_cache = layout.allocate(3, 4, 2, 5, dtype=torch.float32, device=torch.device("cpu"))
    assert k_cache.shape == v_cache.shape == (3, 4, 2, 5)
    k_cache.fill_(torch.nan)
    v_cache.fill_(torch.nan)
    fused = torch.randn(3, 2, 2, 5, generator=generator)
    slots = torch.tensor([9, 0, 7])
    kv_write(fused[:, 0], fused[:, 1], k_cache, v_cache, slots)
    for token, (block, offset) in enumerate([(2, 1), (0, 0), (1, 3)]):
        assert torch.equal(k_cache[block, offset], fused[token, 0])
        assert torch.equal(v_cache[block, offset], fused[token, 1])
    assert int(k_cache.isfinite().sum()) == int(v_cache.isfinite().sum()) == 3 * 2 * 5


def test_slots() -> None:
    table = torch.tensor([7, 2, 5], dtype=torch.int32)
    positions = torch.tensor([0, 3, 4, 11])
    assert layout.slots(table, positions, 4).tolist() == [28, 31, 8, 23]
    both = layout.slots(torch.stack((table, table.flip(0))), torch.stack((positions, positions)), 4)
    assert both.tolist() == [[28, 31, 8, 23], [20, 23, 8, 31]]
    assert both.dtype == torch.int64
