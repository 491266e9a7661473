"""The GPU's attention, both the usual and the invariant, does what the formula says."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inferd_kernels.attention import attention, gpu, gpu_invariant
from inferd_kernels.dispatch import prefer_invariant
from tests.kernels.gpu_device import DEVICE, DTYPES
from tests.kernels.paged import Paged, paged

pytestmark = pytest.mark.usefixtures("gpu", "kernels", "poisoned_memory")

ATOL = {torch.float32: 3e-6, torch.float16: 4e-3, torch.bfloat16: 3e-2}
MIXED = [(1, 17), (6, 6), (1, 3), (4, 21), (0, 5), (2, 2), (1, 8)]
VARIANTS: list[dict[str, Any]] = [
    {},
    {"window": 5},
    {"window": 1},
    {"softcap": 2.0},
    {"window": 7, "softcap": 1.5},
]


@pytest.fixture(params=["gpu", "gpu_invariant"])
def kernels(request: pytest.FixtureRequest) -> Iterator[str]:
    """Which of the two runs in this test."""
    prefer_invariant(request.param == "gpu_invariant")
    yield request.param
    prefer_invariant(False)


@pytest.fixture
def finely_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU with few multiprocessors, but short contexts are split and few sequences many."""
    monkeypatch.setattr(gpu, "multiprocessors", lambda device: (2, 227 << 10))
    monkeypatch.setattr(gpu, "SEQUENCES", 4)
    monkeypatch.setattr(gpu, "SHORTEST", 16)
    monkeypatch.setattr(gpu, "SPANS", 4)
    monkeypatch.setattr(gpu, "TILE_BYTES", 16 * 16 * 4)
    monkeypatch.setattr(gpu_invariant, "SPAN", 32)


def check(case: Paged, **options: Any) -> None:
    case = case.to(DEVICE)
    found = case.run(**options)
    assert found.is_contiguous()
    atol = ATOL[case.q.dtype]
    torch.testing.assert_close(found.double().cpu(), case.expected(**options), atol=atol, rtol=0)


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize("lengths", [[(1, 9), (1, 1), (1, 30)], MIXED], ids=["decode", "mixed"])
def test_meaning(lengths: list[tuple[int, int]], options: dict[str, Any]) -> None:
    check(paged(lengths, heads=4, kv_heads=2), **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("head_dim", [1, 16, 80, 96, 256])
def test_head_dims(head_dim: int, dtype: torch.dtype) -> None:
    lengths = [(1, 20), (9, 14)]
    case = paged(lengths, heads=2, kv_heads=1, head_dim=head_dim, dtype=dtype)
    check(case, scale=head_dim**-0.5)


@pytest.mark.parametrize(("heads", "kv_heads"), [(1, 1), (7, 1), (3, 3), (40, 2)])
def test_head_counts(heads: int, kv_heads: int) -> None:
    check(paged([(1, 6), (5, 8)], heads=heads, kv_heads=kv_heads, block_size=3))


@pytest.mark.parametrize("block_size", [1, 16, 256])
def test_block_sizes(block_size: int) -> None:
    check(paged([(1, 300), (3, 40)], heads=2, kv_heads=1, block_size=block_size))


def test_each_sequence_of_two_rows_has_a_tile() -> None:
    check(paged([(2, 5), (2, 2), (2, 7)], heads=2, kv_heads=1))


@pytest.mark.usefixtures("finely_split")
@pytest.mark.parametrize("options", [{}, {"window": 45}, {"softcap": 3.0}], ids=str)
def test_one_long_among_short_ones_is_split(options: dict[str, Any]) -> None:
    lengths = [(1, 3), (1, 250), (2, 60), (1, 16), (0, 4), (1, 33)]
    check(paged(lengths, heads=4, kv_heads=2), **options)


@pytest.mark.parametrize("options", [{}, {"window": 45}], ids=str)
@pytest.mark.parametrize("lengths", [[(9, 100)], [(1, 9), (5, 130), (2, 20)]], ids=str)
def test_a_few_rows_behind_a_long_prefix_are_split(
    lengths: list[tuple[int, int]], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "multiprocessors", lambda device: (20, 227 << 10))
    monkeypatch.setattr(gpu, "PREFILL_SHORTEST", 16)
    check(paged(lengths, heads=6, kv_heads=2), **options)


@pytest.mark.usefixtures("finely_split")
def test_a_shared_prefix_may_leave_too_little_room_for_parts() -> None:
    """More spans than the cache has blocks for: the last sequences are not split."""
    case = paged([(1, 120)], heads=2, kv_heads=1, block_size=8)
    count = 6
    case.q = case.q.repeat(count, 1, 1)
    case.keys, case.values, case.sizes = case.keys * count, case.values * count, [1] * count
    case.block_tables = case.block_tables.repeat(count, 1)
    check(case)


@pytest.mark.parametrize("window", [0, 6, 7])
def test_slots_outside_the_sequence_are_never_read(window: int) -> None:
    """Wherever unused entries of a block table point to; nor are those before the window."""
    case = paged([(1, 18), (3, 21), (1, 2)], heads=2, kv_heads=1)
    unused = torch.tensor(sorted({*range(len(case.k_cache))} - {*_blocks_used(case)}))
    assert case.k_cache[unused].isnan().all()
    tables = unused[torch.arange(3 * 12) % len(unused)].view(3, 12).int()
    for b, (keys, size) in enumerate(zip(case.keys, case.sizes, strict=True)):
        first = max(0, len(keys) - size - window + 1) // 4 if window else 0
        last = -(-len(keys) // 4)
        tables[b, first:last] = case.block_tables[b, first:last]
    case.block_tables = tables
    check(case, window=window)


def _blocks_used(case: Paged) -> Iterator[int]:
    for keys, table in zip(case.keys, case.block_tables, strict=True):
        yield from table[: -(-len(keys) // case.k_cache.shape[1])].tolist()


def test_queries_may_be_a_view_of_a_fused_projection() -> None:
    case = paged([(1, 5), (4, 9)])
    wide = torch.full((len(case.q), 2, 6, 10), torch.nan)
    wide[:, 0] = case.q
    case.q = wide[:, 0]
    check(case)
    case.q = wide.transpose(2, 3).contiguous().transpose(2, 3)[:, 0]
    check(case)


def test_bounds_may_be_larger_than_the_batch_needs() -> None:
    """As of a graph: more blocks, longer contexts, and rows of padding that all read one slot."""
    case = paged([(1, 3), (1, 6)], block_size=4)
    tables = torch.zeros(4, 75, dtype=torch.int32)
    tables[:2, :2] = case.block_tables
    tables[2:] = case.block_tables[0, 0]
    out = attention(
        torch.cat([case.q, case.q]).to(DEVICE),
        case.k_cache.to(DEVICE),
        case.v_cache.to(DEVICE),
        tables.to(DEVICE),
        torch.arange(5, dtype=torch.int32, device=DEVICE),
        torch.tensor([3, 6, 1, 1], dtype=torch.int32, device=DEVICE),
        max_seqlen_q=1,
        max_seqlen_k=300,
        scale=1 / math.sqrt(10),
    )
    expected = case.expected(scale=1 / math.sqrt(10))
    torch.testing.assert_close(out[:2].double().cpu(), expected, atol=3e-6, rtol=0)
    assert out.isfinite().all()


def test_one_row_where_there_might_be_several() -> None:
    case = paged([(1, 9)], heads=2, kv_heads=1).to(DEVICE)
    out = attention(
        case.q,
        case.k_cache,
        case.v_cache,
        case.block_tables,
        torch.tensor([0, 1], dtype=torch.int32, device=DEVICE),
        torch.tensor([9], dtype=torch.int32, device=DEVICE),
        max_seqlen_q=4,
        max_seqlen_k=9,
        scale=0.3,
    )
    torch.testing.assert_close(out.double().cpu(), case.expected(), atol=3e-6, rtol=0)


def test_what_is_not_a_number_stays_in_its_row() -> None:
    case = paged([(1, 9), (4, 12), (1, 5)], heads=2, kv_heads=1).to(DEVICE)
    before = case.run()
    case.q[2] = torch.nan
    after = case.run()
    assert torch.equal(after.isnan().flatten(1).any(1).cpu(), torch.arange(6) == 2)
    assert torch.equal(after[[0, 1, 3, 4, 5]], before[[0, 1, 3, 4, 5]])


def test_scores_far_apart_and_far_from_zero() -> None:
    case = paged([(1, 40), (8, 20)], heads=2, kv_heads=1, head_dim=16).to(DEVICE)
    for softcap in (0.0, 30.0):
        found = case.run(scale=40.0, softcap=softcap).double().cpu()
        expected = case.expected(scale=40.0, softcap=softcap)
        torch.testing.assert_close(found, expected, atol=2e-4, rtol=0)


def test_nothing_to_do() -> None:
    case = paged([(1, 4)], heads=2, kv_heads=1).to(DEVICE)
    case.q, case.sizes = case.q[:0], [0]
    assert case.run().shape == (0, 2, 10)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Paged, dict[str, Any]]:
    rows = st.integers(0, 12).flatmap(lambda m: st.tuples(st.just(m), st.integers(max(m, 1), 60)))
    lengths = draw(
        st.lists(rows, min_size=1, max_size=3).filter(lambda all: any(m for m, _ in all))
    )
    kv_heads, group = draw(st.integers(1, 2)), draw(st.integers(1, 5))
    case = paged(
        lengths,
        heads=kv_heads * group,
        kv_heads=kv_heads,
        head_dim=draw(st.integers(1, 40)),
        block_size=draw(st.integers(1, 33)),
    )
    window, softcap = draw(st.sampled_from([0, 1, 3, 17, 64])), draw(st.sampled_from([0.0, 5.0]))
    return case, {"window": window, "softcap": softcap}


@pytest.mark.usefixtures("finely_split")
@settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(cases())
def test_any_shape(case: tuple[Paged, dict[str, Any]]) -> None:
    batch, options = case
    check(batch, **options)
