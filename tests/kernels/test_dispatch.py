"""Which implementation runs where."""

from __future__ import annotations

from typing import Any

from inferd_kernels.activation import GATED
from inferd_kernels.attention import ATTENTION
from inferd_kernels.dispatch import PREFERENCE, Op
from inferd_kernels.kv_write import KV_WRITE
from inferd_kernels.linear import LINEAR, LINEAR_F32
from inferd_kernels.lora import LORA, LORA_EMBEDDING
from inferd_kernels.rmsnorm import ADD_RMSNORM, RMSNORM
from inferd_kernels.rope import ROPE

POINTWISE: list[Op[..., Any]] = [RMSNORM, ADD_RMSNORM, ROPE, GATED]
ADAPTERS: list[Op[..., Any]] = [LORA, LORA_EMBEDDING]
OPS: list[Op[..., Any]] = [ATTENTION, KV_WRITE, LINEAR, LINEAR_F32, *POINTWISE, *ADAPTERS]


def double(x: int) -> int:
    return 2 * x


def shift(x: int) -> int:
    return x << 1


def test_the_best_implementation_that_exists_is_chosen() -> None:
    op = Op("double", {"reference": double, "cpu": shift})
    assert op.choice("cpu") == "cpu"
    assert op.on("cpu") is shift
    assert op.choice("cuda") == "reference"
    assert op.on("cuda") is double
    assert op.on("mps") is double


def test_every_operation_has_a_reference_and_names_that_can_be_chosen() -> None:
    known = {name for names in PREFERENCE.values() for name in names}
    for op in OPS:
        assert "reference" in op.implementations
        assert op.implementations.keys() <= known
    assert len({op.name for op in OPS}) == len(OPS)
