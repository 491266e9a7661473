"""The KV blocks: who holds them, and in which order free ones are handed out."""

from __future__ import annotations


class BlockPool:
    """Reference counts, and a ring of free blocks; every operation is O(1).

    The free blocks form an intrusive doubly linked ring through a sentinel (index `num_blocks`).
    Blocks are taken from its front. Those whose content may be wanted again (`keep`) return to
    its back, so they are handed out least recently used first; the others return to its front.
    """

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self.num_free = num_blocks
        self.refs = [0] * num_blocks  # how many block tables hold each block
        self._next: list[int] = [*range(1, num_blocks + 1), 0]
        self._prev: list[int] = [num_blocks, *range(num_blocks)]

    def take(self) -> int:
        """The free block at the front, now held once. There must be one."""
        assert self.num_free, "no free block"
        end, following = self.num_blocks, self._next
        block = following[end]
        following[end] = after = following[block]
        self._prev[after] = end
        self.refs[block] = 1
        self.num_free -= 1
        return block

    def share(self, block: int) -> None:
        """Hold `block`, free or not, once more."""
        if not self.refs[block]:
            self._unlink(block)
        self.refs[block] += 1

    def release(self, block: int, *, keep: bool) -> None:
        """Undo one `take` or `share`; the last one frees the block."""
        assert self.refs[block] > 0, f"block {block} is not held"
        self.refs[block] -= 1
        if not self.refs[block]:
            self._link(block, self._prev[self.num_blocks] if keep else self.num_blocks)

    def free_blocks(self) -> list[int]:
        """The free blocks in the order in which they will be taken."""
        blocks = []
        block = self._next[self.num_blocks]
        while block != self.num_blocks:
            blocks.append(block)
            block = self._next[block]
        return blocks

    def check(self) -> None:
        """Every block is either free, once, or held; the ring is whole in both directions."""
        free = self.free_blocks()
        assert len(free) == len(set(free)) == self.num_free
        assert {block for block, refs in enumerate(self.refs) if refs == 0} == set(free)
        assert min(self.refs) >= 0
        ring = [self.num_blocks, *free]
        assert all(self._prev[self._next[block]] == block for block in ring)

    def _unlink(self, block: int) -> None:
        before, after = self._prev[block], self._next[block]
        self._next[before] = after
        self._prev[after] = before
        self.num_free -= 1

    def _link(self, block: int, before: int) -> None:
        after = self._next[before]
        self._next[before] = self._prev[after] = block
        self._prev[block], self._next[block] = before, after
        self.num_free += 1
