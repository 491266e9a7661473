"""Which implementation runs where."""

from __future__ import annotations

from typing import Any

import pytest

from inferd_kernels import gpu
from inferd_kernels.activation import GATED
from inferd_kernels.attention import ATTENTION
from inferd_kernels.dispatch import INVARIANT, PREFERENCE, Op, only, prefer_invariant
from inferd_kernels.elementwise import ADD, SCALE
from inferd_kernels.embedding import EMBEDDING
from inferd_kernels.grouped_linear import GROUP_ROWS, GROUPED_LINEAR, GROUPED_SUM
from inferd_kernels.kv_write import KV_WRITE
from inferd_kernels.linear import LINEAR, LINEAR_F32
from inferd_kernels.lora import LORA, LORA_EMBEDDING
from inferd_kernels.rmsnorm import ADD_RMSNORM, RMSNORM
from inferd_kernels.rope import ROPE, ROPE_KV_WRITE
from inferd_kernels.sampling import ADJUST, CHOOSE, CHOOSE_LATER, SAMPLE, SCORE
from inferd_kernels.step_inputs import STEP_INPUTS

POINTWISE: list[Op[..., Any]] = [RMSNORM, ADD_RMSNORM, ROPE, GATED, ADD, SCALE, EMBEDDING]
CACHE: list[Op[..., Any]] = [KV_WRITE, ROPE_KV_WRITE, ATTENTION, STEP_INPUTS]
PRODUCTS: list[Op[..., Any]] = [LINEAR, LINEAR_F32, GROUP_ROWS, GROUPED_LINEAR, GROUPED_SUM]
ADAPTERS: list[Op[..., Any]] = [LORA, LORA_EMBEDDING]
SAMPLING: list[Op[..., Any]] = [ADJUST, SAMPLE, SCORE, CHOOSE, CHOOSE_LATER]
OPS = [*POINTWISE, *CACHE, *PRODUCTS, *ADAPTERS, *SAMPLING]


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
        assert {name.removesuffix(INVARIANT) for name in op.modules} <= known
    assert len({op.name for op in OPS}) == len(OPS)


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_every_operation_runs_triton_on_a_gpu(op: Op[..., Any]) -> None:
    assert op.choice("cuda") == "gpu"
    prefer_invariant(True)
    try:
        assert op.choice("cuda") == f"gpu{INVARIANT if op.name in BREAKING else ''}"
    finally:
        prefer_invariant(False)


BREAKING = {"attention", "linear", "linear_f32"}
"""Whose usual implementations depend on what is beside a row."""


def test_without_triton_plain_torch_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "present", lambda: False)
    assert {op.choice("cuda") for op in OPS} == {"reference"}
    assert gpu.description() == "reference (Triton is not installed)"


def test_what_runs_on_a_gpu_is_told_with_its_version() -> None:
    assert gpu.description().startswith("triton 3.")
