"""Which block holds which prefix: chained keys of full blocks.

A block's key is a SHA-256 over its parent's key and its tokens, and the chain starts from the
adapter and the salt. Equal keys therefore mean equal prefixes under equal conditions, and nobody
can construct a prompt that meets somebody else's key (Python's `hash` would allow both).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from hashlib import sha256


def root_key(adapter: str, salt: str) -> bytes:
    """The parent of a sequence's first block; prefixes are shared only under equal roots."""
    name, tail = (text.encode("utf-8", "surrogatepass") for text in (adapter, salt))
    return sha256(struct.pack("<Q", len(name)) + name + tail).digest()


class PrefixIndex:
    """The blocks that can be found by the prefix that they end. At most one block per key."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self._block_of: dict[bytes, int] = {}
        self._key_of: list[bytes | None] = [None] * num_blocks
        self._pack = struct.Struct(f"<{block_size}I").pack

    def __len__(self) -> int:
        return len(self._block_of)

    def __contains__(self, block: int) -> bool:
        return self._key_of[block] is not None

    def key(self, parent: bytes, tokens: Sequence[int]) -> bytes:
        """The key of a full block of `tokens` (each in [0, 2**32)) behind `parent`."""
        return sha256(parent + self._pack(*tokens)).digest()

    def find(self, key: bytes) -> int | None:
        return self._block_of.get(key)

    def add(self, key: bytes, block: int) -> None:
        """Make `block` findable, unless another block already holds the same."""
        if key not in self._block_of:
            assert self._key_of[block] is None, f"block {block} already has a key"
            self._block_of[key] = block
            self._key_of[block] = key

    def forget(self, block: int) -> None:
        """The block's content is about to change or is not to be trusted."""
        key = self._key_of[block]
        if key is not None:
            del self._block_of[key]
            self._key_of[block] = None

    def check(self) -> None:
        """The two directions agree."""
        keys = {block: key for block, key in enumerate(self._key_of) if key is not None}
        assert keys == {block: key for key, block in self._block_of.items()}
