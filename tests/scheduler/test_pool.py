"""The block pool: order of reuse, reference counts, and a state machine against a plain model."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from inferd_scheduler.pool import BlockPool


def test_blocks_come_back_least_recently_used_first() -> None:
    pool = BlockPool(3)
    first, second, third = pool.take(), pool.take(), pool.take()
    for block in (second, first, third):
        pool.release(block, keep=True)
    assert [pool.take(), pool.take(), pool.take()] == [second, first, third]


def test_blocks_without_content_are_reused_before_kept_ones() -> None:
    pool = BlockPool(2)
    kept, empty = pool.take(), pool.take()
    pool.release(kept, keep=True)
    pool.release(empty, keep=False)
    assert pool.take() == empty


def test_a_shared_block_is_free_only_after_its_last_release() -> None:
    pool = BlockPool(1)
    block = pool.take()
    pool.share(block)
    pool.release(block, keep=True)
    assert pool.num_free == 0
    pool.release(block, keep=True)
    assert pool.num_free == 1


def test_sharing_a_free_block_takes_it_out_of_the_ring() -> None:
    pool = BlockPool(2)
    block = pool.take()
    pool.release(block, keep=True)
    pool.share(block)
    assert pool.free_blocks() == [1 - block]
    pool.check()


def test_misuse_is_an_assertion() -> None:
    pool = BlockPool(1)
    with pytest.raises(AssertionError, match="not held"):
        pool.release(0, keep=True)
    pool.take()
    with pytest.raises(AssertionError, match="no free block"):
        pool.take()


class PoolMachine(RuleBasedStateMachine):
    """The model is a list in the order of reuse and a dict of counts."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(6)
        self.free = list(range(6))
        self.held: dict[int, int] = {}

    @precondition(lambda self: self.free)
    @rule()
    def take(self) -> None:
        block = self.pool.take()
        assert block == self.free.pop(0)
        self.held[block] = 1

    @rule(block=st.integers(0, 5))
    def share(self, block: int) -> None:
        self.pool.share(block)
        if block in self.free:
            self.free.remove(block)
        self.held[block] = self.held.get(block, 0) + 1

    @precondition(lambda self: self.held)
    @rule(data=st.data(), keep=st.booleans())
    def release(self, data: st.DataObject, keep: bool) -> None:
        block = data.draw(st.sampled_from(sorted(self.held)))
        self.pool.release(block, keep=keep)
        self.held[block] -= 1
        if not self.held[block]:
            del self.held[block]
            self.free.insert(len(self.free) if keep else 0, block)

    @invariant()
    def agrees(self) -> None:
        self.pool.check()
        assert self.pool.free_blocks() == self.free
        assert self.pool.refs == [self.held.get(block, 0) for block in range(6)]


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
