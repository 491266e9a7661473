"""What adapters add to a fused projection of Qwen3-0.6B, to all layers of a small model, and to one
layer of Llama-3.1-8B. Tensors are made on torch's default device."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from benchmarks.kernels.case import Case
from inferd_kernels.lora import LoraModule, LoraPart, LoraSegments, LoraWeights, lora, segments

TESTS = (
    "tests/kernels/test_lora.py",
    "tests/kernels/test_lora_cpu.py",
    "tests/kernels/test_lora_gpu.py",
)
RANK = 16
QKV = (1024, (2048, 1024, 1024))  # inputs and the widths of the projections
SMALL = ((320, (320, 160, 160)), (320, (320,)), (320, (864, 864)), (864, (320,)))
SMALL_LAYERS = 6
LARGE = (
    (4096, (4096, 1024, 1024)),
    (4096, (4096,)),
    (4096, (14336, 14336)),
    (14336, (4096,)),
)


def cases() -> Iterator[Case]:
    for rows, slots in ((1, 1), (8, 8), (32, 8), (512, 1)):
        for dtype in (torch.bfloat16, torch.float32):
            yield _case(f"{rows} rows of {slots}, qkv", rows, slots, dtype, (QKV,))
    for dtype in (torch.bfloat16, torch.float32):
        yield _case("32 rows of 8, 6 small layers", 32, 8, dtype, SMALL * SMALL_LAYERS)
    for rows, slots in ((64, 16), (2048, 1)):
        yield _case(f"{rows} rows of {slots}, a layer of 8B", rows, slots, torch.bfloat16, LARGE)


def _case(
    name: str,
    rows: int,
    slots: int,
    dtype: torch.dtype,
    layers: tuple[tuple[int, tuple[int, ...]], ...],
) -> Case:
    made = [_layer(rows, slots, dtype, *layer) for layer in layers]
    step = [row * slots // rows for row in range(rows)]
    device = torch.get_default_device()

    def run() -> None:
        """With the grouping of rows, which a step does once."""
        which = segments(step, [1] * rows, device)
        for add in made:
            add(which)

    weights = sum(RANK * (len(widths) * inputs + sum(widths)) for inputs, widths in layers)
    touched = sum(rows * (inputs + 2 * sum(widths)) for inputs, widths in layers)
    return Case(
        f"{name} {str(dtype).removeprefix('torch.')}",
        run,
        bytes=(slots * weights + touched) * dtype.itemsize,
        operations=2 * rows * weights,
    )


def _layer(
    rows: int, slots: int, dtype: torch.dtype, inputs: int, widths: tuple[int, ...]
) -> Callable[[LoraSegments], None]:
    module = LoraModule([_weights(dtype, inputs, widths) for _ in range(slots)])
    x, y = torch.randn(rows, inputs).to(dtype), torch.zeros(rows, sum(widths)).to(dtype)
    return lambda which: lora(y, x, module, which)


def _weights(dtype: torch.dtype, inputs: int, widths: tuple[int, ...]) -> LoraWeights:
    parts, offset = [], 0
    for width in widths:
        parts.append(LoraPart(offset, torch.randn(RANK, width).to(dtype).t()))
        offset += width
    return LoraWeights(torch.randn(RANK * len(widths), inputs).to(dtype), tuple(parts))
