"""Products with int8 weights of Qwen3-0.6B's shapes, on a CPU; torch's are of bfloat16."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch.nn import functional

from benchmarks.kernels.case import Case, Place, rotate
from inferd_kernels.linear import linear, linear_f32
from inferd_kernels.linear.int8 import Int8Weight

TESTS = ("tests/kernels/test_linear_int8.py",)
GPU_TESTS = ()
SHAPES = {
    "qkv": (1024, 4096),
    "o": (2048, 1024),
    "gate_up": (1024, 6144),
    "down": (3072, 1024),
    "head": (1024, 151_936),
}
ROWS = (1, 8, 32, 512)


def cases(place: Place) -> Iterator[Case]:
    for name, (inputs, outputs) in SHAPES.items():
        for rows in ROWS:
            if name != "head" or rows <= 32:
                yield _case(place, name, rows, inputs, outputs)


def _case(place: Place, name: str, rows: int, inputs: int, outputs: int) -> Case:
    x = torch.randn(rows, inputs).bfloat16()
    weights = _weights(place.copies(inputs * outputs), inputs, outputs)
    floats = [weight.unpack() for weight in weights]
    product = linear_f32 if name == "head" else linear
    runs: list[Callable[[], object]] = [partial(product, x, weight) for weight in weights]
    by_torch: list[Callable[[], object]] = [partial(functional.linear, x, each) for each in floats]
    written = rows * outputs * (4 if name == "head" else 2)
    return Case(
        f"{name} {inputs} -> {outputs}, {rows} rows",
        rotate(runs),
        bytes=weights[0].nbytes + x.nbytes + written,
        operations=2 * rows * inputs * outputs,
        torch=rotate(by_torch),
        peak="int8",
        reference=False,
    )


def _weights(count: int, inputs: int, outputs: int) -> list[Int8Weight]:
    first = Int8Weight.empty(outputs, inputs, torch.bfloat16)
    first.fill(0, torch.randn(outputs, inputs))
    others = []
    for _ in range(count - 1):
        copy = Int8Weight.empty(outputs, inputs, torch.bfloat16)
        for mine, its in zip(copy.tensors, first.tensors, strict=True):
            mine.copy_(its)
        others.append(copy)
    return [first, *others]
