"""embedding: rows of tables and of packed weights."""

from __future__ import annotations

import pytest
import torch

from inferd_kernels.embedding import embedding
from inferd_kernels.linear import PackedWeight

pytestmark = pytest.mark.usefixtures("implementation", "poisoned_memory")
each_dtype = pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str
)


@each_dtype
@pytest.mark.parametrize("width", [1, 17, 64, 129])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("ids_dtype", [torch.int32, torch.int64], ids=str)
def test_rows(packed: bool, width: int, dtype: torch.dtype, ids_dtype: torch.dtype) -> None:
    table = torch.randn(70, width, generator=torch.Generator().manual_seed(0)).to(dtype)
    weight = PackedWeight.of(table) if packed else table
    ids = torch.tensor([69, 0, 33, 33, 31, 32, 5], dtype=ids_dtype)
    got = embedding(ids, weight)
    assert got.dtype == dtype
    assert torch.equal(got, table[ids.long()])
    scaled = embedding(ids, weight, 11.3125)
    assert torch.equal(scaled, (table[ids.long()].double() * 11.3125).to(dtype))
    assert embedding(ids[:0], weight).shape == (0, width)


@each_dtype
def test_a_view_of_a_table(dtype: torch.dtype) -> None:
    wide = torch.arange(200.0).view(10, 20).to(dtype)
    ids = torch.tensor([3, 9, 7, 0])[::2]
    assert torch.equal(embedding(ids, wide[2:, 3:18]), wide[ids + 2, 3:18])
