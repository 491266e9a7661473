"""Deterministic mode: chooses kernels that keep what `promise` says."""

from __future__ import annotations

from typing import Any

from inferd.engines.native.promise import NOT_KEPT
from inferd.errors import StartError
from inferd_kernels.attention import ATTENTION
from inferd_kernels.dispatch import INVARIANT, Op, prefer_invariant
from inferd_kernels.grouped_linear import GROUPED_LINEAR
from inferd_kernels.linear import LINEAR, LINEAR_F32
from inferd_kernels.lora import LORA, LORA_EMBEDDING
from inferd_kernels.rmsnorm import ADD_RMSNORM, RMSNORM
from inferd_kernels.sampling import CHOOSE_LATER, SCORE

_SPLIT: tuple[Op[..., Any], ...] = (ATTENTION, LINEAR, LINEAR_F32)
"""Their usual kernels share sums out by the batch."""
_BY_ROWS: tuple[Op[..., Any], ...] = (
    *(RMSNORM, ADD_RMSNORM, GROUPED_LINEAR, LORA, LORA_EMBEDDING),
    *(CHOOSE_LATER, SCORE),
)
"""Our kernels for them compute a row alone; torch's may not."""


def prefer(wanted: bool, device_type: str) -> None:
    """Choose the implementations of this process, before a model loads.

    Raises StartError(unsupported) where an operation has none that keeps the promise on a GPU.
    """
    prefer_invariant(wanted)
    if not wanted or device_type != "cuda":
        return
    if missing := variant(device_type):
        raise StartError(
            "unsupported",
            f"{NOT_KEPT}: {', '.join(missing)} would depend on the batch",
            hint="Start without --deterministic.",
        )


def variant(device_type: str) -> list[str]:
    """Operations whose rows could depend on their neighbours there, as they are chosen now."""
    bad = [op for op in _SPLIT if not op.choice(device_type).endswith(INVARIANT)]
    bad += [op for op in _BY_ROWS if op.choice(device_type) == "reference"]
    return [op.name for op in bad]
