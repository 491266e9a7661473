"""What adapters add to a fused projection, to a layer, and on a CPU to a small model's layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from benchmarks.kernels.case import ON_CPU, Case, Place, Shape, short
from inferd_kernels.lora import LoraModule, LoraPart, LoraSegments, LoraWeights, lora, segments

TESTS = ("tests/kernels/test_lora.py", "tests/kernels/test_lora_cpu.py")
GPU_TESTS = ("tests/kernels/test_lora_gpu.py",)
RANK = 16
SLOTS = 16
Layers = tuple[tuple[int, tuple[int, ...]], ...]
"""Of each linear layer the inputs, and the widths of the projections."""

SMALL = ((320, (320, 160, 160)), (320, (320,)), (320, (864, 864)), (864, (320,)))
SMALL_LAYERS = 6


def cases(place: Place) -> Iterator[Case]:
    layer = _layers(place.shape)
    for dtype in place.dtypes:
        for rows in place.rows:
            slots = min(rows, SLOTS)
            yield _case(place, f"{rows} rows of {slots}, qkv", rows, slots, dtype, layer[:1])
            yield _case(place, f"{rows} rows of {slots}, a layer", rows, slots, dtype, layer)
        if place is ON_CPU:
            name = f"32 rows of 8, {SMALL_LAYERS} small layers"
            yield _case(place, name, 32, 8, dtype, SMALL * SMALL_LAYERS)


def _layers(shape: Shape) -> Layers:
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    return (
        (shape.hidden, (queries, keys, keys)),
        (queries, (shape.hidden,)),
        (shape.hidden, (shape.mlp, shape.mlp)),
        (shape.mlp, (shape.hidden,)),
    )


def _case(
    place: Place, name: str, rows: int, slots: int, dtype: torch.dtype, layers: Layers
) -> Case:
    made = [_layer(place, rows, slots, dtype, *layer) for layer in layers]
    step = [row * slots // rows for row in range(rows)]

    def run() -> None:
        """With the grouping of rows, which a step does once."""
        which = segments(step, [1] * rows, place.device)
        for add in made:
            add(which)

    weights = sum(RANK * (len(widths) * inputs + sum(widths)) for inputs, widths in layers)
    touched = sum(rows * (inputs + 2 * sum(widths)) for inputs, widths in layers)
    return Case(
        f"{name} {short(dtype)}",
        run,
        bytes=(slots * weights + touched) * dtype.itemsize,
        operations=2 * rows * weights,
    )


def _layer(
    place: Place, rows: int, slots: int, dtype: torch.dtype, inputs: int, widths: tuple[int, ...]
) -> Callable[[LoraSegments], None]:
    module = LoraModule([_weights(place, dtype, inputs, widths) for _ in range(slots)], RANK)
    x = torch.randn(rows, inputs, device=place.device).to(dtype)
    y = torch.zeros(rows, sum(widths), device=place.device, dtype=dtype)
    return lambda which: lora(y, x, module, which)


def _weights(place: Place, dtype: torch.dtype, inputs: int, widths: tuple[int, ...]) -> LoraWeights:
    def factor(rows: int, columns: int) -> torch.Tensor:
        return torch.randn(rows, columns, device=place.device).to(dtype)

    parts, offset = [], 0
    for width in widths:
        parts.append(LoraPart(offset, factor(RANK, width).t()))
        offset += width
    return LoraWeights(factor(RANK * len(widths), inputs), tuple(parts))
