"""The GPU's `linear` and `linear_f32`: the right sums, and rows that do not know each other."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from inferd_kernels.linear import gpu as kernels
from inferd_kernels.linear import gpu_invariant as invariant
from inferd_kernels.linear import gpu_tiles, linear, linear_f32
from inferd_kernels.linear.gpu_tiles import Tile
from tests.kernels.gpu_device import DEVICE, DTYPES, NATIVE

EPS = {torch.float32: 0.0, torch.bfloat16: 2**-8, torch.float16: 2**-11}
SHAPES = [(1, 1, 1), (3, 40, 33), (2, 300, 70), (66, 136, 20)]
TILES = (
    gpu_tiles.STREAM,
    gpu_tiles.STREAM_DEEP,
    gpu_tiles.NARROW,
    gpu_tiles.NEAR,
    gpu_tiles.WIDE,
    gpu_tiles.MEDIUM,
    gpu_tiles.LARGE,
)
Product = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]

pytestmark = pytest.mark.usefixtures("poisoned_memory")
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def operands(
    shape: tuple[int, int, int], dtype: torch.dtype, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What no kernel may read lies beside all of them: NaN."""
    rows, width, outputs = shape
    room = torch.full((rows + 3, width + 8), torch.nan)
    room[2:-1, 3:-5] = torch.randn(rows, width, generator=generator)
    weights = torch.full((outputs + 2, width), torch.nan)
    weights[1:-1] = torch.randn(outputs, width, generator=generator)
    bias = torch.full((outputs + 2,), torch.nan)
    bias[1:-1] = torch.randn(outputs, generator=generator)
    room, weights, bias = (each.to(DEVICE, dtype) for each in (room, weights, bias))
    return room[2:-1, 3:-5], weights[1:-1], bias[1:-1]


def check(
    got: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> None:
    """Against the truth, by as much as the additions and the last rounding may be off."""
    x, weight = x.double(), weight.double()
    truth, size = x @ weight.T, x.abs() @ weight.abs().T
    if bias is not None:
        truth, size = truth + bias.double(), size + bias.double().abs()
    assert got.shape == truth.shape
    assert ((got.double() - truth).abs() <= 1e-6 * size + EPS[got.dtype] * truth.abs()).all()


@each_dtype
@each_shape
@pytest.mark.parametrize("product", [linear, kernels.skinny, invariant.linear])
def test_sums(
    gpu: torch.device,
    product: Product,
    shape: tuple[int, int, int],
    dtype: torch.dtype,
    generator: torch.Generator,
) -> None:
    x, weight, bias = operands(shape, dtype, generator)
    for each in (None, bias):
        y = product(x, weight, each)
        assert y.dtype == dtype
        check(y, x, weight, each)


@each_dtype
@each_shape
@pytest.mark.parametrize("product", [linear_f32, invariant.linear_f32])
def test_sums_that_are_not_rounded(
    gpu: torch.device,
    product: Product,
    shape: tuple[int, int, int],
    dtype: torch.dtype,
    generator: torch.Generator,
) -> None:
    x, weight, _ = operands(shape, dtype, generator)
    y = product(x, weight, None)
    assert y.dtype == torch.float32
    check(y, x, weight)
    room = torch.full((len(x), len(weight) + 9), 7.0, device=DEVICE)
    out = room[:, 4:-5]
    assert product(x, weight, out) is out
    assert torch.equal(out, y)
    assert bool((room[:, :4] == 7).all())
    assert bool((room[:, -5:] == 7).all())


@pytest.mark.parametrize("product", [linear, linear_f32, invariant.linear, invariant.linear_f32])
def test_no_rows(gpu: torch.device, product: Product) -> None:
    weight = torch.ones(5, 8, device=DEVICE)
    assert product(torch.ones(0, 8, device=DEVICE), weight, None).shape == (0, 5)


@each_dtype
def test_transposed_rows(gpu: torch.device, dtype: torch.dtype, generator: torch.Generator) -> None:
    x, weight, _ = operands((3, 40, 5), dtype, generator)
    columns = x.T.contiguous().T
    assert torch.equal(invariant.linear(columns, weight, None), invariant.linear(x, weight, None))


@each_dtype
@pytest.mark.parametrize("splits", [2, 3])
def test_inputs_shared_out(
    gpu: torch.device, splits: int, dtype: torch.dtype, generator: torch.Generator
) -> None:
    x, weight, bias = operands((3, 300, 20), dtype, generator)
    parts = torch.empty(splits * 3, 20, device=DEVICE)
    kernels.launch(x, weight, None, parts, gpu_tiles.SKINNY, splits)
    check(parts.view(splits, 3, 20).sum(0), x, weight)
    check(kernels.shared_out(x, weight, bias, splits), x, weight, bias)


def test_few_rows_are_chosen_by_the_constant(
    gpu: torch.device, monkeypatch: pytest.MonkeyPatch, generator: torch.Generator
) -> None:
    x, weight, bias = operands((3, 40, 5), torch.float16, generator)
    monkeypatch.setattr(kernels, "SKINNY_ROWS", 2)
    assert torch.equal(linear(x[:2], weight, bias), kernels.skinny(x[:2], weight, bias))
    assert torch.equal(linear(x, weight, bias), torch.nn.functional.linear(x, weight, bias))


def numbers(rows: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """The interpreter adds in numpy's order, which depends on a tile's shape: there they are such
    that no sum is rounded, and it is seen only that no neighbour's number comes in."""
    if NATIVE:
        return torch.randn(rows, width, generator=generator)
    return torch.randint(-8, 9, (rows, width), generator=generator) / 8


@each_dtype
@pytest.mark.parametrize(
    "tile", TILES, ids=lambda tile: f"{tile.rows}x{tile.columns}/{tile.stages}"
)
def test_a_row_does_not_depend_on_others(
    gpu: torch.device, tile: Tile, dtype: torch.dtype, generator: torch.Generator
) -> None:
    """Nor on its place, nor on the tile; and what is not finite stays where it is."""
    if dtype == torch.float32 and tile.columns > 32:
        pytest.skip("never chosen")
    rows = (1, 5, 64, 131) if not NATIVE else (1, 5, 64, 65, 131, 500)
    width = 72 if not NATIVE else 4104
    x = numbers(rows[-1], width, generator).to(DEVICE, dtype)
    weight = numbers(40, width, generator).to(DEVICE, dtype)
    bias = numbers(1, 40, generator).to(DEVICE, dtype)[0]
    mark = 3
    alone = invariant.linear(x[mark : mark + 1], weight, bias)[0]
    for count in rows:
        for place in {0, count // 2, count - 1}:
            company = x[:count].clone()
            company[:, ::7] = torch.nan
            company[place] = x[mark]
            out = torch.empty(count, 40, dtype=dtype, device=DEVICE)
            kernels.launch(company, weight, bias, out, tile, 1)
            assert torch.equal(out[place], alone)
            others = torch.arange(count, device=DEVICE) != place
            assert bool(out[others].isnan().all())


@each_dtype
def test_decoding_and_prefill_have_the_same_bits(
    gpu: torch.device, dtype: torch.dtype, generator: torch.Generator
) -> None:
    """Through the tiles that are really chosen; a GPU sees production's shapes."""
    many, width, outputs = (8192, 4096, 6144) if NATIVE else (130, 40, 24)
    x = numbers(many, width, generator).to(DEVICE, dtype)
    weight = numbers(outputs, width, generator).to(DEVICE, dtype)
    whole = invariant.linear(x, weight, None)
    logits = invariant.linear_f32(x, weight, None)
    for first, last in ((0, 1), (7, 8), (many - 1, many), (2, 66), (1, 129)):
        assert torch.equal(invariant.linear(x[first:last], weight, None), whole[first:last])
        assert torch.equal(invariant.linear_f32(x[first:last], weight, None), logits[first:last])


def test_rows_further_apart_than_32_bits_count(
    gpu: torch.device, generator: torch.Generator
) -> None:
    torch.use_deterministic_algorithms(False)  # or all of that memory would be written
    stride = 1 << 25
    room = torch.empty(65 * stride, dtype=torch.float16, device=DEVICE).view(65, stride)
    x = room[:, :8]
    x.copy_(torch.randn(65, 8, generator=generator))
    weight = torch.randn(3, 8, generator=generator).to(DEVICE, torch.float16)
    check(invariant.linear_f32(x, weight), x, weight)
