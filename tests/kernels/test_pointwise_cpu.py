"""What the C++ pointwise kernels promise beyond their formulas: rows alone, views, odd widths."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from inferd_kernels import layout
from inferd_kernels.activation import Kind, gated
from inferd_kernels.activation.reference import gated as gated_reference
from inferd_kernels.dispatch import only
from inferd_kernels.elementwise import add, scale
from inferd_kernels.kv_write import kv_write
from inferd_kernels.rmsnorm import add_rmsnorm, rmsnorm
from inferd_kernels.rope import rope, rope_kv_write

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
ROWS = 9
WIDTHS = (1, 15, 16, 17, 64, 70, 1100)

each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
each_width = pytest.mark.parametrize("width", WIDTHS)


@pytest.fixture(autouse=True)
def cpu() -> Iterator[None]:
    with only("cpu"):
        yield


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def added(x: torch.Tensor) -> torch.Tensor:
    residual = x.flip(-1).clone()
    out = add_rmsnorm(x, residual, torch.linspace(-2, 2, x.shape[1]), 1e-6, 0.5)
    return torch.cat((out, residual), dim=1)


def summed(x: torch.Tensor) -> torch.Tensor:
    out = x.flip(-1).clone()
    add(out, x, 0.3)
    return out


def scaled(x: torch.Tensor) -> torch.Tensor:
    out = x.clone()
    scale(out, 1.7)
    return out


ROWWISE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "rmsnorm": lambda x: rmsnorm(x, torch.linspace(-2, 2, x.shape[1]), 1e-6),
    "add_rmsnorm": added,
    "add": summed,
    "scale": scaled,
    "silu": lambda x: gated(torch.cat((x, x.flip(-1)), dim=1), "silu"),
    "gelu": lambda x: gated(torch.cat((x, x.flip(-1)), dim=1), "gelu"),
    "gelu_tanh": lambda x: gated(torch.cat((x, x.flip(-1)), dim=1), "gelu_tanh"),
}


@pytest.mark.usefixtures("threads", "poisoned_memory")
@pytest.mark.parametrize("name", ROWWISE)
@each_dtype
@each_width
def test_a_row_is_the_same_alone_and_as_the_reference_has_it(
    name: str, dtype: torch.dtype, width: int, generator: torch.Generator
) -> None:
    x = (2 * torch.randn(ROWS, width, generator=generator)).to(dtype)
    run = ROWWISE[name]
    together = run(x)
    for row in range(ROWS):
        assert torch.equal(run(x[row : row + 1]), together[row : row + 1])
    with only("reference"):
        expected = run(x)
    ulp = {torch.float32: 3e-6, torch.bfloat16: 1.6e-2, torch.float16: 2e-3}[dtype]
    torch.testing.assert_close(together, expected, atol=ulp, rtol=ulp)


@pytest.mark.parametrize("name", ["add", "scale"])
@each_dtype
def test_what_is_rounded_once_is_the_references_to_the_bit(
    name: str, dtype: torch.dtype, generator: torch.Generator
) -> None:
    x = torch.randn(3, 70, generator=generator).to(dtype)
    with only("reference"):
        expected = ROWWISE[name](x)
    assert torch.equal(ROWWISE[name](x), expected)


@pytest.mark.parametrize("kind", ["silu", "gelu", "gelu_tanh"])
def test_activations_over_the_whole_range(kind: Kind) -> None:
    magnitudes = torch.logspace(-30, 30, 2000, dtype=torch.float64)
    gate = torch.cat((magnitudes, -magnitudes, torch.tensor([0.0, -0.0]))).float()
    gate = torch.cat((gate, torch.linspace(-110, 110, 4001)))
    got = gated(torch.stack((gate, torch.ones_like(gate))).reshape(1, -1), kind)[0]
    wide = torch.stack((gate, torch.ones_like(gate))).reshape(1, -1).double()
    expected = gated_reference(wide, kind)[0].float()
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=3e-6)


@pytest.mark.parametrize("kind", ["silu", "gelu", "gelu_tanh"])
def test_activations_of_nan_and_infinity(kind: Kind) -> None:
    got = gated(torch.tensor([[torch.nan, torch.inf, 1.0, 1.0]]), kind)
    assert got[0, 0].isnan()
    assert got[0, 1] == torch.inf


def test_rmsnorm_of_nan_and_infinity_is_their_rows_alone() -> None:
    x = torch.ones(3, 40)
    x[0, 3], x[2, 39] = torch.nan, torch.inf
    got = rmsnorm(x, torch.ones(40), 1e-6)
    assert got[0].isnan().all()
    assert torch.equal(got[1], torch.full((40,), 1 / (1 + 1e-6) ** 0.5))
    assert got[2, 39].isnan()
    assert (got[2, :39] == 0).all()


@pytest.mark.parametrize("shape", [(0, 8), (0, 3, 8)])
def test_no_rows(shape: tuple[int, ...]) -> None:
    assert rmsnorm(torch.empty(shape), torch.ones(8), 1e-6).shape == shape
    if len(shape) == 2:
        assert gated(torch.empty(shape), "silu").shape == (0, 4)


def fused(rows: int, head_dim: int, dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    """Two queries, a key and a value, and something between them that is nobody's."""
    return torch.randn(rows, 5, head_dim, generator=generator).to(dtype)


@pytest.mark.usefixtures("threads")
@each_dtype
@pytest.mark.parametrize(("head_dim", "rotated"), [(128, 128), (80, 20), (64, 34), (6, 6)])
def test_rope_kv_write_is_rope_then_kv_write(
    head_dim: int, rotated: int, dtype: torch.dtype, generator: torch.Generator
) -> None:
    first = fused(ROWS, head_dim, dtype, generator)
    second = first.clone()
    positions = torch.randint(0, 50, (ROWS,), generator=generator)
    angles = torch.rand(50, rotated // 2, generator=generator) * 6
    cos, sin = angles.cos(), angles.sin()
    slots = torch.randperm(5 * 4, generator=generator)[:ROWS]
    shape = (5, 4, 1, head_dim)
    one, other = (torch.full((2, *shape), torch.nan, dtype=dtype) for _ in range(2))

    rope(first[:, :2], first[:, 2:3], positions, cos, sin)
    kv_write(first[:, 2:3], first[:, 4:], one[0], one[1], slots)
    rope_kv_write(
        second[:, :2], second[:, 2:3], second[:, 4:], positions, cos, sin, other[0], other[1], slots
    )
    assert torch.equal(first, second)
    assert torch.equal(one.nan_to_num(7.0), other.nan_to_num(7.0))
    assert torch.equal(layout.flat(one[0])[slots], first[:, 2:3])
    assert int(one.isfinite().sum()) == 2 * ROWS * head_dim


@each_dtype
def test_rope_of_a_row_is_the_same_alone_and_as_the_reference_has_it(
    dtype: torch.dtype, generator: torch.Generator
) -> None:
    rows = fused(ROWS, 70, dtype, generator)
    positions = torch.randint(0, 50, (ROWS,), generator=generator)
    angles = torch.rand(50, 35, generator=generator) * 6
    table = angles.cos(), angles.sin()
    together, expected = rows.clone(), rows.clone()
    rope(together[:, :2], together[:, 2:3], positions, *table)
    for row in range(ROWS):
        alone = rows[row : row + 1].clone()
        rope(alone[:, :2], alone[:, 2:3], positions[row : row + 1], *table)
        assert torch.equal(alone[0], together[row])
    with only("reference"):
        rope(expected[:, :2], expected[:, 2:3], positions, *table)
    ulp = {torch.float32: 1e-6, torch.bfloat16: 1.6e-2, torch.float16: 2e-3}[dtype]
    torch.testing.assert_close(together, expected, atol=ulp, rtol=ulp)
    assert torch.equal(together[:, 3:], rows[:, 3:])
