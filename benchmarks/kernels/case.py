"""One thing to measure. A file `cases/NAME.py` has the tests and the cases of one operation.

TESTS = ("tests/kernels/test_pointwise.py",)          # run first; red: no figures
GPU_TESTS = ("tests/kernels/test_pointwise_gpu.py",)  # likewise on a GPU; none: no cases for it

def cases(place: Place) -> Iterator[Case]: ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Shape:
    """A model's widths."""

    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    vocabulary: int


QWEN3_600M = Shape(1024, 16, 8, 128, 3072, 151_936)
LLAMA3_8B = Shape(4096, 32, 8, 128, 14_336, 128_256)
TINY = Shape(64, 4, 2, 16, 96, 300)


@dataclass(frozen=True, slots=True)
class Place:
    """Where cases run, and of which size.

    Attributes:
        rows: tokens of a step: one, a batch, a prompt.
        few: those of them that decode.
        contexts: positions that a decoding row attends to.
        prompts: tokens of whole prompts.
        dtypes: the first is measured everywhere.
        cache_bytes: that weights which take turns must exceed; 0: caches are emptied between calls.
    """

    device: torch.device
    shape: Shape
    rows: tuple[int, ...]
    few: tuple[int, ...]
    contexts: tuple[int, ...]
    prompts: tuple[int, ...]
    dtypes: tuple[torch.dtype, ...]
    cache_bytes: int = 0

    def copies(self, num_bytes: int) -> int:
        """How many weights of this size no cache can hold all of."""
        return max(1, -(-self.cache_bytes // num_bytes))


ON_CPU = Place(
    torch.device("cpu"),
    QWEN3_600M,
    rows=(1, 32, 512),
    few=(1, 8, 32, 64),
    contexts=(128, 1024, 8192),
    prompts=(512, 2048),
    dtypes=(torch.bfloat16, torch.float32),
    cache_bytes=128 << 20,  # more than the last level's of the machines that we know
)
ON_GPU = Place(
    torch.device("cuda"),
    LLAMA3_8B,
    rows=(1, 64, 8192),
    few=(1, 64),
    contexts=(1024, 8192),
    prompts=(2048, 8192),
    dtypes=(torch.bfloat16,),
)
REHEARSAL = Place(  # through Triton's interpreter, which takes no bfloat16 for products
    torch.device("cpu"),
    TINY,
    rows=(1, 3),
    few=(2,),
    contexts=(20,),
    prompts=(5,),
    dtypes=(torch.float32,),
)


@dataclass(frozen=True, slots=True)
class Case:
    """An operation on tensors of one shape.

    Attributes:
        name: the shape and dtype, as the table shows it.
        run: calls the public operation, whose implementation the benchmark chooses. Where the real
            step would find its weights in memory, not in a cache, each call takes other weights
            (`rotate`), as many as `Place.copies` says.
        bytes: that one call must read and write, each once.
        operations: additions and multiplications of one call; 0: not worth counting.
        torch: the same by torch's own operator; None: it has none.
        peak: the CPU's ceiling that `operations` are compared with: "fma", or another's name.
        reference: whether the reference is worth its time here.
    """

    name: str
    run: Callable[[], object]
    bytes: int
    operations: int = 0
    torch: Callable[[], object] | None = None
    peak: str = "fma"
    reference: bool = True


def rotate(runs: list[Callable[[], object]]) -> Callable[[], object]:
    """Calls one after the other, and begins anew."""
    position = 0

    def run() -> object:
        nonlocal position
        position = (position + 1) % len(runs)
        return runs[position]()

    return run


def short(dtype: torch.dtype) -> str:
    """Its name, as tables show it."""
    return str(dtype).removeprefix("torch.")
