"""lora and lora_embedding against their formula, row by row."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inferd_kernels.lora import (
    NO_SEGMENTS,
    LoraModule,
    LoraPart,
    LoraWeights,
    lora,
    lora_embedding,
    segments,
)

pytestmark = pytest.mark.usefixtures("implementation", "poisoned_memory")

CPU = torch.device("cpu")
IN, WIDTHS = 11, (4, 2, 3)  # a fused layer of three projections
OUT = sum(WIDTHS)
DTYPES = {torch.float32: 1e-5, torch.bfloat16: 1e-1, torch.float16: 1e-2}
each_dtype = pytest.mark.parametrize(("dtype", "atol"), DTYPES.items(), ids=str)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def weights(
    generator: torch.Generator,
    ranks: tuple[int, ...],
    dtype: torch.dtype = torch.float32,
    b_dtype: torch.dtype | None = None,
) -> LoraWeights:
    """Random factors of the three projections; rank 0: this one is left alone."""
    a = torch.randn(sum(ranks), IN, generator=generator).to(dtype)
    offsets = [sum(WIDTHS[:i]) for i in range(len(WIDTHS))]
    parts = tuple(
        LoraPart(offset, torch.randn(width, rank, generator=generator).to(b_dtype or dtype))
        for offset, width, rank in zip(offsets, WIDTHS, ranks, strict=True)
        if rank
    )
    return LoraWeights(a, parts)


def added(x: torch.Tensor, adapter: LoraWeights | None) -> torch.Tensor:
    """What the formula adds to one row [IN] → [OUT], in float64."""
    delta = torch.zeros(OUT, dtype=torch.float64)
    first = 0
    for part in adapter.parts if adapter else ():
        width, rank = part.b.shape
        low = (adapter.a[first : first + rank].double() * x.double()).sum(-1) if adapter else None
        assert low is not None
        delta[part.offset : part.offset + width] += (part.b.double() * low).sum(-1)
        first += rank
    return delta


@each_dtype
def test_mixed_slots_ranks_and_parts(
    dtype: torch.dtype, atol: float, generator: torch.Generator
) -> None:
    module = LoraModule(
        [
            weights(generator, (2, 1, 3), dtype),
            None,
            weights(generator, (0, 5, 0), dtype),
            weights(generator, (1, 0, 4), dtype, torch.float32),
        ]
    )
    slots, lengths = [2, -1, 0, 3, 1, 0, 2], [1, 2, 3, 1, 1, 2, 1]
    rows = [slot for slot, length in zip(slots, lengths, strict=True) for _ in range(length)]
    x = torch.randn(len(rows), IN, generator=generator).to(dtype)
    y = torch.randn(len(rows), OUT, generator=generator).to(dtype)
    before = y.clone()
    lora(y, x, module, segments(slots, lengths, CPU))
    expected = before.double()
    for t, slot in enumerate(rows):
        expected[t] += added(x[t], module.slots[slot] if slot >= 0 else None)
    torch.testing.assert_close(y.double(), expected, atol=atol, rtol=1e-2 if atol > 1e-4 else 0)


def test_float32_logits_over_a_narrow_input_are_not_rounded(generator: torch.Generator) -> None:
    module = LoraModule([weights(generator, (2, 1, 3), torch.bfloat16)])
    x = torch.randn(2, IN, generator=generator).bfloat16()
    y = torch.zeros(2, OUT)
    lora(y, x, module, segments([0], [2], CPU))
    expected = torch.stack([added(row, module.slots[0]) for row in x])
    torch.testing.assert_close(y.double(), expected, atol=1e-5, rtol=0)


def test_a_view_of_the_output_is_written(generator: torch.Generator) -> None:
    module = LoraModule([weights(generator, (1, 1, 1))])
    wide = torch.zeros(3, OUT + 5)
    lora(wide[:, 2 : 2 + OUT], x := torch.randn(3, IN, generator=generator), module,
         segments([-1, 0], [1, 2], CPU))  # fmt: skip
    expected = torch.stack([added(row, module.slots[0]) for row in x[1:]])
    torch.testing.assert_close(wide[1:, 2 : 2 + OUT].double(), expected, atol=1e-5, rtol=0)
    assert not wide[0].any()
    assert not wide[:, :2].any()
    assert not wide[:, 2 + OUT :].any()


def test_rows_without_an_adapter_keep_every_bit(generator: torch.Generator) -> None:
    module = LoraModule([weights(generator, (2, 2, 2)), None])
    x = torch.full((4, IN), torch.nan)
    y = torch.randn(4, OUT, generator=generator)
    before = y.clone()
    lora(y, x, module, NO_SEGMENTS)
    lora(y, x, module, segments([-1, 1, -1], [1, 2, 1], CPU))
    assert torch.equal(y, before)
    lora(y, x, module, segments([-1, 0, -1], [1, 1, 2], CPU))
    assert y[1].isnan().all()
    assert torch.equal(y[[0, 2, 3]], before[[0, 2, 3]])


@each_dtype
def test_embedding(dtype: torch.dtype, atol: float, generator: torch.Generator) -> None:
    vocab, hidden = 9, 5
    a = torch.randn(3, vocab, generator=generator).to(dtype)
    b = torch.randn(hidden, 3, generator=generator).to(dtype)
    module = LoraModule([None, LoraWeights(a, (LoraPart(0, b),))])
    ids = torch.tensor([8, 0, 4, 4, 2])
    y = torch.randn(5, hidden, generator=generator).to(dtype)
    before = y.clone()
    lora_embedding(y, ids, module, segments([1, 0, 1, -1], [1, 1, 2, 1], CPU))
    for t in (0, 2, 3):
        expected = before[t].double() + (b.double() * a[:, ids[t]].double()).sum(-1)
        torch.testing.assert_close(y[t].double(), expected, atol=atol, rtol=0)
    assert torch.equal(y[[1, 4]], before[[1, 4]])
    lora_embedding(y, ids, module, NO_SEGMENTS)


def test_a_slot_may_change_between_steps(generator: torch.Generator) -> None:
    first, second = weights(generator, (2, 0, 1)), weights(generator, (1, 3, 2))
    module = LoraModule([first, None])
    x = torch.randn(3, IN, generator=generator)
    step = segments([1, 0], [2, 1], CPU)
    for slots in ([first, None], [first, second], [None, second], [None, None], [second, first]):
        module.slots[:] = slots
        y = torch.zeros(3, OUT)
        lora(y, x, module, step)
        expected = [added(x[t], slots[slot]) for t, slot in enumerate([1, 1, 0])]
        torch.testing.assert_close(y.double(), torch.stack(expected), atol=1e-5, rtol=0)


def test_no_weights_are_read_twice_when_factors_lie_transposed(generator: torch.Generator) -> None:
    plain = weights(generator, (2, 1, 3))
    parts = tuple(LoraPart(part.offset, part.b.t().contiguous().t()) for part in plain.parts)
    x = torch.randn(4, IN, generator=generator)
    results = []
    for one in (plain, LoraWeights(plain.a, parts)):
        y = torch.zeros(4, OUT)
        lora(y, x, LoraModule([one]), segments([0], [4], CPU))
        results.append(y)
    assert torch.equal(*results)


@st.composite
def layers(draw: st.DrawFn) -> tuple[torch.dtype, list[LoraWeights | None], int, int]:
    """dtype, slots, inputs and outputs of a layer of up to three projections."""
    seed = torch.Generator().manual_seed(draw(st.integers(0, 1 << 30)))
    dtype = draw(st.sampled_from(list(DTYPES)))
    inputs = draw(st.sampled_from([1, 11, 32, 70, 128]))
    widths = draw(st.lists(st.sampled_from([1, 7, 16, 33, 520]), min_size=1, max_size=3))
    slots: list[LoraWeights | None] = []
    for _ in range(draw(st.integers(1, 4))):
        ranks = [draw(st.sampled_from([0, 1, 4, 8, 16, 20])) for _ in widths]
        parts = tuple(
            LoraPart(sum(widths[:i]), torch.randn(widths[i], rank, generator=seed).to(dtype))
            for i, rank in enumerate(ranks)
            if rank
        )
        a = torch.randn(sum(ranks), inputs, generator=seed).to(dtype)
        slots.append(LoraWeights(a, parts) if parts else None)
    return dtype, slots, inputs, sum(widths)


@settings(max_examples=40, deadline=None)
@given(layers(), st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 20)), max_size=6))
def test_any_shape(
    layer: tuple[torch.dtype, list[LoraWeights | None], int, int],
    sequences: list[tuple[int, int]],
) -> None:
    dtype, slots, inputs, outputs = layer
    owners = [min(slot, len(slots) - 1) for slot, _ in sequences]
    rows = [
        slot for slot, (_, length) in zip(owners, sequences, strict=True) for _ in range(length)
    ]
    seed = torch.Generator().manual_seed(len(rows))
    x = torch.randn(len(rows), inputs, generator=seed).to(dtype)
    y = torch.randn(len(rows), outputs, generator=seed)
    before = y.clone()
    lora(y, x, LoraModule(slots), segments(owners, [length for _, length in sequences], CPU))
    for t, slot in enumerate(rows):
        one = slots[slot] if slot >= 0 else None
        expected, first = before[t].double(), 0
        for part in one.parts if one is not None else ():
            width, rank = part.b.shape
            assert one is not None
            low = one.a[first : first + rank].double() @ x[t].double()
            expected[part.offset : part.offset + width] += part.b.double() @ low
            first += rank
        torch.testing.assert_close(y[t].double(), expected, atol=2e-3, rtol=1e-5)


def test_ranks_that_do_not_add_up_are_a_bug() -> None:
    with pytest.raises(AssertionError, match="ranks"):
        LoraWeights(torch.zeros(3, IN), (LoraPart(0, torch.zeros(4, 2)),))


@given(st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 4)), max_size=8))
def test_segments_partition_the_rows(sequences: list[tuple[int, int]]) -> None:
    rows = [slot for slot, length in sequences for _ in range(length)]
    step = segments([slot for slot, _ in sequences], [length for _, length in sequences], CPU)
    got = [-1] * len(rows)
    order = [segment.slot for segment in step.each]
    assert order == sorted(set(rows) - {-1})
    for segment in step.each:
        for row in torch.arange(len(rows))[segment.rows].tolist():
            assert got[row] == -1
            got[row] = segment.slot
    assert got == rows
    assert bool(step) == any(slot >= 0 for slot in rows)


def test_neighbouring_sequences_of_a_slot_need_no_gather() -> None:
    step = segments([0, 1, 1, 0, 1], [2, 1, 3, 0, 2], CPU)
    assert [(segment.slot, segment.rows) for segment in step.each] == [
        (0, slice(0, 2)),
        (1, slice(2, 8)),
    ]
