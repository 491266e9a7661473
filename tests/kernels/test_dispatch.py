"""Which implementation runs where."""

from __future__ import annotations

from typing import Any

from inferd_kernels.activation import GATED
from inferd_kernels.attention import ATTENTION
from inferd_kernels.dispatch import PREFERENCE, Op, only
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


IMPLEMENTATIONS = {"double": shift}  # of this module, as one of implementations


def test_the_best_implementation_that_exists_is_chosen() -> None:
    op = Op("double", double, cpu=__name__)
    assert (op.choice("cpu"), op.on("cpu")) == ("cpu", shift)
    assert (op.choice("cuda"), op.on("cuda")) == ("reference", double)
    assert op.on("mps") is double


def test_what_a_module_lacks_runs_the_reference() -> None:
    op = Op("triple", double, cpu=__name__)
    assert (op.choice("cpu"), op.on("cpu")) == ("reference", double)


def test_one_implementation_alone() -> None:
    op = Op("double", double, cpu=__name__)
    assert op.on("cpu") is shift
    with only("reference"):
        assert op.on("cpu") is double
        with only("cpu"):
            assert op.on("cuda") is shift
        assert op.on("cuda") is double
    assert op.on("cpu") is shift


def test_every_operation_names_what_can_be_chosen() -> None:
    known = {name for names in PREFERENCE.values() for name in names}
    for op in OPS:
        assert op.modules.keys() <= known
    assert len({op.name for op in OPS}) == len(OPS)
