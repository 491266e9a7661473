"""What adapters add to one linear layer of the model: their factors, by slot."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

MAX_PARTS = 3  # q, k and v
MAX_RANK = 256


@dataclass(frozen=True, slots=True)
class LoraPart:
    """The second factor of one projection among those fused into a layer.

    Args:
        offset: the projection's first column in the layer's output.
        b: [width, rank], best with a contiguous transpose, which kernels read (the CPU's make one
            where it is not); with the adapter's scaling folded in; of a's dtype, or float32 where a
            factor that is no power of two should not cost precision.
    """

    offset: int
    b: torch.Tensor


@dataclass(frozen=True, slots=True, eq=False)
class LoraWeights:
    """What one adapter adds to one layer. Never changed: slots share it freely; equal to itself.

    Args:
        a: [sum of the parts' ranks, in], the parts' first factors one after another, contiguous.
        parts: in a's order; their columns do not overlap. A projection that the adapter leaves
            alone has none, and ranks may differ.
    """

    a: torch.Tensor
    parts: tuple[LoraPart, ...]

    def __post_init__(self) -> None:
        assert sum(part.b.shape[1] for part in self.parts) == len(self.a), "ranks do not add up"

    @property
    def nbytes(self) -> int:
        return self.a.nbytes + sum(part.b.nbytes for part in self.parts)


@dataclass(slots=True)
class LoraModule:
    """One layer's adapters: slot → weights, None where the slot is empty or leaves it alone.

    Its owner fills and empties slots between steps, on the device that the layer runs on.
    `prepared` is what an implementation made of them, and looks after when they change; where steps
    are replayed and do not come by, the owner says so (`Tables`).

    Args:
        max_rank: of any part that will ever come; a GPU's buffers are made for it.
    """

    slots: list[LoraWeights | None] = field(default_factory=list)
    max_rank: int = MAX_RANK
    prepared: object = field(default=None, compare=False, repr=False)
