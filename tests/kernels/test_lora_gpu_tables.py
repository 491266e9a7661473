"""What graphs of launches hold stays where it is, and follows the slots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from inferd_kernels.lora import (
    LoraModule,
    LoraPart,
    LoraSegments,
    LoraWeights,
    gpu_kernels,
    lora,
    lora_embedding,
    reference,
    segments,
    warm,
)
from inferd_kernels.lora import gpu as implementation
from inferd_kernels.lora.gpu_tables import ALIGN, NUMBERS, Table, Tables
from tests.kernels.gpu_device import DEVICE, NATIVE

pytestmark = pytest.mark.usefixtures("poisoned_memory")

IN, WIDTHS, VOCAB = 40, (32, 16), 20
OUT = sum(WIDTHS)
native = pytest.mark.skipif(not NATIVE, reason="streams and graphs are a GPU's")


class Recorded:
    """A kernel whose launches are kept, to be done again."""

    def __init__(self, kernel: Any, launches: list[Callable[[], object]]) -> None:
        self._kernel = kernel
        self._launches = launches

    def __getitem__(self, grid: Sequence[int]) -> Callable[..., None]:
        def launch(*args: Any, **options: Any) -> None:
            self._launches.append(lambda: self._kernel[grid](*args, **options))
            self._launches[-1]()

        return launch


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """What is launched."""
    made: list[Callable[[], object]] = []
    names = ("order", "shrink", "expand", "look_up")
    kernels = {name: Recorded(getattr(gpu_kernels, name), made) for name in names}
    monkeypatch.setattr(implementation, "kernels", SimpleNamespace(**kernels))
    return made


def adapter(rank: int, inputs: int = IN, widths: Sequence[int] = WIDTHS) -> LoraWeights:
    parts, offset = [], 0
    for width in widths:
        parts.append(LoraPart(offset, torch.randn(rank, width, device=DEVICE).half().t()))
        offset += width
    a = torch.randn(rank * len(widths), inputs, device=DEVICE).half()
    return LoraWeights(a, tuple(parts))


def rows_of(slots: Sequence[int]) -> LoraSegments:
    return LoraSegments(row_slots=torch.tensor(slots, dtype=torch.int32, device=DEVICE))


def recorded(row_slots: torch.Tensor) -> LoraSegments:
    """Of a step whose launches go into a graph."""
    return LoraSegments(row_slots=row_slots, every=True)


def table(module: LoraModule) -> Table:
    assert isinstance(module.prepared, Table)
    return module.prepared


def make(num_modules: int, num_slots: int) -> tuple[list[LoraModule], Tables]:
    modules = [LoraModule([None] * num_slots, max_rank=20) for _ in range(num_modules)]
    return modules, Tables(modules, num_slots, torch.float16, DEVICE)


def test_a_module_that_no_slot_touches_launches_nothing(
    gpu: torch.device, launches: list[Callable[[], object]]
) -> None:
    (module,), _ = make(1, 2)
    step = rows_of([0, 1])
    y, x = torch.zeros(2, OUT, device=gpu).half(), torch.zeros(2, IN, device=gpu).half()
    lora(y, x, module, step)
    lora_embedding(y, torch.zeros(2, dtype=torch.int64, device=gpu), module, step)
    assert not launches
    assert step.prepared is None


def test_a_step_is_ordered_once_for_all_its_layers(
    gpu: torch.device, launches: list[Callable[[], object]]
) -> None:
    modules, _ = make(2, 2)
    step = recorded(torch.tensor([0, 1], dtype=torch.int32, device=gpu))
    y, x = torch.zeros(2, OUT, device=gpu).half(), torch.zeros(2, IN, device=gpu).half()
    for module in modules:
        lora(y, x, module, step)
    assert len(launches) == 1 + 2 * len(modules)


def test_launches_follow_slots_and_rows_that_change_behind_them(
    gpu: torch.device, launches: list[Callable[[], object]]
) -> None:
    torch.manual_seed(0)
    (module, embedding), tables = make(2, 3)
    x, ids = torch.randn(4, IN, device=gpu).half(), torch.tensor([3, 0, 19, 3], device=gpu)
    y, row_slots = torch.zeros(4, OUT, device=gpu).half(), torch.zeros(4, device=gpu).int()
    step = recorded(row_slots)
    lora(y, x, module, step)
    lora_embedding(y, ids, embedding, step)
    assert not y.any()
    before = table(module)
    for slots, held in (
        ([0, 1, -1, 0], [adapter(2), None, None]),
        ([0, 1, -1, 1], [adapter(20), adapter(3), None]),
        ([1, 1, 1, 2], [None, adapter(1), adapter(17)]),
        ([0, 1, 2, -1], [None, None, None]),
    ):
        module.slots[:] = held
        embedding.slots[:] = [one and adapter(5, VOCAB, (OUT,)) for one in held]
        for slot in range(3):
            tables.write(slot)
        row_slots.copy_(torch.tensor(slots))
        y.zero_()
        for launch in tuple(launches):
            launch()
        expected = torch.zeros(4, OUT, device=gpu)
        reference.lora(expected, x, module, rows_of(slots))
        reference.lora_embedding(expected, ids, embedding, rows_of(slots))
        torch.testing.assert_close(y.float(), expected, rtol=4e-3, atol=2e-2)
        assert table(module) is before


def test_tables_lie_in_one_piece_and_hold_what_slots_hold(gpu: torch.device) -> None:
    modules, tables = make(3, 2)
    found = [table(module) for module in modules]
    assert len({each.rows.untyped_storage().data_ptr() for each in found}) == 1
    one = adapter(4)
    modules[1].slots[1] = one
    tables.write(1)
    rows = [each.rows.cpu() for each in found]
    assert not rows[0].any()
    assert not rows[2].any()
    assert not rows[1][0].any()
    b = [part.b.data_ptr() for part in one.parts]
    parts = [b[0], 0, WIDTHS[0] // ALIGN, 0, WIDTHS[0], 4]
    parts += [b[1], WIDTHS[0] // ALIGN, WIDTHS[1] // ALIGN, WIDTHS[0], WIDTHS[1], 4]
    numbers = [one.a.data_ptr(), 8, IN, *parts]
    assert rows[1][1].tolist() == numbers + [0] * (NUMBERS - len(numbers))
    modules[1].slots[1] = None
    tables.write(1)
    assert not found[1].rows.any()
    assert not found[1].used


def test_factors_of_another_dtype_are_a_bug(gpu: torch.device) -> None:
    (module,), tables = make(1, 1)
    parts = (LoraPart(0, torch.zeros(OUT, 2, device=gpu)),)
    module.slots[0] = LoraWeights(torch.zeros(2, IN, device=gpu).half(), parts)
    with pytest.raises(AssertionError, match="dtype"):
        tables.write(0)


def test_shapes_that_do_not_fit_are_a_bug(gpu: torch.device) -> None:
    module = LoraModule([adapter(20)], max_rank=8)
    y, x = torch.zeros(1, OUT, device=gpu).half(), torch.zeros(1, IN, device=gpu).half()
    with pytest.raises(AssertionError):
        lora(y, x, module, rows_of([0]))  # a rank beyond the largest
    module.max_rank = 20
    for wrong in ((y[:, :-1], x), (y, x[:, :-1]), (y, x.float())):
        with pytest.raises(AssertionError):
            lora(*wrong, module, rows_of([0]))
    with pytest.raises(AssertionError):
        lora(y, x, module, rows_of([0, 0]))


@pytest.mark.parametrize("max_rank", [20, 8])
def test_warming_runs_on_any_device(
    gpu: torch.device, max_rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inferd_kernels.lora.warming.ROWS", (1, 2))
    warm(2, max_rank, torch.float16, gpu)


@native
def test_nothing_waits_for_the_device(gpu: torch.device) -> None:
    warm(2, 20, torch.float16, gpu)
    (module,), tables = make(1, 2)
    x, y = torch.randn(6, IN, device=gpu).half(), torch.zeros(6, OUT, device=gpu).half()
    module.slots[0] = adapter(4)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for slot in range(2):
            tables.write(slot)
        lora(y, x, module, segments([0, -1, 0], [1, 2, 3], gpu))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert y[0].any()
    assert not y[1:3].any()


@native
def test_a_graph_made_with_empty_slots_serves_those_filled_later(gpu: torch.device) -> None:
    warm(2, 20, torch.float16, gpu)
    (module,), tables = make(1, 2)
    x, y = torch.randn(6, IN, device=gpu).half(), torch.zeros(6, OUT, device=gpu).half()
    row_slots = torch.zeros(6, dtype=torch.int32, device=gpu)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        lora(y, x, module, recorded(row_slots))
    for slots in ([0, 1, -1, 0, 1, 0], [1, 1, 1, -1, 0, 1]):
        for slot in range(2):
            module.slots[slot] = adapter(4 + slot)
            tables.write(slot)
        row_slots.copy_(torch.tensor(slots))
        y.zero_()
        graph.replay()
        expected = torch.zeros(6, OUT, device=gpu)
        reference.lora(expected, x, module, rows_of(slots))
        torch.testing.assert_close(y.float(), expected, rtol=4e-3, atol=2e-2)


@pytest.mark.skipif(
    not NATIVE or torch.cuda.get_device_capability() < (9, 0), reason="launches overlap from Hopper"
)
def test_launches_that_overlap_change_no_bit(
    gpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = LoraModule([adapter(20, 4096, (4096, 1024)) for _ in range(2)], max_rank=20)
    x, y = torch.randn(40, 4096, device=gpu).half(), torch.zeros(40, 5120, device=gpu).half()
    found = []
    for overlap in (False, True):
        monkeypatch.setattr(implementation, "OVERLAP", overlap)
        found.append(y.clone())
        for _ in range(20):
            lora(found[-1], x, module, rows_of([0, 1] * 20))
    assert torch.equal(*found)
