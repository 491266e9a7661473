"""One thing to measure. A file `cases/NAME.py` has `TESTS` and `cases()` of one operation.

TESTS = ("tests/kernels/test_pointwise.py",)    # run first; red: no figures

def cases() -> Iterator[Case]: ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Case:
    """An operation on tensors of one shape.

    Attributes:
        name: the shape and dtype, as the table shows it.
        run: calls the public operation, whose implementation the benchmark chooses. Where the real
            step would find its weights in memory, not in a cache, each call takes other weights
            (`rotate`), of more bytes in all than the caches hold.
        bytes: that one call must read and write, each once.
        operations: additions and multiplications of one call; 0: not worth counting.
        torch: the same by torch's own operator; None: it has none.
        peak: the ceiling that `operations` are compared with: "fma", or the name of another one.
        reference: whether the reference is worth its time here.
    """

    name: str
    run: Callable[[], object]
    bytes: int
    operations: int = 0
    torch: Callable[[], object] | None = None
    peak: str = "fma"
    reference: bool = True


CACHES_BYTES = 128 << 20  # more than the last level's of the machines that we know


def rotate(runs: list[Callable[[], object]]) -> Callable[[], object]:
    """Calls one after the other, and begins anew."""
    position = 0

    def run() -> object:
        nonlocal position
        position = (position + 1) % len(runs)
        return runs[position]()

    return run


def copies(num_bytes: int) -> int:
    """How many weights of this size no cache can hold all of."""
    return max(1, -(-CACHES_BYTES // num_bytes))
