"""The GPU's `lora` and `lora_embedding` do what the references do, with the same bits in any
company."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inferd_kernels.dispatch import only
from inferd_kernels.lora import (
    LoraModule,
    LoraPart,
    LoraSegments,
    LoraWeights,
    lora,
    lora_embedding,
    reference,
    segments,
)
from inferd_kernels.lora.gpu import FEW, MANY_ROWS
from inferd_kernels.lora.gpu_tables import ALIGN
from tests.kernels.gpu_device import DEVICE, DTYPES, NATIVE

pytestmark = pytest.mark.usefixtures("poisoned_memory")

IN, ALIGNED, ODD = 300, (32, 16, 16), (7, 33, 16)
TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def adapter(
    ranks: Sequence[int],
    widths: Sequence[int],
    dtype: torch.dtype,
    *,
    inputs: int = IN,
    b_dtype: torch.dtype | None = None,
) -> LoraWeights:
    """Random factors; rank 0: this projection is left alone."""
    parts, offset = [], 0
    for rank, width in zip(ranks, widths, strict=True):
        b = torch.randn(rank, width, device=DEVICE) / max(1, rank) ** 0.5
        if rank:
            parts.append(LoraPart(offset, b.to(b_dtype or dtype).t()))
        offset += width
    a = torch.randn(sum(ranks), inputs, device=DEVICE) / inputs**0.5
    return LoraWeights(a.to(dtype), tuple(parts))


def rows_of(slots: Sequence[int]) -> LoraSegments:
    return LoraSegments(row_slots=torch.tensor(slots, dtype=torch.int32, device=DEVICE))


def random(rows: int, columns: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(rows, columns, device=DEVICE).to(dtype)


def check(
    y: torch.Tensor, x: torch.Tensor, module: LoraModule, step: LoraSegments, dtype: torch.dtype
) -> None:
    """The reference computes in float32 what was given in `dtype`."""
    expected = y.float().clone()
    wide = [one and _widened(one) for one in module.slots]
    reference.lora(expected, x.float(), LoraModule(wide), step)
    lora(y, x, module, step)
    torch.testing.assert_close(y.float(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def _widened(one: LoraWeights) -> LoraWeights:
    parts = tuple(LoraPart(part.offset, part.b.float()) for part in one.parts)
    return LoraWeights(one.a.float(), parts)


@each_dtype
@pytest.mark.parametrize("widths", [ALIGNED, ODD], ids=["aligned", "odd"])
def test_mixed_slots_ranks_and_parts(
    gpu: torch.device, dtype: torch.dtype, widths: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    module = LoraModule(
        [
            adapter((2, 1, 3), widths, dtype),
            None,
            adapter((0, 20, 0), widths, dtype),
            adapter((1, 0, 256), widths, dtype),
        ]
    )
    slots = [2, -1, 0, 3, 1, 0, 2, 0]
    x, y = random(8, IN, dtype), random(8, sum(widths), dtype)
    x[1] = x[4] = torch.nan
    before = y.clone()
    check(y, x, module, rows_of(slots), dtype)
    assert torch.equal(y[[1, 4]], before[[1, 4]])  # of no slot, and of one without an adapter
    untouched = slice(widths[0], widths[0] + widths[1])
    assert torch.equal(y[3, untouched], before[3, untouched])


def test_bits_of_columns_that_no_part_has_stay(gpu: torch.device) -> None:
    one = adapter((0, 4, 0), ODD, torch.float16)
    y = torch.full((2, sum(ODD)), -0.0, device=gpu, dtype=torch.float16)
    y[1, :7] = torch.nan
    before = y.view(torch.int16).clone()
    lora(y, random(2, IN, torch.float16), LoraModule([one]), rows_of([0, 0]))
    after = y.view(torch.int16)
    assert torch.equal(after[:, :7], before[:, :7])
    assert torch.equal(after[:, 40:], before[:, 40:])
    assert (after[:, 7:40] != before[:, 7:40]).all()


@pytest.mark.parametrize("rows", [0, 1])
def test_few_rows(gpu: torch.device, rows: int) -> None:
    module = LoraModule([adapter((4, 4, 4), ALIGNED, torch.float16)])
    x, y = random(rows, IN, torch.float16), random(rows, sum(ALIGNED), torch.float16)
    check(y, x, module, rows_of([0] * rows), torch.float16)


def test_second_factors_may_be_wider_than_the_first(gpu: torch.device) -> None:
    torch.manual_seed(1)
    module = LoraModule([adapter((4, 2, 1), ALIGNED, torch.float16), None])
    slots = rows_of([1, 0, 1])
    x, y = random(3, IN, torch.float16), random(3, sum(ALIGNED), torch.float16)
    check(y.clone(), x, module, slots, torch.float16)
    module.slots[1] = adapter((3, 0, 5), ALIGNED, torch.float16, b_dtype=torch.float32)
    check(y.clone(), x, module, slots, torch.float16)
    module.slots[1] = None
    check(y.clone(), x, module, slots, torch.float16)


@each_dtype
def test_logits_over_a_narrow_input_are_not_rounded(gpu: torch.device, dtype: torch.dtype) -> None:
    torch.manual_seed(2)
    module = LoraModule([adapter((16, 1, 3), ODD, dtype)])
    check(random(3, sum(ODD), torch.float32), random(3, IN, dtype), module, rows_of([0, -1, 0]),
          torch.float32)  # fmt: skip


def test_views(gpu: torch.device) -> None:
    """Inputs and outputs whose rows lie apart, factors that lie otherwise."""
    torch.manual_seed(3)
    plain = adapter((2, 1, 3), ODD, torch.float32)
    parts = tuple(LoraPart(part.offset, part.b.contiguous()) for part in plain.parts)
    a = torch.randn(6 * IN + 1, device=gpu)[1:].view(6, IN)  # not at a multiple of 16 bytes
    module = LoraModule([LoraWeights(a, parts)])
    wide = random(3, sum(ODD) + 9, torch.float32)
    before = wide.clone()
    check(wide[:, 2 : 2 + sum(ODD)], random(3, 2 * IN, torch.float32)[:, 5 : 5 + IN], module,
          rows_of([-1, 0, 0]), torch.float32)  # fmt: skip
    assert torch.equal(wide[:, :2], before[:, :2])
    assert torch.equal(wide[:, 2 + sum(ODD) :], before[:, 2 + sum(ODD) :])
    assert not torch.equal(wide, before)


@each_dtype
def test_embedding(gpu: torch.device, dtype: torch.dtype) -> None:
    torch.manual_seed(4)
    vocab = 50
    module = LoraModule([None, *(adapter((rank,), (24,), dtype, inputs=vocab) for rank in (3, 20))])
    ids = torch.tensor([8, 0, 49, 49, 2], device=gpu)
    y = random(5, 24, dtype)
    before, expected = y.clone(), y.float().clone()
    step = rows_of([1, 0, 2, 1, -1])
    wide = LoraModule([one and _widened(one) for one in module.slots])
    reference.lora_embedding(expected, ids, wide, step)
    lora_embedding(y, ids, module, step)
    torch.testing.assert_close(y.float(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    assert torch.equal(y[[1, 4]], before[[1, 4]])
    lora_embedding(y[:0], ids[:0], module, rows_of([]))


@each_dtype
def test_company_and_order_change_no_bit(gpu: torch.device, dtype: torch.dtype) -> None:
    torch.manual_seed(5)
    inputs = 600  # three pieces
    module = LoraModule([adapter((17, 2), (24, 8), dtype, inputs=inputs) for _ in range(2)])
    slots = [0, 1, -1, 0]
    x, y = random(4, inputs, dtype), random(4, 32, dtype)
    together = y.clone()
    lora(together, x, module, rows_of(slots))
    for t, slot in enumerate(slots):
        alone = y[t : t + 1].clone()
        lora(alone, x[t : t + 1], module, rows_of([slot]))
        assert torch.equal(alone[0], together[t])
    turned = torch.tensor([3, 1, 0, 2], device=gpu)
    shuffled = y[turned]
    lora(shuffled, x[turned], module, rows_of([slots[t] for t in turned.tolist()]))
    assert torch.equal(shuffled, together[turned])
    again = y.clone()
    lora(again, x, module, rows_of(slots))
    assert torch.equal(again, together)


@each_dtype
def test_a_row_among_many_is_as_among_few(gpu: torch.device, dtype: torch.dtype) -> None:
    """To the bit on a GPU; the interpreter's products are numpy's, which know their shape."""
    torch.manual_seed(6)
    module = LoraModule([adapter((3,), (16,), dtype), adapter((5,), (16,), dtype)])
    slots = torch.randint(-1, 2, (MANY_ROWS,)).tolist()
    x, y = random(MANY_ROWS, IN, dtype), random(MANY_ROWS, 16, dtype)
    many, few = y.clone(), y[:9].clone()
    check(many, x, module, rows_of(slots), dtype)
    lora(few, x[:9], module, rows_of(slots[:9]))
    slack = 0 if NATIVE else TOLERANCE[dtype]
    torch.testing.assert_close(few, many[:9], rtol=slack, atol=slack)


def test_what_is_not_a_number_stays_in_its_row(gpu: torch.device) -> None:
    module = LoraModule([adapter((4, 4, 4), ODD, torch.float16)])
    x, y = random(20, IN, torch.float16), random(20, sum(ODD), torch.float16)
    x[5] = torch.nan
    lora(y, x, module, rows_of([0] * 20))
    assert y[5].isnan().all()
    assert y[torch.arange(20, device=gpu) != 5].isfinite().all()


def test_rows_of_slots_that_there_are_not_are_nobodys(gpu: torch.device) -> None:
    module = LoraModule([adapter((4, 4, 4), ODD, torch.float16)])
    x, y = random(3, IN, torch.float16), random(3, sum(ODD), torch.float16)
    before = y.clone()
    lora(y, x, module, rows_of([1, 0, 99]))
    assert torch.equal(y[[0, 2]], before[[0, 2]])
    assert not torch.equal(y[1], before[1])


def test_segments_by_rows_or_grouped_say_the_same(gpu: torch.device) -> None:
    module = LoraModule([adapter((4, 4, 4), ODD, torch.float32) for _ in range(2)])
    x, y = random(4, IN, torch.float32), random(4, sum(ODD), torch.float32)
    found = []
    for step in (rows_of([1, -1, 1, 0]), segments([1, -1, 1, 0], [1] * 4, gpu)):
        found.append(y.clone())
        lora(found[-1], x, module, step)
    for implementation in ("cpu", "reference") if not NATIVE else ("reference",):
        with only(implementation):
            found.append(y.clone())
            lora(found[-1], x, module, rows_of([1, -1, 1, 0]))
            unchanged = y.clone()
            lora(unchanged, x, module, rows_of([-1] * 4))
            assert torch.equal(unchanged, y)
    assert torch.equal(found[0], found[1])
    for each in found[2:]:
        torch.testing.assert_close(each, found[0], rtol=1e-4, atol=1e-5)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(-1, 4), min_size=1, max_size=3 * FEW.tile), st.integers(0, 1 << 30))
def test_any_order_of_slots(slots: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    with only("gpu"):
        ranks = torch.randint(0, 5, (5,)).tolist()
        made = [adapter((rank,), (ALIGN,), torch.float32, inputs=8) for rank in ranks]
        module = LoraModule([one if one.parts else None for one in made], max_rank=4)
        x, y = random(len(slots), 8, torch.float32), random(len(slots), ALIGN, torch.float32)
        check(y, x, module, rows_of(slots), torch.float32)
