"""What the compilers make of the GPU's attention, for models as they are served."""

from __future__ import annotations

import pytest
import torch

from inferd_kernels.attention import attention, gpu
from inferd_kernels.dispatch import prefer_invariant
from tests.kernels.compiled import CAPABILITIES, SHARED_BYTES, Compile, Compiled

BLOCK = 16
SMALL = 99 << 10
"""Bytes of shared memory that a program of an RTX 4090, L4 or A10 can have."""
MULTIPROCESSOR = {80: 164 << 10, 90: 228 << 10}
"""Bytes of shared memory of one, a kibibyte of which each of its programs takes besides."""


def attend(
    batch: int,
    rows: int,
    context: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    window: int,
    softcap: float,
    invariant: bool = False,
) -> None:
    kind = torch.bfloat16
    blocks = context // BLOCK
    cache = (batch * blocks, BLOCK, kv_heads, head_dim)
    fused = torch.empty(batch * rows, (heads + 2 * kv_heads) * head_dim, dtype=kind)
    prefer_invariant(invariant)
    try:
        attention(
            fused[:, : heads * head_dim].view(-1, heads, head_dim),
            torch.empty(cache, dtype=kind),
            torch.empty(cache, dtype=kind),
            torch.empty(batch, blocks, dtype=torch.int32),
            torch.empty(batch + 1, dtype=torch.int32),
            torch.empty(batch, dtype=torch.int32),
            max_seqlen_q=rows,
            max_seqlen_k=context,
            scale=head_dim**-0.5,
            window=window,
            softcap=softcap,
        )
    finally:
        prefer_invariant(False)


def steps(invariant: bool, *sizes: int) -> None:
    """Decode and prefill of so many sequences with so long contexts."""
    for batch, context in zip(sizes[::2], sizes[1::2], strict=True):
        attend(batch, 1, context, *MODELS["8b"], invariant)
        attend(batch, 5 + batch, context, *MODELS["8b"], invariant)


MODELS: dict[str, tuple[int, int, int, int, float]] = {
    "8b": (32, 8, 128, 0, 0.0),
    "0.6b": (16, 8, 128, 0, 0.0),
    "gemma": (16, 8, 256, 4096, 50.0),
}
"""Query heads, KV heads, their size, window, softcap."""
CASES = [*((name, 90) for name in MODELS), ("8b", 80)]


def check(kernel: Compiled, together: int) -> None:
    """It reads the caches ahead, 16 bytes at a time, and `together` programs fit into a
    multiprocessor."""
    assert kernel.ptx.count("cp.async.cg") >= 16, "which copies 16 bytes"
    assert not kernel.serialized
    assert kernel.shared <= SHARED_BYTES[kernel.capability]
    assert together * (kernel.shared + 1024) <= MULTIPROCESSOR[kernel.capability]
    assert together * kernel.warps * 32 * kernel.registers <= 65536


@pytest.mark.parametrize(("name", "capability"), CASES)
def test_decode(compiled: Compile, name: str, capability: int) -> None:
    decode, combine = compiled(attend, 64, 1, 8192, *MODELS[name], capability=capability)
    assert (decode.name, combine.name) == ("decode", "combine")
    assert decode.spills == combine.spills == 0
    assert decode.has("mma.sync")
    check(decode, 3 if capability == 90 else 2)


@pytest.mark.parametrize(("name", "capability"), CASES)
def test_prefill(compiled: Compile, name: str, capability: int) -> None:
    found = compiled(attend, 2, 8192, 8192, *MODELS[name], capability=capability)
    prefill = {kernel.name: kernel for kernel in found}["prefill"]
    check(prefill, 1)
    assert prefill.widths("st.global").count(16) >= 8
    if capability == 90:
        assert prefill.has("wgmma.mma_async")
        assert prefill.spills <= 64, "around the loops, not in them"
    else:  # the older units want both factors in registers
        assert prefill.has("mma.sync")
        assert prefill.spills < 512


def small(model: str) -> None:
    """Prefill on a GPU whose programs have less shared memory than an H100's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu, "multiprocessors", lambda _: (128, SMALL))
        attend(2, 8192, 8192, *MODELS[model])


@pytest.mark.parametrize("model", MODELS)
def test_prefill_fits_into_a_smaller_gpu(compiled: Compile, model: str) -> None:
    found = compiled(small, model, capability=89)
    assert "prefill" in {kernel.name for kernel in found}
    for kernel in found:
        assert kernel.shared <= SMALL, kernel.name
        assert kernel.spills < 512, kernel.name


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_a_few_rows_behind_a_long_prefix(compiled: Compile, capability: int) -> None:
    _, unite = compiled(attend, 1, 16, 8192, *MODELS["8b"], capability=capability)
    assert unite.name == "unite"
    assert unite.spills == 0
    assert unite.widths("ld.global").count(16) >= 4


@pytest.mark.parametrize(("name", "capability"), CASES)
def test_invariant(compiled: Compile, name: str, capability: int) -> None:
    attention, join = compiled(attend, 64, 1, 8192, *MODELS[name], True, capability=capability)
    assert (attention.name, join.name) == ("_attend", "_join")
    check(attention, 2 if name != "gemma" else 1)
    assert attention.has("wgmma.mma_async" if capability == 90 else "mma.sync")
    assert attention.spills < (256 if capability == 90 else 1024), "where spans are joined"
    assert join.spills == 0


def test_a_step_of_another_size_needs_no_other_kernel(compiled: Compile) -> None:
    for invariant in (False, True):
        first = compiled(steps, invariant, 64, 1024)
        both = compiled(steps, invariant, 64, 1024, 1, 80)
        assert len(both) == len(first)
