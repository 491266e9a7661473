"""linear with packed weights: the right sums, the same bits in any company, and exact packing."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from inferd_kernels.linear import PackedWeight, linear, linear_f32
from inferd_kernels.linear import reference as linear_reference
from inferd_kernels.linear.cpu import arguments, run

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
EPS = {torch.float32: 0.0, torch.bfloat16: 2**-8, torch.float16: 2**-11}
SHAPES = [
    (1, 1, 1),
    (2, 3, 31),
    (3, 64, 32),
    (7, 65, 33),
    (14, 17, 40),
    (33, 7, 65),
    (200, 130, 97),
]
WIDE = (30, 80_000, 3)  # so many inputs that rows are taken in several blocks

pytestmark = pytest.mark.usefixtures("poisoned_memory")
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
each_shape = pytest.mark.parametrize("shape", [*SHAPES, WIDE], ids=str)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def operands(
    shape: tuple[int, int, int], dtype: torch.dtype, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rows, width, outputs = shape
    x = torch.randn(rows, width, generator=generator).to(dtype)
    weight = torch.randn(outputs, width, generator=generator).to(dtype)
    return x, weight, torch.randn(outputs, generator=generator).to(dtype)


def check(
    got: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> None:
    """Against the truth, by as much as the additions and the last rounding may be off."""
    x, weight = x.double(), weight.double()
    truth = x @ weight.T
    size = x.abs() @ weight.abs().T
    if bias is not None:
        truth, size = truth + bias.double(), size + bias.double().abs()
    assert got.shape == truth.shape
    allowed = 1e-6 * size + EPS[got.dtype] * truth.abs()
    assert ((got.double() - truth).abs() <= allowed).all()


@pytest.mark.usefixtures("implementation")
@each_dtype
@each_shape
def test_sums(shape: tuple[int, int, int], dtype: torch.dtype, generator: torch.Generator) -> None:
    x, weight, bias = operands(shape, dtype, generator)
    packed = PackedWeight.of(weight)
    logits = linear_f32(x, packed)
    assert logits.dtype == torch.float32
    check(logits, x, weight)
    for each in (None, bias):
        y = linear(x, packed, each)
        assert y.dtype == dtype
        check(y, x, weight, each)


@pytest.mark.usefixtures("implementation")
@each_dtype
@pytest.mark.parametrize("biased", [False, True])
def test_weights_that_are_not_packed(
    biased: bool, dtype: torch.dtype, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear_reference, "WIDENED_ROWS", 3)
    x, weight, bias = operands((3, 11, 7), dtype, generator)
    check(linear(x, weight, bias if biased else None), x, weight, bias if biased else None)
    logits = linear_f32(x, weight)
    assert logits.dtype == torch.float32
    check(logits, x, weight)


@pytest.mark.usefixtures("implementation")
@each_dtype
def test_views(dtype: torch.dtype, generator: torch.Generator) -> None:
    x, weight, _ = operands((5, 40, 33), dtype, generator)
    packed = PackedWeight.of(weight)
    for view in (x[:, 3:], x[::2, :37], x.new_ones(37, 5).T):
        part = PackedWeight.of(packed.unpack()[:, :37])
        check(linear_f32(view, part), view, weight[:, :37])


@each_dtype
def test_a_sum_is_rounded_once(dtype: torch.dtype, generator: torch.Generator) -> None:
    x, weight, bias = operands((9, 50, 70), dtype, generator)
    packed = PackedWeight.of(weight)
    exact = linear_f32(x, packed)
    assert torch.equal(linear(x, packed, bias), (exact + bias.float()).to(dtype))


@each_dtype
@pytest.mark.parametrize("width", [1, 63, 1000])
def test_a_row_does_not_depend_on_others(
    width: int, dtype: torch.dtype, threads: int, generator: torch.Generator
) -> None:
    """Nor on how many threads there are."""
    x, weight, bias = operands((40, width, 150), dtype, generator)
    packed = PackedWeight.of(weight)
    alone = torch.cat([linear(row[None], packed, bias) for row in x])
    for rows in range(1, 41):
        assert torch.equal(linear(x[:rows], packed, bias), alone[:rows])
    many = x.repeat(6, 1)
    assert torch.equal(linear(many, packed, bias), alone.repeat(6, 1))


@each_dtype
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_stays_in_its_row_and_output(
    bad: float, dtype: torch.dtype, generator: torch.Generator
) -> None:
    x, weight, _ = operands((17, 33, 70), dtype, generator)
    weight[35, 32] = bad
    x[4, 7] = bad
    y = linear_f32(x, PackedWeight.of(weight))
    finite = y.isfinite()
    assert not finite[4].any()
    assert not finite[:, 35].any()
    finite[4] = finite[:, 35] = True
    assert finite.all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_writes_nothing_beside_its_outputs(dtype: torch.dtype, generator: torch.Generator) -> None:
    x, weight, bias = operands((16, 9, 45), dtype, generator)
    packed = PackedWeight.of(weight)
    assert run is not None
    room = torch.full((16, 60), 7.0, dtype=dtype)
    run(arguments(x, packed, bias, room[:, 5:50]), 16)
    assert torch.equal(room[:, 5:50], linear(x, packed, bias))
    assert bool((room[:, :5] == 7).all())
    assert bool((room[:, 50:] == 7).all())


@pytest.mark.usefixtures("implementation")
@each_dtype
@pytest.mark.parametrize("shape", [(1, 1), (32, 64), (33, 65), (100, 3), (257, 301)], ids=str)
def test_packing_is_exact(
    shape: tuple[int, int], dtype: torch.dtype, generator: torch.Generator
) -> None:
    weight = torch.randn(shape, generator=generator).to(dtype)
    packed = PackedWeight.of(weight)
    assert packed.shape == shape
    assert packed.dtype == dtype
    assert torch.equal(packed.unpack(), weight)
    assert torch.equal(packed.unpack(slice(shape[0] // 3, None)), weight[shape[0] // 3 :])
    assert packed.nbytes >= weight.nbytes
    for tensor in packed.tensors:
        assert tensor.isfinite().all()  # also what fills up panels


@each_dtype
@pytest.mark.parametrize("source", DTYPES, ids=str)
def test_packing_in_parts(
    source: torch.dtype, dtype: torch.dtype, threads: int, generator: torch.Generator
) -> None:
    weight = torch.randn(130, 71, generator=generator).to(source)
    packed = PackedWeight.empty(130, 71, dtype)
    bounds = [0, 5, 6, 38, 64, 129, 130]
    for begin, end in reversed(list(pairwise(bounds))):
        packed.fill(begin, weight[begin:end])
    assert torch.equal(packed.unpack(), weight.to(dtype))
    packed.fill(33, weight.T.contiguous().T[:2])
    packed.fill(35, torch.cat((weight, weight), 1)[2:4, 71:])
    weight[33:37] = weight[:4].clone()
    assert torch.equal(packed.unpack(), weight.to(dtype))
