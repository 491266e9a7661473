"""Attention in C++: the same bits in any company, any cut of a prompt, and on any threads."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch

from inferd_kernels import layout
from inferd_kernels.cpu.library import library, set_threads
from inferd_kernels.dispatch import only
from tests.kernels.paged import Paged, paged

pytestmark = pytest.mark.usefixtures("poisoned_memory")

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
LENGTH = 530  # two chunks of positions and the beginning of a third
VARIANTS: list[dict[str, Any]] = [{}, {"window": 70}, {"window": 300, "softcap": 8.0}]


@pytest.fixture(autouse=True)
def _in_cpp() -> Iterator[None]:
    """The kernels run, and have their usual threads afterwards."""
    with only("cpu"):
        yield
    use_threads(torch.get_num_threads())


def use_threads(count: int) -> None:
    loaded = library()
    assert loaded is not None, "the tests need a C++ compiler"
    set_threads(loaded, count)


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


def in_steps(case: Paged, step: int, options: dict[str, Any]) -> torch.Tensor:
    cuts = [*range(0, case.sizes[0], step), case.sizes[0]]
    return torch.cat([part(case, 0, *cut).run(**options) for cut in pairwise(cuts)])


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("heads", "head_dim"), [(4, 32), (6, 20), (16, 64)])
def test_a_prompt_may_be_cut_anywhere(
    heads: int, head_dim: int, dtype: torch.dtype, options: dict[str, Any]
) -> None:
    case = paged(
        [(LENGTH, LENGTH)], heads=heads, kv_heads=2, head_dim=head_dim, block_size=16, dtype=dtype
    )
    whole = case.run(**options)
    for step in (1, 3, 16, 100):
        assert torch.equal(in_steps(case, step, options), whole)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_neighbours_and_threads_change_no_bit(dtype: torch.dtype) -> None:
    lengths = [(1, 700), (90, 400), (1, 3), (1, 256), (2, 257), (1, 1500), (300, 300), (1, 17)]
    case = paged(lengths, heads=8, kv_heads=4, head_dim=64, block_size=16, dtype=dtype)
    alone = torch.cat([part(case, b, 0, size).run() for b, size in enumerate(case.sizes)])
    for threads in (1, 2, 3):
        use_threads(threads)
        assert torch.equal(case.run(), alone)
        for b, size in enumerate(case.sizes):
            rows = slice(sum(case.sizes[:b]), sum(case.sizes[: b + 1]))
            assert torch.equal(part(case, b, 0, size).run(), alone[rows])


def test_many_long_contexts_are_shared_out_otherwise() -> None:
    """As many as leave each thread enough are not cut into chunks."""
    case = paged([(1, 600)] * 40, heads=4, kv_heads=2, head_dim=32, block_size=16)
    together = case.run()
    assert torch.equal(together, torch.cat([part(case, b, 0, 1).run() for b in range(40)]))


@pytest.mark.parametrize("block_size", [1, 7, 64])
def test_blocks_are_only_where_things_lie(block_size: int) -> None:
    lengths = [(1, 300), (50, 280)]
    one = paged(lengths, head_dim=32, block_size=block_size)
    other = paged(lengths, head_dim=32, block_size=16)
    for b, (_, context) in enumerate(lengths):
        slots = layout.slots(other.block_tables[b], torch.arange(context), 16)
        layout.flat(other.k_cache)[slots] = one.keys[b]
        layout.flat(other.v_cache)[slots] = one.values[b]
    other.q = one.q
    assert torch.equal(one.run(), other.run())


def test_a_row_does_not_see_what_comes_after_it() -> None:
    """Not even where that is no number, as after an overflow."""
    case = paged([(60, 60)], head_dim=32, block_size=16)
    before = case.run()
    slot = layout.slots(case.block_tables[0], torch.tensor([41]), 16)
    layout.flat(case.k_cache)[slot] = torch.inf
    layout.flat(case.v_cache)[slot] = torch.nan
    after = case.run()
    assert torch.equal(after[:41], before[:41])
    assert after[41:].isnan().all()


def test_what_is_not_a_number_stays_in_its_sequence() -> None:
    case = paged([(1, 40), (5, 300), (1, 300)], head_dim=32)
    before = case.run()
    case.q[2] = torch.nan
    after = case.run()
    assert torch.equal(after.isnan().flatten(1).any(1), torch.arange(7) == 2)
    assert torch.equal(after[[0, 1, 3, 4, 5, 6]], before[[0, 1, 3, 4, 5, 6]])


@pytest.mark.parametrize("kv_heads", [1, 3, 8])
def test_heads_are_shared_out_in_sets(kv_heads: int) -> None:
    """Of a few kv heads, of one each, and of fewer at the end."""
    for count in (1, 5, 20):
        case = paged([(1, 270)] * count, heads=2 * kv_heads, kv_heads=kv_heads, head_dim=32)
        torch.testing.assert_close(case.run().double(), case.expected(), atol=2e-6, rtol=0)
