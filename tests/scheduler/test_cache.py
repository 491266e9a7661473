"""The cache's bookkeeping: who gets which blocks, and what is left in them."""

from __future__ import annotations

from inferd_scheduler import Request
from inferd_scheduler.cache import KVCache


def cache(num_blocks: int = 8) -> KVCache:
    return KVCache(num_blocks, 2, reuse=True)


def computed(cache: KVCache, request: Request) -> Request:
    """Admit `request` and compute all of it."""
    assert cache.admit(request, reserve=0)
    request.pending = 0
    cache.fill(request)
    return request


def test_admission_leaves_the_reserve() -> None:
    kv = cache(4)
    request = Request("a", range(5), 1)
    assert not kv.admit(request, reserve=2)
    assert not request.block_table
    assert kv.pool.num_free == 4
    assert kv.admit(request, reserve=1)
    assert len(request.block_table) == 3


def test_running_requests_share_the_blocks_of_a_common_prefix() -> None:
    kv = cache()
    one = computed(kv, Request("a", [1, 2, 3, 4, 5], 1))
    two = computed(kv, Request("b", [1, 2, 3, 4, 6], 1))
    assert one.block_table[:2] == two.block_table[:2]
    assert one.block_table[2] != two.block_table[2]
    kv.check([one, two], unknown=0)


def test_cached_blocks_that_are_free_count_as_room_only_once() -> None:
    kv = cache(3)
    kv.release(computed(kv, Request("a", [1, 2, 3, 4], 1)))
    request = Request("b", [1, 2, 3, 4, 5, 6, 7], 1)  # 2 found, 2 needed, but only 1 other is free
    assert not kv.admit(request, reserve=0)
    assert kv.pool.num_free == 3


def test_chains_lose_their_ends_before_their_starts() -> None:
    kv = cache(4)
    kv.release(computed(kv, Request("a", [1, 2, 3, 4, 5, 6], 1)))
    kv.release(computed(kv, Request("b", [9, 9, 9], 1)))  # takes the empty block and one cached
    again = Request("c", [1, 2, 3, 4, 5, 6, 7], 1)
    assert kv.admit(again, reserve=0)
    assert again.computed == 4


def test_a_block_that_is_handed_out_again_is_not_found_any_more() -> None:
    kv = cache(2)
    kv.release(computed(kv, Request("a", [1, 2, 3], 1)))
    kv.release(computed(kv, Request("b", [8, 8, 8, 8], 1)))
    again = Request("c", [1, 2, 3], 1)
    assert kv.admit(again, reserve=0)
    assert again.computed == 0


def test_untrusted_blocks_are_forgotten_unless_others_hold_them() -> None:
    kv = cache()
    one = computed(kv, Request("a", [1, 2, 3, 4, 5], 1))
    two = computed(kv, Request("b", [1, 2, 9, 9, 9], 1))
    kv.distrust(two)
    kv.release(two)
    assert len(kv.prefixes) == 2  # the shared one, and the second of `one`
    kv.check([one], unknown=0)


def test_two_that_compute_the_same_at_once_keep_a_block_each() -> None:
    kv = cache()
    one, two = Request("a", [1, 2, 3], 1), Request("b", [1, 2, 3], 1)
    for request in (one, two):
        assert kv.admit(request, reserve=0)
    for request in (one, two):
        request.pending = 0
        kv.fill(request)
    assert len(kv.prefixes) == 1
    for request in (one, two):
        kv.release(request)
    kv.check([], unknown=0)


def test_growth_adds_one_block_behind_the_others() -> None:
    kv = cache()
    request = computed(kv, Request("a", [1, 2], 1))
    assert kv.room(request) == 0
    before = list(request.block_table)
    assert request.block_table == [*before, kv.grow(request)]
    assert kv.room(request) == 2
