"""What the compilers make of adapters' kernels, in the shapes of an 8B model, and when they run."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
import torch

from inferd_kernels.lora import (
    LoraModule,
    LoraPart,
    LoraSegments,
    LoraWeights,
    gpu,
    lora,
    lora_embedding,
    warm,
)
from inferd_kernels.lora.gpu_tables import Tables
from tests.kernels.compiled import CAPABILITIES, SHARED_BYTES, Compile

SLOTS, MAX_RANK = 16, 64
HIDDEN, QKV, GATE_UP, VOCAB = 4096, (4096, 1024, 1024), (14336, 14336), 128256
CPU = torch.device("cpu")


def adapter(inputs: int, widths: tuple[int, ...], rank: int, dtype: torch.dtype) -> LoraWeights:
    parts, offset = [], 0
    for width in widths:
        parts.append(LoraPart(offset, torch.empty(rank, width, dtype=dtype).t()))
        offset += width
    return LoraWeights(torch.empty(rank * len(widths), inputs, dtype=dtype), tuple(parts))


def step(rows: int) -> LoraSegments:
    return LoraSegments(row_slots=torch.empty(rows, dtype=torch.int32))


def layer(
    rows: int,
    widths: tuple[int, ...],
    inputs: int = HIDDEN,
    rank: int = 16,
    dtype: torch.dtype = torch.bfloat16,
    y_dtype: torch.dtype | None = None,
) -> None:
    module = LoraModule([adapter(inputs, widths, rank, dtype)] * SLOTS, MAX_RANK)
    y = torch.empty(rows, sum(widths), dtype=y_dtype or dtype)
    lora(y, torch.empty(rows, inputs, dtype=dtype), module, step(rows))


def projections(rows: int) -> None:
    layer(rows, QKV)


def projections_in_fp16(rows: int) -> None:
    layer(rows, QKV, dtype=torch.float16)


def projections_in_fp32(rows: int) -> None:
    layer(rows, QKV, dtype=torch.float32)


def overlapping(rows: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu, "OVERLAP", True)
        projections(rows)


def logits(rows: int) -> None:
    layer(rows, (VOCAB,), y_dtype=torch.float32)


def tokens(rows: int) -> None:
    module = LoraModule([adapter(VOCAB, (HIDDEN,), 16, torch.bfloat16)] * SLOTS, MAX_RANK)
    y = torch.empty(rows, HIDDEN, dtype=torch.bfloat16)
    lora_embedding(y, torch.empty(rows, dtype=torch.int64), module, step(rows))


def warmed() -> None:
    warm(SLOTS, MAX_RANK, torch.bfloat16, CPU)


def served() -> None:
    """Steps of many lengths, with adapters of many ranks in layers of many shapes."""
    modules = [LoraModule([None] * SLOTS, MAX_RANK) for _ in range(3)]
    tables = Tables(modules, SLOTS, torch.bfloat16, CPU)
    for module in modules:
        module.slots[1] = adapter(HIDDEN, (HIDDEN,), 16, torch.bfloat16)
    tables.write(1)
    x = torch.empty(2, HIDDEN, dtype=torch.bfloat16)
    for module in modules:
        lora(torch.empty_like(x), x, module, step(2))
    for rows in (1, 2, 16, 17, 64, 256, 257, 1000, 8192):
        for rank in (1, 8, 16, 64):
            layer(rows, QKV, rank=rank)
            layer(rows, (HIDDEN,), GATE_UP[0], rank=rank)
        layer(rows, GATE_UP)
        logits(rows)
        tokens(rows)


@pytest.mark.parametrize(
    ("specimen", "rows", "capability"),
    [
        *product((projections,), (64, 8192), CAPABILITIES),
        *product((logits,), (64,), CAPABILITIES),
        (projections_in_fp16, 64, 90),
        (projections_in_fp32, 8192, 80),
        (tokens, 64, 90),
    ],
)
def test_registers_and_widths(
    compiled: Compile, specimen: Callable[[int], None], rows: int, capability: int
) -> None:
    kernels = {kernel.name: kernel for kernel in compiled(specimen, rows, capability=capability)}
    assert set(kernels) == {"order", "expand", "look_up" if specimen is tokens else "shrink"}
    for kernel in kernels.values():
        # A register or two, where ptxas prefers 128; more where there are no matrix units.
        assert kernel.spills <= (128 if specimen is projections_in_fp32 else 16), kernel.name
        assert kernel.shared <= SHARED_BYTES[capability] // 4, kernel.name  # four at a time
        assert not kernel.has("wgmma"), kernel.name  # one instruction for all tiles: see there
    wide = kernels["expand"]
    assert wide.widths("ld.global").count(16) >= 4
    assert 16 in wide.widths("st.global")
    assert wide.has("mma.sync") == (specimen is not projections_in_fp32)
    if "shrink" in kernels:
        assert "cp.async.cg.shared.global" in kernels["shrink"].ptx  # 16 bytes, ahead of their use
        assert kernels["shrink"].has("mma.sync") == (specimen is not projections_in_fp32)


def test_no_adapter_and_no_length_has_anything_compiled_anew(compiled: Compile) -> None:
    before = {kernel.ptx for kernel in compiled(warmed)}
    assert {kernel.ptx for kernel in compiled(served)} == before


def test_overlapping_launches_wait_before_they_read_what_the_first_writes(
    compiled: Compile,
) -> None:
    kernels = {kernel.name: kernel.ptx for kernel in compiled(overlapping, 64)}
    assert kernels["shrink"].index("griddepcontrol.launch_dependents") < (
        kernels["shrink"].index("ld.global")
    )
    before, _, behind = kernels["expand"].partition("griddepcontrol.wait")
    assert "ld.global.v4" in before  # y
    assert "mma.sync" in behind
    assert "st.global" not in before
    assert "griddepcontrol" not in kernels["order"]
