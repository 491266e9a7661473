"""Matrix product with a weight kept row-major as [out, in], or packed for the CPU."""

from __future__ import annotations

import torch

from inferd_kernels.dispatch import Op
from inferd_kernels.linear import reference
from inferd_kernels.linear.weight import PackedWeight

LINEAR = Op("linear", reference.linear, cpu="inferd_kernels.linear.cpu")
LINEAR_F32 = Op("linear_f32", reference.linear_f32, cpu="inferd_kernels.linear.cpu")


def linear(
    x: torch.Tensor, weight: torch.Tensor | PackedWeight, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """Apply a linear layer.

    Args:
        x: [T, in], fp32, bf16 or fp16.
        weight: [out, in], contiguous (each output's weights side by side), of x's dtype; or a
            PackedWeight of x's dtype.
        bias: [out] of x's dtype, or None.

    Returns: [T, out] of x's dtype; products accumulate in fp32. With a PackedWeight a row's
        result does not depend on the other rows. Where the processor has AVX512-BF16, numbers
        below 1.2e-38 in bfloat16 count as zero.

    Semantics: y[t, o] = sum_i x[t, i] * weight[o, i] + bias[o]
    """
    return LINEAR.on(x.device.type)(x, weight, bias)


def linear_f32(x: torch.Tensor, weight: torch.Tensor | PackedWeight) -> torch.Tensor:
    """Apply a linear layer and keep the sums as they are: for logits.

    In bfloat16 a logit between 16 and 32 is a multiple of 1/8: log-probabilities would be as
    coarse, and the best token often a tie.

    Args:
        x: [T, in], fp32, bf16 or fp16.
        weight: [out, in], contiguous, of x's dtype; or a PackedWeight of x's dtype.

    Returns: [T, out] float32.

    Semantics: y[t, o] = sum_i x[t, i] * weight[o, i], in fp32
    """
    return LINEAR_F32.on(x.device.type)(x, weight)
