"""The GPU's `step_inputs` compiles well, once for all steps; what it does: test_step_inputs.py."""

from __future__ import annotations

import pytest
import torch

from inferd_kernels.step_inputs import StepInputs, step_inputs
from tests.kernels.compiled import CAPABILITIES, Compile


def specimen(sequences: int, tokens: int) -> None:
    blocks = 131072 // 16
    longs = torch.empty(3, 16 * tokens, dtype=torch.int64)
    shorts = torch.empty(3, 16 * (sequences + tokens), dtype=torch.int32)
    out = StepInputs(
        input_ids=longs[0],
        positions=longs[1],
        slot_mapping=longs[2],
        row_slots=shorts[0],
        cu_seqlens_q=shorts[1],
        seq_lens=shorts[2],
        block_tables=torch.empty(256, blocks, dtype=torch.int32),
    )
    step_inputs(
        torch.empty(8 * sequences + tokens + 5, dtype=torch.int32),
        torch.empty(sequences, dtype=torch.int64),
        torch.empty(256, blocks, dtype=torch.int32),
        out,
        num_sequences=sequences,
        block_size=16,
    )


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_compiled(compiled: Compile, capability: int) -> None:
    (kernel,) = compiled(specimen, 64, 64, capability=capability)
    assert kernel.spills == kernel.stack == 0
    assert kernel.registers <= 64
    assert kernel.shared <= 16 << 10


def test_lengths_compile_nothing(compiled: Compile) -> None:
    sizes = [(1, 1), (16, 16), (64, 8192), (2, 2048)]
    kernels = [compiled(specimen, *size) for size in sizes]
    assert all(found == kernels[0] for found in kernels)
