"""The GPU's gated activations, embeddings and sums do what the references do, and compile well."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from inferd_kernels.activation import Kind, gated
from inferd_kernels.activation.reference import gated as gated_reference
from inferd_kernels.elementwise import add, scale
from inferd_kernels.elementwise import reference as elementwise
from inferd_kernels.embedding import embedding
from inferd_kernels.embedding.reference import embedding as embedding_reference
from tests.kernels.compiled import CAPABILITIES, Compile
from tests.kernels.gpu_device import DTYPES

pytestmark = pytest.mark.usefixtures("poisoned_memory")
TOLERANCE = {torch.float32: 4e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}
WIDTHS = [1, 17, 1030]
BF16 = torch.bfloat16
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    tolerance = TOLERANCE[found.dtype]
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance, equal_nan=True)


def view(rows: int, width: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Rows at a distance, with NaN between them."""
    wide = torch.full((rows, width + 3), torch.nan)
    wide[:, 1:-2] = 3 * torch.randn(rows, width, generator=torch.Generator().manual_seed(width))
    return wide.to(device, dtype)[:, 1:-2]


@each_dtype
@pytest.mark.parametrize("kind", get_args(Kind))
@pytest.mark.parametrize("width", [1, 17, 515])
def test_gated(gpu: torch.device, dtype: torch.dtype, kind: Kind, width: int) -> None:
    x = view(2, 2 * width, dtype, gpu)
    close(gated(x, kind), gated_reference(x, kind))


@pytest.mark.parametrize("kind", get_args(Kind))
def test_gates_far_from_zero(gpu: torch.device, kind: Kind) -> None:
    x = torch.tensor([[-1e12, -200.0, -90.0, 90.0, 200.0, 1e12, *[1.0] * 6]], device=gpu)
    close(gated(x, kind), gated_reference(x, kind))


@each_dtype
@pytest.mark.parametrize("ids_dtype", [torch.int32, torch.int64], ids=str)
@pytest.mark.parametrize("width", WIDTHS)
def test_embedding(
    gpu: torch.device, dtype: torch.dtype, ids_dtype: torch.dtype, width: int
) -> None:
    table = view(9, width, dtype, gpu)
    ids = torch.tensor([8, 1, 0, 1, 3, 1], dtype=ids_dtype, device=gpu)[::2]
    assert torch.equal(embedding(ids, table), table[ids.long()])
    close(embedding(ids, table, 11.3125), embedding_reference(ids, table, 11.3125))


@each_dtype
@pytest.mark.parametrize("width", WIDTHS)
def test_add_and_scale(gpu: torch.device, dtype: torch.dtype, width: int) -> None:
    out, x = view(2, width, dtype, gpu), view(2, width, dtype, gpu).flip(0)
    assert out._base is not None
    before = out._base.clone()
    expected = out.clone()
    add(out, x, 0.3)
    elementwise.add(expected, x, 0.3)
    close(out, expected)
    scale(out, 0.7)
    elementwise.scale(expected, 0.7)
    close(out, expected)
    around = out._base.clone()
    around[:, 1:-2] = before[:, 1:-2]
    assert torch.equal(around.isnan(), before.isnan())


def test_no_rows(gpu: torch.device) -> None:
    x = torch.empty(0, 8, device=gpu)
    add(x, x)
    scale(x, 2.0)
    assert gated(x, "silu").shape == (0, 4)
    assert embedding(torch.empty(0, dtype=torch.int64, device=gpu), x).shape == (0, 8)


def specimen(rows: int, hidden: int, mlp: int) -> None:
    """What a model's layers call, and what some models' do."""
    x = torch.empty(rows, hidden, dtype=BF16)
    gated(torch.empty(rows, 2 * mlp, dtype=BF16), "silu")
    embedding(torch.empty(rows, dtype=torch.int64), torch.empty(99, hidden, dtype=BF16), 2.0)
    add(x, torch.empty_like(x))
    scale(x, 2.0)


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize(("hidden", "mlp"), [(4096, 14336), (1024, 3072)], ids=["8B", "0.6B"])
def test_compiled(compiled: Compile, hidden: int, mlp: int, capability: int) -> None:
    kernels = compiled(specimen, 64, hidden, mlp, capability=capability)
    assert [kernel.name for kernel in kernels] == ["_gated", "_embedding", "_add", "_scale"]
    for kernel in kernels:
        assert kernel.spills == kernel.stack == 0
        assert kernel.registers <= 40
        assert kernel.shared == 0
        assert set(kernel.widths("st.global")) == {16}
        assert [width for width in kernel.widths("ld.global") if width != 8] != []
        assert set(kernel.widths("ld.global")) <= {8, 16}  # 8: an id


def test_compiled_once_for_all_lengths(compiled: Compile) -> None:
    kernels = {rows: compiled(specimen, rows, 4096, 14336) for rows in (1, 2, 16, 100, 8192)}
    assert all(found == kernels[1] for found in kernels.values())
