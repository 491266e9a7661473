"""Paged attention against a formula that knows nothing of blocks, batches or masks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import pytest
import torch

from inferd_kernels import layout
from inferd_kernels.attention import attention
from inferd_kernels.attention import reference as attention_reference

pytestmark = pytest.mark.usefixtures("implementation")

ATOL = {torch.float32: 1e-6, torch.bfloat16: 1e-2}
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _poisoned_memory() -> Iterator[None]:
    """Fresh memory is NaN, so that a row nobody wrote cannot pass for a result."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@dataclass
class Paged:
    """Sequences of random KV in a cache whose every other slot is NaN."""

    q: torch.Tensor
    keys: list[torch.Tensor]
    values: list[torch.Tensor]
    sizes: list[int]
    k_cache: torch.Tensor
    v_cache: torch.Tensor
    block_tables: torch.Tensor

    def run(self, *, scale: float = 0.3, window: int = 0, softcap: float = 0.0) -> torch.Tensor:
        lens = [len(keys) for keys in self.keys]
        return attention(
            self.q,
            self.k_cache,
            self.v_cache,
            self.block_tables,
            torch.tensor([0, *accumulate(self.sizes)], dtype=torch.int32),
            torch.tensor(lens, dtype=torch.int32),
            max_seqlen_q=max(self.sizes),
            max_seqlen_k=max(lens),
            scale=scale,
            window=window,
            softcap=softcap,
        )

    def expected(
        self, *, scale: float = 0.3, window: int = 0, softcap: float = 0.0
    ) -> torch.Tensor:
        """Row by row, head by head, in float64."""
        out, row = torch.empty(self.q.shape, dtype=torch.float64), 0
        groups = self.q.shape[1] // self.k_cache.shape[2]
        for keys, values, size in zip(self.keys, self.values, self.sizes, strict=True):
            for position in range(len(keys) - size, len(keys)):
                first = max(0, position - window + 1) if window else 0
                for head in range(self.q.shape[1]):
                    seen = slice(first, position + 1)
                    scores = keys[seen, head // groups].double() @ self.q[row, head].double()
                    scores = scores * scale
                    if softcap:
                        scores = softcap * torch.tanh(scores / softcap)
                    shares = torch.softmax(scores, dim=0)
                    out[row, head] = shares @ values[seen, head // groups].double()
                row += 1
        return out


def paged(
    lengths: list[tuple[int, int]],
    *,
    heads: int = 6,
    kv_heads: int = 3,
    head_dim: int = 10,
    block_size: int = 4,
    dtype: torch.dtype = torch.float32,
) -> Paged:
    """`lengths`: per sequence (new tokens, context with them)."""
    generator = torch.Generator().manual_seed(len(lengths))

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    tables = [-(-context // block_size) for _, context in lengths]
    num_blocks = sum(tables) + 3
    k_cache, v_cache = layout.allocate(
        num_blocks, block_size, kv_heads, head_dim, dtype=dtype, device=CPU
    )
    k_cache.fill_(torch.nan)
    v_cache.fill_(torch.nan)
    free: list[int] = torch.randperm(num_blocks, generator=generator).tolist()
    block_tables = torch.zeros(len(lengths), max(tables), dtype=torch.int32)
    keys, values = [], []
    for b, (_, context) in enumerate(lengths):
        table = torch.tensor([free.pop() for _ in range(tables[b])], dtype=torch.int32)
        block_tables[b, : len(table)] = table
        keys.append(normal(context, kv_heads, head_dim))
        values.append(normal(context, kv_heads, head_dim))
        slots = layout.slots(table, torch.arange(context), block_size)
        layout.flat(k_cache)[slots] = keys[-1]
        layout.flat(v_cache)[slots] = values[-1]
    sizes = [new for new, _ in lengths]
    return Paged(
        q=normal(sum(sizes), heads, head_dim),
        keys=keys,
        values=values,
        sizes=sizes,
        k_cache=k_cache,
        v_cache=v_cache,
        block_tables=block_tables,
    )


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
