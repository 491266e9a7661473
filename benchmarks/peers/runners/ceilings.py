"""What this machine can do at most, over all cores: bytes read per second, and matrix products."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.peers.runners.loop import answer, replies

BYTES = 1 << 30  # far beyond any cache
SIZE = 2048  # of square matrices
REPEATS = 5


def measure(words: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> dict[str, Any]:
    """The best of a few repeats: a ceiling is what was reached once."""
    return {
        "read_bytes_per_s": BYTES / _fastest(lambda: words.sum()),
        "sgemm_flops_per_s": _flops(left, right),
        "bf16_flops_per_s": _flops(left.bfloat16(), right.bfloat16()),
    }


def _flops(left: torch.Tensor, right: torch.Tensor) -> float:
    product = torch.empty_like(left)
    return 2 * SIZE**3 / _fastest(lambda: torch.mm(left, right, out=product))


def _fastest(run: Callable[[], object]) -> float:
    taken = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        run()
        taken.append(time.perf_counter() - began)
    return min(taken)


def main() -> None:
    words = torch.ones(BYTES // 4, dtype=torch.float32)
    left, right = torch.rand(SIZE, SIZE), torch.rand(SIZE, SIZE)
    with replies() as out:
        ready = {
            "versions": {"torch": torch.__version__},
            "settings": {"threads": torch.get_num_threads(), "sgemm": SIZE, "read_bytes": BYTES},
        }
        answer(out, ready, {"measure": lambda: measure(words, left, right)})


if __name__ == "__main__":
    main()
