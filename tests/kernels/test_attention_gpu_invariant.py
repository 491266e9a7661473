"""The GPU's invariant attention: a row's bits in any company, any cut of its prompt, any split."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch

from inferd_kernels import layout
from inferd_kernels.attention import attention, gpu, gpu_invariant
from inferd_kernels.dispatch import prefer_invariant
from tests.kernels.gpu_device import DEVICE, DTYPES
from tests.kernels.paged import Paged, paged

pytestmark = pytest.mark.usefixtures("gpu", "invariant", "matrix_units", "poisoned_memory")

OPTIONS: list[dict[str, Any]] = [{}, {"window": 20}, {"window": 50, "softcap": 8.0}]
LENGTH = 70  # two spans and the beginning of a third


@pytest.fixture
def invariant(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Few multiprocessors, and short spans."""
    monkeypatch.setattr(gpu, "multiprocessors", lambda device: (1, 227 << 10))
    monkeypatch.setattr(gpu, "SEQUENCES", 4)
    monkeypatch.setattr(gpu_invariant, "SPAN", 32)
    prefer_invariant(True)
    yield
    prefer_invariant(False)


def part(case: Paged, b: int, begin: int, end: int) -> Paged:
    """Rows begin … end - 1 of sequence b in a batch of their own, when they are its last ones."""
    first = sum(case.sizes[:b])
    context = len(case.keys[b]) - case.sizes[b] + end
    return Paged(
        q=case.q[first + begin : first + end],
        keys=[case.keys[b][:context]],
        values=[case.values[b][:context]],
        sizes=[end - begin],
        k_cache=case.k_cache,
        v_cache=case.v_cache,
        block_tables=case.block_tables[b : b + 1],
    )


@pytest.mark.parametrize(
    ("dtype", "options"), [*zip([*DTYPES[:2], DTYPES[-1]], OPTIONS, strict=True)], ids=str
)
def test_a_prompt_may_be_cut_anywhere(dtype: torch.dtype, options: dict[str, Any]) -> None:
    case = paged([(LENGTH, LENGTH)], heads=3, kv_heads=1, head_dim=20, block_size=16, dtype=dtype)
    case = case.to(DEVICE)
    whole = case.run(**options)
    for cuts in ((0, 1, 33, 34, 64, 65, 67, 68, 69, 70), (0, 30, 70)):
        found = torch.cat([part(case, 0, *cut).run(**options) for cut in pairwise(cuts)])
        assert torch.equal(found, whole)


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
def test_neighbours_and_splits_change_no_bit(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = [(1, 140), (9, 40), (1, 3), (0, 5), (1, 32), (1, 65)]
    case = paged(lengths, heads=3, kv_heads=1, head_dim=16, dtype=dtype).to(DEVICE)
    alone = [part(case, b, 0, size).run() for b, size in enumerate(case.sizes)]
    for multiprocessors in (1, 100):
        monkeypatch.setattr(
            gpu, "multiprocessors", lambda device, count=multiprocessors: (count, 0)
        )
        assert torch.equal(case.run(), torch.cat(alone))
    monkeypatch.setattr(gpu, "PROGRAMS_PER_SM", 0.0)  # one program for all spans
    monkeypatch.setattr(gpu, "multiprocessors", lambda device: (1, 227 << 10))
    assert torch.equal(part(case, 0, 0, 1).run(), alone[0])


def test_padding_of_a_graph_changes_no_bit() -> None:
    case = paged([(1, 90), (1, 6)], heads=4, kv_heads=2, block_size=16).to(DEVICE)
    alone = case.run()
    tables = torch.zeros(4, 20, dtype=torch.int32)
    tables[:2, :6] = case.block_tables.cpu()
    tables[2:] = case.block_tables[0, 0].cpu()
    padded = attention(
        torch.cat([case.q, case.q]),
        case.k_cache,
        case.v_cache,
        tables.to(DEVICE),
        torch.arange(5, dtype=torch.int32, device=DEVICE),
        torch.tensor([90, 6, 1, 1], dtype=torch.int32, device=DEVICE),
        max_seqlen_q=1,
        max_seqlen_k=320,
        scale=0.3,
    )
    assert torch.equal(padded[:2], alone)


def test_blocks_are_only_where_things_lie() -> None:
    lengths = [(1, 70), (5, 40)]
    one = paged(lengths, head_dim=16, block_size=7)
    other = paged(lengths, head_dim=16, block_size=16)
    for b, (_, context) in enumerate(lengths):
        slots = layout.slots(other.block_tables[b], torch.arange(context), 16)
        layout.flat(other.k_cache)[slots] = one.keys[b]
        layout.flat(other.v_cache)[slots] = one.values[b]
    other.q = one.q
    assert torch.equal(one.to(DEVICE).run(), other.to(DEVICE).run())
