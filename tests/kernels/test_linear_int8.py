"""Weights in int8: what is kept, and products against the reference, whose sums are exact."""

from __future__ import annotations

import pytest
import torch

from inferd_kernels.cpu.isa import Isa, supported
from inferd_kernels.cpu.library import library, set_threads, using
from inferd_kernels.dispatch import only
from inferd_kernels.embedding import embedding
from inferd_kernels.linear import int8_reference, linear, linear_f32
from inferd_kernels.linear.int8 import Int8Weight

FLOATS = (torch.float32, torch.bfloat16, torch.float16)
SHAPES = ((1, 4), (7, 3), (32, 64), (33, 65), (96, 200), (130, 129), (64, 1030))  # out, in
EPS = {torch.float32: 2.0**-23, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(4)


def weight_of(out: int, inputs: int, dtype: torch.dtype, group: int = 64) -> Int8Weight:
    weight = Int8Weight.empty(out, inputs, dtype, group)
    weight.fill(0, torch.randn(out, inputs))
    return weight


@pytest.mark.parametrize("source", FLOATS, ids=str)
@pytest.mark.parametrize("group", [4, 32, 64, 128, 1024])
@pytest.mark.parametrize(("out", "inputs"), SHAPES)
def test_weights_are_quantised_as_the_reference_does(
    out: int, inputs: int, group: int, source: torch.dtype
) -> None:
    part = torch.randn(out, inputs).to(source) * 3
    weight = Int8Weight.empty(out, inputs, torch.float32, group)
    weight.fill(0, part)
    q, scales = weight.quantized()
    expected_q, expected_scales = int8_reference.quantize(part, group)
    assert torch.equal(q, expected_q)
    assert torch.equal(scales, expected_scales)
    assert (weight.unpack() - part.float()).abs().max() <= scales.max() * 0.5001


def test_rows_are_filled_in_parts_from_any_strides() -> None:
    whole = torch.randn(100, 72)
    weight = Int8Weight.empty(100, 72, torch.float32)
    weight.fill(0, whole[:10])
    weight.fill(10, whole[10:50].repeat(1, 2)[:, :72])
    weight.fill(50, whole[50:].t().contiguous().t())
    assert torch.equal(weight.quantized()[0], int8_reference.quantize(whole, 64)[0])
    assert torch.equal(weight.unpack(slice(33, 70)), weight.unpack()[33:70])
    assert weight.nbytes == sum(each.nbytes for each in weight.tensors)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_checkpoints_bytes_and_scales_are_kept(groups: int) -> None:
    q = torch.randint(-128, 128, (40, 256), dtype=torch.int8)
    scales = torch.rand(40, groups).to(torch.bfloat16)
    weight = Int8Weight.empty(40, 256, torch.float32)
    weight.fill_int8(0, q[:7], scales[:7])
    weight.fill_int8(7, q[7:], scales[7:])
    assert torch.equal(weight.quantized()[0], q)
    assert torch.equal(weight.unpack(), q * scales.float().repeat_interleave(256 // groups, 1))


def test_numbers_at_the_edges() -> None:
    part = torch.zeros(5, 8)
    part[0] = torch.tensor([1e-40, 0, 0, 0, 0, 0, 0, 0])
    part[1, 3] = torch.nan
    part[2, 0] = -torch.inf
    part[3] = 3e38
    weight = Int8Weight.empty(5, 8, torch.float32, 8)
    weight.fill(0, part)
    q, scales = weight.quantized()
    assert not scales[[0, 4]].any()
    assert not q[0].any()
    assert scales[1:3].isnan().all()
    assert (q[3] == 127).all()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("rows", [1, 2, 5, 8, 9, 33])
@pytest.mark.parametrize(("out", "inputs"), SHAPES)
def test_products(
    implementation: str, out: int, inputs: int, rows: int, dtype: torch.dtype
) -> None:
    weight = weight_of(out, inputs, dtype)
    x = torch.randn(rows, inputs).to(dtype)
    bias = torch.randn(out).to(dtype)
    q, scales = int8_reference.quantize(x, 64)
    wide = int8_reference.dequantize(q, scales, 64).double()
    weights = int8_reference.dequantize(*weight.quantized(), 64).double()
    expected = wide @ weights.t()
    size = wide.abs() @ weights.abs().t()
    assert ((linear_f32(x, weight) - expected).abs() <= 4e-7 * size + 1e-30).all()
    y = linear(x, weight, bias)
    assert y.dtype == dtype
    expected += bias.double()
    assert ((y - expected).abs() <= EPS[dtype] * expected.abs() + 1e-6 * size + 1e-30).all()


@pytest.mark.parametrize("isa", supported(), ids=lambda isa: isa.name)
def test_each_level_is_the_reference_up_to_rounding(isa: Isa) -> None:
    """The largest numbers, too, which 16 bits would not hold."""
    weight = weight_of(70, 300, torch.float32)
    x = torch.randn(11, 300)
    x[3] = 1.0
    q = torch.full((70, 300), -128, dtype=torch.int8)
    q[1::2] = 127
    extreme = Int8Weight.empty(70, 300, torch.float32, 60)
    extreme.fill_int8(0, q, torch.ones(70, 1))
    with using(isa), only("cpu"):
        found, largest = linear_f32(x, weight), linear_f32(x, extreme)
    with only("reference"):
        torch.testing.assert_close(found, linear_f32(x, weight), rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(largest, linear_f32(x, extreme), rtol=1e-5, atol=1e-2)


@pytest.mark.parametrize("inputs", [100, 1024, 3000])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_a_row_is_the_same_in_any_company(inputs: int, dtype: torch.dtype) -> None:
    loaded = library()
    assert loaded is not None
    weight = weight_of(160, inputs, dtype)
    x = torch.randn(70, inputs).to(dtype)
    with only("cpu"):
        alone = torch.cat([linear_f32(row[None], weight) for row in x])
        try:
            for threads in (1, 2, 3):
                set_threads(loaded, threads)
                for rows in (1, 2, 3, 7, 8, 9, 17, 70):
                    assert torch.equal(linear_f32(x[-rows:], weight), alone[-rows:])
        finally:
            set_threads(loaded, torch.get_num_threads())


def test_what_is_not_a_number_stays_in_its_row() -> None:
    weight = weight_of(40, 128, torch.float32)
    x = torch.randn(4, 128)
    clean = linear_f32(x, weight)
    x[1, 5], x[2, 100] = torch.nan, torch.inf
    with only("cpu"):
        found = linear_f32(x, weight)
    assert found[1:3].isnan().all()
    torch.testing.assert_close(found[::3], clean[::3], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_embedded_rows(implementation: str, dtype: torch.dtype) -> None:
    weight = weight_of(77, 130, dtype)
    ids = torch.tensor([0, 76, 31, 32, 76])
    expected = 0.5 * int8_reference.dequantize(*weight.quantized(), 64)[ids]
    found = embedding(ids, weight, 0.5)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), expected, rtol=2 * EPS[dtype], atol=0)
