"""Paged attention against a formula that knows nothing of blocks, batches or masks."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inferd_kernels.attention import attention
from inferd_kernels.attention import reference as attention_reference
from tests.kernels.paged import Paged, paged

pytestmark = pytest.mark.usefixtures("implementation", "poisoned_memory")

ATOL = {torch.float32: 1e-6, torch.bfloat16: 1e-2}

BATCHES = {
    "one token": [(1, 1)],
    "one prompt": [(13, 13)],
    "a chunk after context": [(5, 22)],
    "decode": [(1, 9), (1, 1), (1, 30), (1, 4)],
    "mixed": [(1, 17), (6, 6), (1, 3), (4, 21), (2, 2), (1, 8)],
    "with an empty one": [(3, 3), (0, 5), (1, 2)],
}
VARIANTS: list[dict[str, float]] = [
    {},
    {"window": 5},
    {"window": 1},
    {"softcap": 2.0},
    {"window": 7, "softcap": 1.5},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("lengths", BATCHES.values(), ids=BATCHES.keys())
def test_meaning(lengths: list[tuple[int, int]], variant: dict[str, float]) -> None:
    case = paged(lengths)
    out = case.run(**variant)  # type: ignore[arg-type]
    assert out.is_contiguous()
    expected = case.expected(**variant)  # type: ignore[arg-type]
    torch.testing.assert_close(out.double(), expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize(("heads", "kv_heads"), [(1, 1), (5, 1), (4, 4), (7, 7), (12, 3)])
def test_head_counts(heads: int, kv_heads: int) -> None:
    case = paged([(1, 6), (7, 11)], heads=heads, kv_heads=kv_heads, head_dim=7, block_size=3)
    torch.testing.assert_close(case.run().double(), case.expected(), atol=2e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("softcap", [0.0, 3.0])
def test_narrow_dtypes(dtype: torch.dtype, softcap: float) -> None:
    case = paged([(1, 40), (9, 20)], head_dim=16, dtype=dtype)
    out = case.run(softcap=softcap)
    assert out.dtype == dtype
    expected = case.expected(softcap=softcap)
    torch.testing.assert_close(out.double(), expected, atol=2e-2, rtol=0)


@pytest.mark.parametrize("window", [0, 9])
def test_long_prompts_and_many_rows_are_cut_into_pieces(
    window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention_reference, "QUERY_ROWS", 4)
    monkeypatch.setattr(attention_reference, "GATHER_TOKENS", {"cpu": 40})
    for lengths in ([(11, 19)], [(1, 5 + b) for b in range(7)]):
        case = paged(lengths)
        torch.testing.assert_close(
            case.run(window=window).double(), case.expected(window=window), atol=2e-6, rtol=0
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_neighbours_do_not_matter(dtype: torch.dtype) -> None:
    case = paged(BATCHES["mixed"], dtype=dtype, heads=8, kv_heads=4, head_dim=16)
    together = case.run()
    row = 0
    for b, size in enumerate(case.sizes):
        alone = Paged(
            q=case.q[row : row + size],
            keys=case.keys[b : b + 1],
            values=case.values[b : b + 1],
            sizes=[size],
            k_cache=case.k_cache,
            v_cache=case.v_cache,
            block_tables=case.block_tables[b : b + 1],
        ).run()
        torch.testing.assert_close(together[row : row + size], alone, atol=ATOL[dtype], rtol=0)
        row += size


def test_bounds_may_be_larger_than_the_batch_needs() -> None:
    """CUDA graphs are captured for the longest context and replayed for shorter ones."""
    case = paged([(1, 3), (1, 6)], block_size=4)
    tables = torch.zeros(2, 8, dtype=torch.int32)
    tables[:, :2] = case.block_tables
    out = attention(
        case.q,
        case.k_cache,
        case.v_cache,
        tables,
        torch.tensor([0, 1, 2], dtype=torch.int32),
        torch.tensor([3, 6], dtype=torch.int32),
        max_seqlen_q=1,
        max_seqlen_k=32,
        scale=1 / math.sqrt(10),
    )
    expected = case.expected(scale=1 / math.sqrt(10))
    torch.testing.assert_close(out.double(), expected, atol=2e-6, rtol=0)


def test_queries_may_be_a_view_of_a_fused_projection() -> None:
    case = paged([(1, 5), (4, 9)])
    wide = torch.full((len(case.q), 2, 6, 10), torch.nan)
    wide[:, 0] = case.q
    case.q = wide[:, 0]
    torch.testing.assert_close(case.run().double(), case.expected(), atol=2e-6, rtol=0)


@pytest.mark.parametrize("head_dim", [1, 16, 32, 40, 64, 80, 96, 128, 256])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_head_dims(head_dim: int, dtype: torch.dtype) -> None:
    case = paged([(1, 40), (19, 70)], heads=4, kv_heads=2, head_dim=head_dim, dtype=dtype)
    expected = case.expected(scale=head_dim**-0.5)
    error = 2e-6 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(
        case.run(scale=head_dim**-0.5).double(), expected, atol=error, rtol=0
    )


@pytest.mark.parametrize("block_size", [1, 3, 16, 32, 64])
def test_block_sizes_and_long_contexts(block_size: int) -> None:
    lengths = [(1, 530), (40, 300), (1, 256), (1, 257), (3, 514)]
    case = paged(lengths, heads=4, kv_heads=1, head_dim=8, block_size=block_size)
    torch.testing.assert_close(case.run().double(), case.expected(), atol=2e-6, rtol=0)


def test_scores_far_apart_and_far_from_zero() -> None:
    case = paged([(1, 300), (20, 40)], head_dim=16)
    torch.testing.assert_close(
        case.run(scale=40.0).double(), case.expected(scale=40.0), atol=2e-4, rtol=0
    )


def test_weights_are_exact_to_some_ulp() -> None:
    """Of two keys, the second's value is what e^-x makes of it, relatively too."""
    distances = torch.linspace(0, 80, 400)
    case = paged([(1, 2)] * len(distances), heads=1, kv_heads=1, head_dim=1, block_size=2)
    case.q.fill_(1.0)
    blocks = case.block_tables[:, 0].long()
    case.k_cache[blocks, :, 0, 0] = torch.stack([torch.zeros_like(distances), -distances], 1)
    case.v_cache[blocks, :, 0, 0] = torch.tensor([0.0, 1.0])
    expected = 1 / (1 + torch.exp(distances.double()))
    got = case.run(scale=1.0).double().flatten()
    torch.testing.assert_close(got, expected, atol=0, rtol=5e-7)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Paged, dict[str, float]]:
    rows = st.integers(0, 40).flatmap(lambda m: st.tuples(st.just(m), st.integers(max(m, 1), 90)))
    lengths = draw(
        st.lists(rows, min_size=1, max_size=4).filter(lambda all: any(m for m, _ in all))
    )
    kv_heads, group = draw(st.integers(1, 3)), draw(st.integers(1, 8))
    case = paged(
        lengths,
        heads=kv_heads * group,
        kv_heads=kv_heads,
        head_dim=draw(st.integers(1, 70)),
        block_size=draw(st.integers(1, 33)),
    )
    window, softcap = draw(st.sampled_from([0, 1, 3, 17, 64])), draw(st.sampled_from([0.0, 5.0]))
    return case, {"window": window, "softcap": softcap}


@settings(max_examples=40, deadline=None)
@given(cases())
def test_any_shape(case: tuple[Paged, dict[str, float]]) -> None:
    batch, options = case
    out = batch.run(**options)  # type: ignore[arg-type]
    expected = batch.expected(**options)  # type: ignore[arg-type]
    torch.testing.assert_close(out.double(), expected, atol=5e-6, rtol=0)
