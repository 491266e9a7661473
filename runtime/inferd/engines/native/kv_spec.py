"""The shape of a KV cache, and the size of numbers; known without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class NumberType(Protocol):
    """What a cache or a weight is made of; torch's dtypes are such, and so is `Dtype`."""

    @property
    def itemsize(self) -> int:
        """Bytes."""


@dataclass(frozen=True, slots=True)
class Dtype:
    """A number type by its name."""

    name: str
    itemsize: int


NUMBER_TYPES = {
    "float32": Dtype("float32", 4),
    "float16": Dtype("float16", 2),
    "bfloat16": Dtype("bfloat16", 2),
}
"""What weights and KV cache may be kept in."""


@dataclass(frozen=True, slots=True)
class KVSpec:
    """The shape of one layer's KV cache."""

    num_kv_heads: int
    head_dim: int  # of keys and values alike

    def bytes_per_token(self, dtype: NumberType) -> int:
        return 2 * self.num_kv_heads * self.head_dim * dtype.itemsize
