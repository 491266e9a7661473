"""Deterministic mode: chooses kernels that keep what `promise` says."""

from __future__ import annotations

import torch

from inferd.engines.native.promise import NOT_KEPT
from inferd.errors import StartError
from inferd_kernels.attention import ATTENTION
from inferd_kernels.dispatch import INVARIANT, prefer_invariant
from inferd_kernels.linear import LINEAR, LINEAR_F32
from inferd_kernels.rmsnorm import RMSNORM
from inferd_kernels.sampling import CHOOSE_LATER, SCORE


def prefer(wanted: bool, device_type: str) -> None:
    """Choose the implementations of this process, before a model loads.

    Raises StartError(unsupported) where an operation has none that keeps the promise on a GPU.
    """
    prefer_invariant(wanted)
    if not wanted or device_type != "cuda":
        return
    torch.backends.cuda.matmul.allow_tf32 = False
    if missing := variant(device_type):
        raise StartError(
            "unsupported",
            f"{NOT_KEPT}: {', '.join(missing)} would depend on the batch",
            hint="Start without --deterministic.",
        )


def variant(device_type: str) -> list[str]:
    """Operations whose rows could depend on their neighbours there, as they are chosen now."""
    sums = (ATTENTION, LINEAR, LINEAR_F32)  # whose usual kernels split them by the batch
    rows = (RMSNORM, CHOOSE_LATER, SCORE)  # whose kernels give a program to a row
    bad = [op.name for op in sums if not op.choice(device_type).endswith(INVARIANT)]
    return bad + [op.name for op in rows if op.choice(device_type) == "reference"]
