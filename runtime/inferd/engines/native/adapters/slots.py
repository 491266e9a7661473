"""Adapters on the device: what each slot holds in every layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from inferd.engines.native.adapters.reading import Factors
from inferd_kernels.lora import LoraModule, LoraPart, LoraWeights, warm
from inferd_kernels.lora.gpu_tables import Tables
from inferd_kernels.lora.module import MAX_RANK

ALIGN = 256  # bytes, as the device's allocator itself does


class Slots:
    """The slots of a model's layers; takes the layers over from whoever had them.

    On a CPU a slot shares its tensors with host memory and takes nothing. Elsewhere filling and
    emptying one waits for nothing: copies and memory follow the order of the stream, which must be
    that of the steps (see `gpu_tables`).

    Args:
        dtype: the model's.
        max_rank: of any adapter.
        apart: whether the device has a memory of its own; None: unless it is a CPU.
    """

    def __init__(
        self,
        modules: Mapping[str, LoraModule],
        num_slots: int,
        device: torch.device,
        dtype: torch.dtype,
        *,
        max_rank: int = MAX_RANK,
        apart: bool | None = None,
    ) -> None:
        self._modules = modules
        self._device = device
        self._apart = device.type != "cpu" if apart is None else apart
        self._names: list[str | None] = [None] * num_slots
        self._bytes = [0] * num_slots
        for module in modules.values():
            module.slots[:] = [None] * num_slots
            module.max_rank = max_rank
        self._tables: Tables | None = None
        if self._apart and num_slots:
            self._tables = Tables(modules.values(), num_slots, dtype, device)
        if device.type == "cuda" and num_slots:
            warm(num_slots, max_rank, dtype, device)

    @property
    def names(self) -> list[str]:
        """What the slots hold."""
        return [name for name in self._names if name is not None]

    @property
    def num_bytes(self) -> int:
        """On a device of its own."""
        return sum(self._bytes)

    def fill(self, slot: int, name: str, factors: Factors) -> None:
        """Put an adapter into a slot, in place of what was there.

        Raises RuntimeError where the device has no room; the slot is empty then.
        """
        self.clear(slot)
        placed, num_bytes = _place(factors, self._device) if self._apart else (factors, 0)
        for key, weights in placed.items():
            self._modules[key].slots[slot] = weights
        self._names[slot] = name
        self._bytes[slot] = num_bytes
        self._write(slot)

    def clear(self, slot: int) -> None:
        if self._names[slot] is None:
            return
        for module in self._modules.values():
            module.slots[slot] = None
        self._names[slot] = None
        self._bytes[slot] = 0
        self._write(slot)

    def remove(self, name: str) -> None:
        """Empty the slot of an adapter, if it has one."""
        if name in self._names:
            self.clear(self._names.index(name))

    def clear_all(self) -> None:
        for slot in range(len(self._names)):
            self.clear(slot)

    def _write(self, slot: int) -> None:
        if self._tables is not None:
            self._tables.write(slot)


def _place(factors: Factors, device: torch.device) -> tuple[dict[str, LoraWeights], int]:
    """An adapter's factors on the device, in one piece of its memory, and that piece's bytes. From
    page-locked memory nothing is waited for."""
    num_bytes = sum(_room(tensor) for tensor in _tensors(factors))
    memory = torch.empty(num_bytes, dtype=torch.uint8, device=device)
    used = 0

    def put(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal used
        place = memory[used : used + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        used += _room(tensor)
        return place.copy_(tensor, non_blocking=True)

    placed = {}
    for key, weights in factors.items():
        a = put(weights.a)
        parts = tuple(LoraPart(part.offset, put(part.b.t()).t()) for part in weights.parts)
        placed[key] = LoraWeights(a, parts)
    return placed, num_bytes


def _room(tensor: torch.Tensor) -> int:
    """Bytes."""
    return -(-tensor.nbytes // ALIGN) * ALIGN


def _tensors(factors: Factors) -> Iterator[torch.Tensor]:
    for weights in factors.values():
        yield weights.a
        yield from (part.b for part in weights.parts)
