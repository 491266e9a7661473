"""The GPU's `rope`, `kv_write` and `rope_kv_write` do what the references do, and compile well."""

from __future__ import annotations

import pytest
import torch

from inferd_kernels import layout
from inferd_kernels.kv_write import kv_write
from inferd_kernels.kv_write import reference as kv_write_reference
from inferd_kernels.rope import reference, rope, rope_kv_write
from tests.kernels.compiled import CAPABILITIES, Compile
from tests.kernels.gpu_device import DTYPES

TOLERANCE = {torch.float32: 2e-7, torch.float16: 1e-3, torch.bfloat16: 8e-3}
POSITIONS, BLOCKS, BLOCK = 40, 3, 4
BF16 = torch.bfloat16


class Inputs:
    """Heads of a fused projection, an empty cache, and what is around them: NaN."""

    def __init__(
        self, dtype: torch.dtype, device: torch.device, heads: tuple[int, int], size: int, half: int
    ) -> None:
        torch.manual_seed(sum(heads) * size + half)
        rows, (q_heads, k_heads) = 3, heads
        self.fused = torch.full((rows, (q_heads + 2 * k_heads) * size + 3), torch.nan).to(dtype)
        self.fused = self.fused.to(device)
        inner = self.fused[:, 1:-2].view(rows, -1, size)
        inner.copy_(torch.randn(inner.shape))
        self.q, self.k, self.v = torch.split(inner, [q_heads, k_heads, k_heads], 1)
        self.positions = torch.tensor([POSITIONS - 1, 0, 7], device=device)
        angles = torch.rand(POSITIONS, half, device=device) * 6
        self.angles = (angles.cos(), angles.sin())
        shape = (BLOCKS, BLOCK, k_heads, size)
        self.cache = layout.allocate(*shape, dtype=dtype, device=device)
        for each in self.cache:
            each.fill_(torch.nan)
        self.slots = torch.tensor([9, 0, 7], device=device)


def pair(*args: object) -> tuple[Inputs, Inputs]:
    """Twice the same."""
    return Inputs(*args), Inputs(*args)  # type: ignore[arg-type]


def check(found: Inputs, expected: Inputs) -> None:
    tolerance = TOLERANCE[found.q.dtype]
    torch.testing.assert_close(
        found.fused, expected.fused, rtol=tolerance, atol=2 * tolerance, equal_nan=True
    )
    for ours, theirs in zip(found.cache, expected.cache, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=2 * tolerance, equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("heads", "size", "half"), [((1, 1), 2, 1), ((3, 2), 8, 4), ((5, 1), 12, 3), ((4, 3), 80, 16)]
)
def test_rope(
    gpu: torch.device, dtype: torch.dtype, heads: tuple[int, int], size: int, half: int
) -> None:
    found, expected = pair(dtype, gpu, heads, size, half)
    rope(found.q, found.k, found.positions, *found.angles)
    reference.rope(expected.q, expected.k, expected.positions, *expected.angles)
    check(found, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("heads", "size", "half"), [((3, 2), 8, 4), ((5, 1), 12, 3), ((10, 9), 256, 100)]
)
def test_rope_with_writing(
    gpu: torch.device, dtype: torch.dtype, heads: tuple[int, int], size: int, half: int
) -> None:
    found, expected = pair(dtype, gpu, heads, size, half)
    for run, x in ((rope_kv_write, found), (reference.rope_kv_write, expected)):
        run(x.q, x.k, x.v, x.positions, *x.angles, *x.cache, x.slots)
    check(found, expected)
    written = layout.flat(found.cache[0])[found.slots]
    assert torch.equal(written, found.k), "what is kept is not what was turned"
    assert torch.equal(layout.flat(found.cache[1])[found.slots], found.v)


@pytest.mark.parametrize("dtype", [*DTYPES, torch.bfloat16])
@pytest.mark.parametrize(("heads", "size"), [(1, 1), (2, 5), (9, 256)])
def test_writing(gpu: torch.device, dtype: torch.dtype, heads: int, size: int) -> None:
    found, expected = pair(dtype, gpu, (1, heads), size, 0)
    for run, x in ((kv_write, found), (kv_write_reference.kv_write, expected)):
        run(x.k, x.v, *x.cache, x.slots)
        assert int(x.cache[0].isfinite().sum()) == 3 * heads * size
    torch.testing.assert_close(found.cache, expected.cache, rtol=0, atol=0, equal_nan=True)


def test_padding_rows_share_a_slot(gpu: torch.device) -> None:
    x = Inputs(torch.float32, gpu, (2, 2), 8, 4)
    x.slots[1:] = 11
    rope_kv_write(x.q, x.k, x.v, x.positions, *x.angles, *x.cache, x.slots)
    assert torch.equal(layout.flat(x.cache[0])[9], x.k[0])
    assert int(x.cache[0].isfinite().sum()) == 2 * 2 * 8


def test_no_rows(gpu: torch.device) -> None:
    x = Inputs(torch.float32, gpu, (2, 2), 8, 4)
    none = (x.q[:0], x.k[:0], x.v[:0], x.positions[:0])
    rope_kv_write(*none, *x.angles, *x.cache, x.slots[:0])
    rope(x.q[:0], x.k[:0], x.positions[:0], *x.angles)
    kv_write(x.k[:0], x.v[:0], *x.cache, x.slots[:0])
    assert not x.cache[0].isfinite().any()


def specimen(rows: int, q_heads: int, k_heads: int, dims: int, half: int) -> None:
    """As a layer calls it; and its parts."""
    fused = torch.empty(rows, q_heads + 2 * k_heads, dims, dtype=BF16)
    q, k, v = torch.split(fused, [q_heads, k_heads, k_heads], 1)
    cos, sin = torch.empty(2, 131072, half)
    places = torch.empty(2, rows, dtype=torch.int64)
    shape = (4, 16, k_heads, dims)
    cache = layout.allocate(*shape, dtype=BF16, device=torch.device("cpu"))
    rope_kv_write(q, k, v, places[0], cos, sin, *cache, places[1])
    kv_write(k, v, *cache, places[1])
    rope(q, k, places[0], cos, sin)


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize(("q_heads", "k_heads"), [(32, 8), (16, 8)], ids=["8B", "0.6B"])
def test_compiled(compiled: Compile, q_heads: int, k_heads: int, capability: int) -> None:
    kernels = compiled(specimen, 64, q_heads, k_heads, 128, 64, capability=capability)
    assert [kernel.name for kernel in kernels] == ["_rope", "_kv_write", "_rope"]
    for kernel in kernels:
        assert kernel.spills == kernel.stack == 0
        assert kernel.registers <= 64
        assert kernel.widths("st.global").count(16) == len(kernel.widths("st.global"))
        wide = [width for width in kernel.widths("ld.global") if width != 8]  # position and slot
        assert set(wide) == {16}


def test_compiled_once_for_all_lengths(compiled: Compile) -> None:
    shape = (32, 8, 128, 64)
    kernels = {rows: compiled(specimen, rows, *shape) for rows in (1, 2, 16, 100, 8192)}
    assert all(found == kernels[1] for found in kernels.values())


def turned(heads: int, size: int) -> None:
    q, k = torch.empty(5, heads, size), torch.empty(5, 1, size)
    table = torch.empty(9, size // 2)
    rope(q, k, torch.empty(5, dtype=torch.int64), table, table)


@pytest.mark.parametrize(
    ("heads", "size", "warps"), [(4, 8, 1), (2, 32, 1), (4, 32, 2), (32, 128, 2)]
)
def test_no_two_warps_have_the_same_pair(
    compiled: Compile, heads: int, size: int, warps: int
) -> None:
    (kernel,) = compiled(turned, heads, size)
    assert kernel.warps == warps
