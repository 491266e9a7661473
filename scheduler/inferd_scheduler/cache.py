"""The paged KV cache's bookkeeping: block tables over the pool and the prefix index."""

from __future__ import annotations

from collections.abc import Iterable

from inferd_scheduler.pool import BlockPool
from inferd_scheduler.prefix import PrefixIndex, root_key
from inferd_scheduler.request import Request


class KVCache:
    """Gives requests their blocks and takes them back; finds what earlier ones left behind.

    A request gets the blocks for all its tokens when it is admitted and one more whenever its
    last one is full, so only growth by sampled tokens can ever find the pool empty.
    """

    def __init__(self, num_blocks: int, block_size: int, *, reuse: bool) -> None:
        self.pool = BlockPool(num_blocks)
        self.prefixes = PrefixIndex(num_blocks, block_size)
        self.block_size = block_size
        self.reuse = reuse  # False: no prefix is ever looked up or kept
        self.queried_tokens = 0
        self.hit_tokens = 0

    def admit(self, request: Request, reserve: int) -> bool:
        """Give `request` blocks for all its tokens, cached ones first; `pending` shrinks by these.

        False, and nothing changes, if fewer than `reserve` blocks would be left free.
        """
        hits = self._find(request)
        needed = -(-request.total // self.block_size) - len(hits)
        refs = self.pool.refs
        if needed + reserve > self.pool.num_free - sum(not refs[block] for block in hits):
            return False
        for block in hits:
            self.pool.share(block)
        request.block_table = hits + [self._take() for _ in range(needed)]
        request.filled = len(hits)
        request.pending = request.total - len(hits) * self.block_size
        if self.reuse and request.may_reuse:
            self.queried_tokens += request.total
            self.hit_tokens += len(hits) * self.block_size
        return True

    def room(self, request: Request) -> int:
        """How many more tokens can be computed before the block table is full."""
        return len(request.block_table) * self.block_size - request.computed

    def full(self, request: Request) -> bool:
        """Whether there is no room for the KV of one token more than are known."""
        return len(request.block_table) * self.block_size == len(request.tokens)

    def grow(self, request: Request) -> int:
        """One more block for a request whose table is full. There must be a free one."""
        block = self._take()
        request.block_table.append(block)
        return block

    def fill(self, request: Request) -> None:
        """Offer the blocks that became full by computation to other requests."""
        if not self.reuse:
            return
        full = request.computed // self.block_size
        for index in range(request.filled, full):
            self.prefixes.add(self._key(request, index), request.block_table[index])
        request.filled = full

    def distrust(self, request: Request) -> None:
        """Offer the request's blocks to nobody any more, but for those that others hold, too."""
        for block in request.block_table:
            if self.pool.refs[block] == 1:
                self.prefixes.forget(block)

    def release(self, request: Request) -> None:
        """Take the blocks back, last first, so that chains lose their ends before their starts."""
        for block in reversed(request.block_table):
            self.pool.release(block, keep=block in self.prefixes)
        request.block_table = []
        request.filled = 0
        request.pending = request.total

    def forget(self) -> None:
        """No block's content is to be found again; nobody holds any."""
        for block in self.pool.free_blocks():
            self.prefixes.forget(block)

    def check(self, holders: Iterable[Request], unknown: int) -> None:
        """The reference counts are exactly the holders' block tables.

        So many tokens, which steps in flight sample, may already have room there.
        """
        self.pool.check()
        self.prefixes.check()
        refs = [0] * self.pool.num_blocks
        for request in holders:
            assert len(set(request.block_table)) == len(request.block_table)
            capacity = len(request.block_table) * self.block_size
            assert request.computed <= capacity < request.total + unknown + self.block_size
            for block in request.block_table:
                refs[block] += 1
        assert refs == self.pool.refs

    def _find(self, request: Request) -> list[int]:
        """The blocks of the longest reusable prefix; one token at least is left to compute."""
        hits: list[int] = []
        if not self.reuse or not request.may_reuse:
            return hits
        for index in range((request.total - 1) // self.block_size):
            block = self.prefixes.find(self._key(request, index))
            if block is None:
                break
            hits.append(block)
        return hits

    def _key(self, request: Request, index: int) -> bytes:
        """The key of the request's block `index`; those before it must have been asked for."""
        keys = request.keys
        if index == len(keys):
            parent = keys[-1] if keys else root_key(request.adapter, request.salt)
            start = index * self.block_size
            keys.append(self.prefixes.key(parent, request.tokens[start : start + self.block_size]))
        return keys[index]

    def _take(self) -> int:
        block = self.pool.take()
        self.prefixes.forget(block)
        return block
