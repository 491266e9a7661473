"""The reports that compile tests rely on."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl

from tests.kernels.compiled import Compile


@triton.jit  # type: ignore[untyped-decorator]
def _spread(x, out, stride, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Needs all of x at once, for the sum."""
    columns = tl.arange(0, BLOCK)
    values = tl.load(x + columns * stride)
    tl.store(out + columns, values - tl.sum(values))


def spread(block: int, stride: int) -> None:
    x = torch.empty(block * stride)
    for programs in (1, 2):  # the same kernel
        _spread[(programs,)](x, torch.empty(block), stride, block, num_warps=1)


def crowded() -> None:
    _spread[(1,)](torch.empty(4096), torch.empty(4096), 1, 4096, num_warps=1, maxnreg=64)


def wrong() -> None:
    raise ValueError("too few hats")


def test_widths_and_capabilities(compiled: Compile) -> None:
    for capability, target in ((80, ".target sm_80"), (90, ".target sm_90a")):
        (kernel,) = compiled(spread, 128, 1, capability=capability)
        assert (kernel.name, kernel.capability, kernel.warps) == ("_spread", capability, 1)
        assert target in kernel.ptx
        assert kernel.widths("ld.global") == kernel.widths("st.global") == [16]
        assert kernel.has("ld.global.v4")
        assert not kernel.has("wgmma")
        assert 8 < kernel.registers < 128
        assert kernel.spills == kernel.stack == 0


def test_a_stride_makes_narrow_loads(compiled: Compile) -> None:
    (kernel,) = compiled(spread, 128, 2)
    assert set(kernel.widths("ld.global")) == {4}


def test_too_many_registers_are_spills(compiled: Compile) -> None:
    (kernel,) = compiled(crowded)
    assert kernel.registers <= 64
    assert kernel.spills >= 256


def test_what_goes_wrong_is_told_and_the_next_compiles(compiled: Compile) -> None:
    with pytest.raises(AssertionError, match="too few hats"):
        compiled(wrong)
    assert compiled(spread, 64, 1)
