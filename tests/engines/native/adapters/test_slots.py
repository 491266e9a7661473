"""Slots on a device of its own, for which the CPU stands in: what they hold, and what it takes."""

from __future__ import annotations

import weakref

import pytest
import torch

from inferd.engines.native.adapters import slots as implementation
from inferd.engines.native.adapters.slots import ALIGN, Slots
from inferd_kernels.lora import LoraModule, LoraPart, LoraWeights
from inferd_kernels.lora.gpu_tables import Table

CPU = torch.device("cpu")
DTYPE = torch.float16


def factors(rank: int) -> dict[str, LoraWeights]:
    """Of two of three layers."""
    wide = LoraWeights(
        torch.randn(2 * rank, 24).to(DTYPE),
        tuple(LoraPart(offset, torch.randn(rank, 16).to(DTYPE).t()) for offset in (0, 32)),
    )
    return {"qkv": wide, "o": LoraWeights(wide.a[:rank].clone(), wide.parts[:1])}


def make(*, apart: bool) -> tuple[dict[str, LoraModule], Slots]:
    modules = {key: LoraModule() for key in ("qkv", "o", "down")}
    return modules, Slots(modules, 3, CPU, DTYPE, max_rank=8, apart=apart)


def test_an_adapter_is_copied_into_one_piece_and_its_bytes_count() -> None:
    torch.manual_seed(0)
    modules, slots = make(apart=True)
    given = factors(5)
    slots.fill(1, "a", given)
    assert all(module.max_rank == 8 for module in modules.values())
    placed_tensors = []
    for key, weights in given.items():
        placed = modules[key].slots[1]
        assert placed is not None
        assert torch.equal(placed.a, weights.a)
        placed_tensors.append(placed.a)
        for ours, theirs in zip(placed.parts, weights.parts, strict=True):
            assert ours.offset == theirs.offset
            assert torch.equal(ours.b, theirs.b)
            assert ours.b.t().is_contiguous()
            assert ours.b.data_ptr() != theirs.b.data_ptr()
            placed_tensors.append(ours.b)
    assert len({each.untyped_storage().data_ptr() for each in placed_tensors}) == 1
    assert all(each.storage_offset() * each.itemsize % ALIGN == 0 for each in placed_tensors), (
        "what lies elsewhere is copied once more for the kernels"
    )
    tensors = [2 * 10 * 24, 160, 160, 2 * 5 * 24, 160]
    assert slots.num_bytes == sum(-(-size // ALIGN) * ALIGN for size in tensors)
    assert modules["down"].slots[1] is None
    assert slots.names == ["a"]


def test_what_leaves_a_slot_gives_its_memory_back() -> None:
    modules, slots = make(apart=True)
    held = []
    for slot, name in enumerate(("a", "b", "c")):
        slots.fill(slot, name, factors(2))
        placed = modules["qkv"].slots[slot]
        assert placed is not None
        held.append(weakref.ref(placed.a))
    del placed
    once = slots.num_bytes // 3
    slots.fill(0, "d", factors(2))
    slots.remove("b")
    slots.remove("nobody")
    assert [each() is None for each in held] == [True, True, False]
    assert (slots.num_bytes, slots.names) == (2 * once, ["d", "c"])
    slots.clear_all()
    assert held[2]() is None
    assert (slots.num_bytes, slots.names) == (0, [])
    assert not any(any(module.slots) for module in modules.values())


def test_tables_say_what_slots_hold_and_stay_where_they_are() -> None:
    modules, slots = make(apart=True)
    tables = {key: module.prepared for key, module in modules.items()}
    for name in ("a", "b"):
        slots.fill(2, name, factors(3))
        for key, module in modules.items():
            table = tables[key]
            assert isinstance(table, Table)
            assert module.prepared is table
            one = module.slots[2]
            assert table.rows[:, 0].tolist() == [0, 0, 0 if one is None else one.a.data_ptr()]
    slots.clear(2)
    for table in tables.values():
        assert isinstance(table, Table)
        assert not table.rows.any()


def test_no_room_leaves_the_slot_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    modules, slots = make(apart=True)
    slots.fill(0, "a", factors(2))

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(implementation, "_place", full)
    with pytest.raises(RuntimeError, match="no room"):
        slots.fill(0, "b", factors(2))
    assert (slots.num_bytes, slots.names) == (0, [])
    table = modules["qkv"].prepared
    assert isinstance(table, Table)
    assert modules["qkv"].slots[0] is None
    assert not table.rows.any()


def test_on_a_cpu_host_memory_is_shared() -> None:
    modules, slots = make(apart=False)
    given = factors(2)
    slots.fill(0, "a", given)
    assert modules["o"].slots[0] is given["o"]
    assert modules["o"].prepared is None
    assert slots.num_bytes == 0
