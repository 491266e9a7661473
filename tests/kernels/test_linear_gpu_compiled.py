"""What the compilers make of the matrix products, at the shapes of Llama-3.1-8B, Qwen3-0.6B,
Mixtral-8x7B and Qwen3-30B-A3B."""

from __future__ import annotations

import re

import pytest
import torch

from inferd_kernels.grouped_linear import group_rows, grouped_linear, grouped_sum
from inferd_kernels.linear import gpu, gpu_invariant, gpu_tiles
from tests.kernels.compiled import CAPABILITIES, SHARED_BYTES, Compile, Compiled

ROWS = (1, 64, 256, 8192)
"""Of a step: each is multiplied in another tile with some weight or other."""
SHAPES = [(4096, 6144), (4096, 28672), (14336, 4096), (1024, 4096), (3072, 1024)]
HEAD = (4096, 128256)
MIXTRAL = (8, 4096, 28672)
QWEN = (128, 768, 2048)

each_capability = pytest.mark.parametrize("capability", CAPABILITIES)


def on(capability: int) -> None:
    """From now on tiles are chosen as on that GPU."""
    found = (108 if capability == 80 else 132, SHARED_BYTES[capability])
    setattr(gpu_tiles, "multiprocessors", lambda device: found)  # noqa: B010
    gpu_tiles.choose.cache_clear()


def products(capability: int, rows: int, dtype: str) -> None:
    on(capability)
    for width, outputs in SHAPES:
        weight = torch.empty(outputs, width, dtype=getattr(torch, dtype))
        gpu_invariant.linear(weight.new_empty(rows, width), weight, weight.new_empty(outputs))


def logits(capability: int, rows: int) -> None:
    on(capability)
    weight = torch.empty(HEAD[1], HEAD[0], dtype=torch.bfloat16)
    gpu_invariant.linear_f32(weight.new_empty(rows, HEAD[0]), weight)


def few_rows(rows: int) -> None:
    for width, outputs in SHAPES:
        weight = torch.empty(outputs, width, dtype=torch.bfloat16)
        gpu.skinny(weight.new_empty(rows, width), weight, weight.new_empty(outputs))


def experts(capability: int, groups: int, width: int, outputs: int, rows: int) -> None:
    on(capability)
    weight = torch.empty(groups, outputs, width, dtype=torch.bfloat16)
    offsets = torch.empty(groups + 1, dtype=torch.int32)
    grouped_linear(weight.new_empty(rows, width), weight, offsets)


def arrangement(rows: int, experts: int) -> None:
    group_rows(torch.empty(rows, dtype=torch.int64), experts)
    places = torch.empty(rows // 8, 8, dtype=torch.int64)
    grouped_sum(torch.empty(rows, 2048, dtype=torch.bfloat16), places, torch.empty(rows // 8, 8))


def fits(kernel: Compiled) -> None:
    assert max(kernel.spills, kernel.stack) <= (0 if kernel.capability == 90 else 8)  # bytes
    assert kernel.shared <= SHARED_BYTES[kernel.capability]
    assert not kernel.serialized


def streams(kernel: Compiled) -> None:
    """Reads its operands in pieces of 16 bytes, past the registers."""
    fits(kernel)
    assert set(re.findall(r"cp\.async\.c[ag]\.shared\.global .*?(0x\w+)", kernel.ptx)) == {"0x10"}
    assert set(kernel.widths("st.global")) == {16}


def one_chain(kernel: Compiled) -> None:
    """An output's additions are all done by the same tensor core instruction, one after the other:
    the m and k of all tiles are the same, and nothing is added up elsewhere."""
    if kernel.capability == 90:
        used = re.findall(r"wgmma\.mma_async\.sync\.aligned\.(\S+) (\{.*?\})", kernel.ptx)
        assert {re.sub(r"n\d+", "n", name) for name, _ in used} == {"m64nk16.f32.bf16.bf16"}
        assert len({accumulators for _, accumulators in used}) == 1
        assert not kernel.has("mma.sync")
    else:
        used = re.findall(r"mma\.sync\.aligned\.(\S+)", kernel.ptx)
        assert set(used) == {"m16n8k16.row.col.f32.bf16.bf16.f32"}
    assert not re.search(r"\b(?:add|fma)\.\S*f32", kernel.ptx)


@each_capability
@pytest.mark.parametrize("rows", ROWS)
def test_products(compiled: Compile, rows: int, capability: int) -> None:
    kernels = compiled(products, capability, rows, "bfloat16", capability=capability)
    assert kernels
    for kernel in kernels:
        streams(kernel)
        assert kernel.has("wgmma.mma_async" if capability == 90 else "mma.sync")


@each_capability
@pytest.mark.parametrize("rows", ROWS)
def test_sums_are_one_chain(compiled: Compile, rows: int, capability: int) -> None:
    """Seen where nothing is added afterwards."""
    (kernel,) = compiled(logits, capability, rows, capability=capability)
    streams(kernel)
    one_chain(kernel)


@each_capability
def test_products_of_float32(compiled: Compile, capability: int) -> None:
    kernels = compiled(products, capability, 512, "float32", capability=capability)
    assert kernels
    for kernel in kernels:
        fits(kernel)
        assert not kernel.has("wgmma")  # or it would be tf32
        assert not kernel.has("mma.sync")


@each_capability
def test_few_rows(compiled: Compile, capability: int) -> None:
    kernels = compiled(few_rows, 16, capability=capability)
    assert {kernel.name for kernel in kernels} == {"product", "add_splits"}
    for kernel in kernels:
        (streams if kernel.name == "product" else fits)(kernel)


@each_capability
@pytest.mark.parametrize(
    ("shape", "rows"), [(MIXTRAL, 2), (MIXTRAL, 16384), (QWEN, 8), (QWEN, 512), (QWEN, 65536)]
)
def test_experts(
    compiled: Compile, shape: tuple[int, int, int], rows: int, capability: int
) -> None:
    (kernel,) = compiled(experts, capability, *shape, rows, capability=capability)
    streams(kernel)
    one_chain(kernel)


@each_capability
def test_routing(compiled: Compile, capability: int) -> None:
    kernels = compiled(arrangement, 512, 128, capability=capability)
    assert [kernel.name for kernel in kernels] == ["count_before", "sum_rows"]
    for kernel in kernels:
        fits(kernel)
    assert 16 in kernels[1].widths("ld.global")
    assert kernels[1].widths("st.global") == [16]


def test_compiled_once_for_all_lengths_anew(compiled: Compile) -> None:
    for specimen, args in ((logits, (90,)), (experts, (90, *QWEN))):
        first = compiled(specimen, *args, 513)
        for rows in (514, 528, 544):
            assert compiled(specimen, *args, rows) == first
    first = compiled(arrangement, 512, 128)
    assert compiled(arrangement, 8, 128) == first
