"""What the compilers make of the GPU's sampling, in the shapes of Llama 3.1 and Qwen 3."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from inferd_kernels.sampling import Adjustment, Draw, Row, Want, choose_later
from tests.kernels.compiled import CAPABILITIES, SHARED_BYTES, Compile

READS = {"scan", "weigh", "collect", "race", "tally"}
"""Kernels that read whole rows."""


def every_kernel(rows: int, vocab: int) -> None:
    """A step in which each kernel has something to do."""
    kinds = [
        Row(Draw(temperature=0.7, top_p=0.9), Want(5, (1, 2), True)),
        Row(Draw(top_k=20), None, Adjustment(masked_ids=np.array([1]))),
    ]
    choose_later(torch.empty(rows, vocab), [kinds[n % 2] for n in range(rows)])


@pytest.mark.parametrize("vocab", [128_256, 151_936])
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_registers_suffice_and_rows_are_read_in_16_bytes(
    compiled: Compile, capability: int, vocab: int
) -> None:
    kernels = compiled(every_kernel, 64, vocab, capability=capability)
    assert {kernel.name for kernel in kernels} == {*READS, "touch", "finish", "cut", "report"}
    kernels += compiled(every_kernel, 1, vocab, capability=capability)  # which is not adjusted
    for kernel in kernels:
        assert kernel.spills <= 8, kernel.name  # a register, by some versions of ptxas
        assert kernel.shared <= SHARED_BYTES[capability]
        if kernel.name in READS:
            assert 16 in kernel.widths("ld.global"), kernel.name
        assert not kernel.has("atom.global.gpu.relaxed.add.f32"), "sums would have any order"


def test_no_number_of_rows_compiles_anew(compiled: Compile) -> None:
    def ptx(rows: int) -> set[str]:
        return {kernel.ptx for kernel in compiled(every_kernel, rows, 151_936)}

    assert ptx(2) == ptx(3) == ptx(16) == ptx(255)
