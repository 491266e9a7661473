"""Steps that do not fit on the device, with models that refuse large batches."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
import torch

from inferd.engines.native.batching import Batcher, StepBatcher, allocate_kv
from inferd.engines.native.device_batching import SCRATCH_BLOCKS, DeviceBatcher
from inferd.engines.native.model import Batch
from inferd.engines.native.splitting import PartlyFailed, Splitting, with_room
from inferd_kernels.lora import LoraSegments, segments
from inferd_kernels.lora.segments import grouped
from inferd_scheduler import Step, Work
from tests.engines.native.hash_model import HashModel, SmallModel

CPU = torch.device("cpu")
SIZE = 4


def batcher(kind: type[Batcher] | type[DeviceBatcher]) -> StepBatcher:
    model = HashModel()
    cache = allocate_kv(model.kv_specs, 40 + SCRATCH_BLOCKS, SIZE, model.dtype, CPU)
    for tensor in cache[0]:
        tensor.fill_(torch.nan)
    return kind(cache, SIZE, 6, 8, 64)


def steps(seed: int) -> list[Step]:
    """Prompts, then decodes and chunks of them all, mixed."""
    random = Random(seed)
    free = list(range(40))
    random.shuffle(free)
    lengths = dict.fromkeys(range(5), 0)
    found = []
    for number in range(3):
        works = []
        for row, start in lengths.items():
            size = random.choice([1, 1, random.randrange(1, 9)])
            blocks = -(-(start + size) // SIZE) - -(-start // SIZE)
            new = tuple(free.pop() for _ in range(blocks))
            tokens = tuple(random.randrange(40) for _ in range(size))
            works.append(Work(str(row), row, start, tokens, new, True, number == 0))
            lengths[row] += size
        found.append(Step(number + 1, works, sum(len(work.tokens) for work in works)))
    return found


@pytest.mark.parametrize("kind", [Batcher, DeviceBatcher])
@pytest.mark.parametrize("fits", [1, 2, 5, 13])
def test_parts_add_up_to_the_whole(fits: int, kind: type[Batcher] | type[DeviceBatcher]) -> None:
    small, plain = SmallModel(fits), HashModel()
    splitting = Splitting(small.forward, small.forward)
    mine, other = batcher(kind), batcher(kind)
    for step in steps(fits):
        found = splitting(mine.build(step))
        assert torch.equal(found, plain.forward(other.build(step)))
    assert small.refused


def test_what_fits_runs_at_once() -> None:
    small = SmallModel(100)
    found = Splitting(small.forward, small.forward)(batcher(Batcher).build(steps(1)[0]))
    assert len(small.steps) == 1
    assert len(found) == sum(small.steps[0])


def test_a_sequence_fails_only_if_a_token_of_it_does_not_fit() -> None:
    small, plain = SmallModel(4, cursed=45), HashModel()
    works = [
        Work("a", 0, 0, (1, 2, 3), (5,), True, True),
        Work("b", 1, 0, (7, 45, 8, 9), (6,), True, True),
        Work("c", 2, 0, (4, 4, 4, 4, 4), (8, 9), True, True),
    ]
    step = Step(1, works, 12)
    splitting = Splitting(small.forward, small.forward)
    with pytest.raises(PartlyFailed) as caught:
        splitting(batcher(DeviceBatcher).build(step))
    assert list(caught.value.failed) == [1]
    expected = plain.forward(batcher(DeviceBatcher).build(step))
    rows = [0, 1, 2, 7, 8, 9, 10, 11]
    assert torch.equal(caught.value.hidden[rows], expected[rows])
    whole = splitting(batcher(Batcher).build(Step(2, works[:1], 3)))
    assert torch.equal(whole, expected[:3]), "the next step is as usual"


def test_nothing_fits() -> None:
    small = SmallModel(0)
    with pytest.raises(torch.OutOfMemoryError):
        Splitting(small.forward, small.forward)(batcher(Batcher).build(steps(2)[0]))
    assert small.steps == []


def test_parts_do_not_go_through_what_was_tried_first() -> None:
    """Graphs replay what lies in static tensors; parts lie elsewhere."""
    first: list[Batch] = []

    def full(batch: Batch) -> torch.Tensor:
        first.append(batch)
        raise torch.OutOfMemoryError("no memory")

    small = SmallModel(3)
    batch = batcher(DeviceBatcher).build(steps(3)[0])
    assert len(Splitting(full, small.forward)(batch)) == len(batch.input_ids)
    assert first == [batch]


class Adapted(HashModel):
    """Refuses more than two tokens, and notes each token's slot, said in either way."""

    def __init__(self) -> None:
        super().__init__()
        self.slots: list[int] = []

    def forward(self, batch: Batch) -> torch.Tensor:
        if len(batch.input_ids) > 2:
            raise torch.OutOfMemoryError("no memory")
        slots = [-1] * len(batch.input_ids)
        for segment in grouped(batch.segments or LoraSegments()):
            for row in torch.arange(len(slots))[segment.rows].tolist():
                slots[row] = segment.slot
        self.slots += slots
        return super().forward(batch)


def test_adapters_stay_with_their_rows() -> None:
    slots, sizes = [1, -1, 0, 1, 1], [2, 3, 4, 1, 3]
    works = [
        Work(str(row), row, 0, (9,) * size, (row,), True, True, slot)
        for row, (slot, size) in enumerate(zip(slots, sizes, strict=True))
    ]
    step = Step(1, works, sum(sizes))
    assert any(not isinstance(one.rows, slice) for one in segments(slots, sizes, CPU).each)
    for kind in (Batcher, DeviceBatcher):
        model = Adapted()
        Splitting(model.forward, model.forward)(batcher(kind).build(step))
        assert model.slots == [s for s, size in zip(slots, sizes, strict=True) for _ in range(size)]


def test_a_second_try_has_the_memory_that_was_kept_for_later() -> None:
    calls: list[int] = []

    def second() -> Path:
        calls.append(1)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("no memory")
        return Path("here")

    assert with_room(second) == Path("here")
    with pytest.raises(torch.OutOfMemoryError):
        with_room(lambda: (_ for _ in ()).throw(torch.OutOfMemoryError("none at all")))
