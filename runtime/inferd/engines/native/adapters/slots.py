"""Adapters on the device: what each slot holds in every layer."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from inferd.engines.native.adapters.reading import Factors
from inferd_kernels.lora import LoraModule, LoraPart, LoraWeights


class Slots:
    """The slots of a model's layers; takes the layers over from whoever had them.

    On a CPU a slot shares its tensors with host memory and takes nothing.
    """

    def __init__(
        self, modules: Mapping[str, LoraModule], num_slots: int, device: torch.device
    ) -> None:
        self._modules = modules
        self._device = device
        self._names: list[str | None] = [None] * num_slots
        self._bytes = [0] * num_slots
        for module in modules.values():
            module.slots[:] = [None] * num_slots

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
        own = self._device.type != "cpu"
        placed = {key: _on(self._device, one) if own else one for key, one in factors.items()}
        for key, weights in placed.items():
            self._modules[key].slots[slot] = weights
        self._names[slot] = name
        self._bytes[slot] = sum(one.nbytes for one in placed.values()) if own else 0

    def clear(self, slot: int) -> None:
        for module in self._modules.values():
            module.slots[slot] = None
        self._names[slot] = None
        self._bytes[slot] = 0

    def remove(self, name: str) -> None:
        """Empty the slot of an adapter, if it has one."""
        if name in self._names:
            self.clear(self._names.index(name))

    def clear_all(self) -> None:
        for slot in range(len(self._names)):
            self.clear(slot)


def _on(device: torch.device, weights: LoraWeights) -> LoraWeights:
    parts = tuple(
        LoraPart(part.offset, part.b.to(device, non_blocking=True)) for part in weights.parts
    )
    return LoraWeights(weights.a.to(device, non_blocking=True), parts)
