"""Matrix product with a weight kept row-major as [out, in], or packed for the CPU.

A weight in int8 (`Int8Weight`) has a scale for each output o and each `group` of inputs, and so
have, while the product runs, the activations of each row t. For a group G of numbers z:

    scale = max |z| / 127,  q(z) = round(z * (127 / max |z|)), ties to even

(0 where max |z| < 2^-100; NaN where a number is not finite), and the product is

    y[t, o] = sum_G x_scale[t, G] * w_scale[o, G] * sum_(i in G) q(x)[t, i] * q(w)[o, i] + bias[o]

whose inner sums are exact, in whole numbers, and whose outer one is in fp32, in the groups' order.
Smaller groups follow the numbers more closely and cost bytes and time. With the demo model the mean
|Δlogprob| is 0.030 in groups of 32, 0.035 of 64, 0.041 of 128 and 0.051 by channel; scales add 12,
6, 3 and 0 % of bytes, and against 128 a product of 32 rows takes 20 % longer in 32 and 9 % in 64.
A checkpoint's own groups are kept where they are smaller.
"""

from __future__ import annotations

import torch

from inferd_kernels.dispatch import Op
from inferd_kernels.linear import reference
from inferd_kernels.linear.int8 import Int8Weight
from inferd_kernels.linear.weight import PackedWeight

__all__ = ["LINEAR", "LINEAR_F32", "Int8Weight", "PackedWeight", "linear", "linear_f32"]

_MODULES = {
    "cpu": "inferd_kernels.linear.cpu",
    "gpu": "inferd_kernels.linear.gpu",
    "gpu_invariant": "inferd_kernels.linear.gpu_invariant",
}
LINEAR = Op("linear", reference.linear, **_MODULES)
LINEAR_F32 = Op("linear_f32", reference.linear_f32, **_MODULES)


def linear(
    x: torch.Tensor, weight: torch.Tensor | PackedWeight, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """Apply a linear layer.

    Args:
        x: [T, in], fp32, bf16 or fp16.
        weight: [out, in], contiguous (each output's weights side by side), of x's dtype; or a
            PackedWeight of x's dtype.
        bias: [out] of x's dtype, or None.

    Returns: [T, out] of x's dtype; products accumulate in fp32. With a PackedWeight, and
        with the GPU's invariant kernels, a row's result does not depend on the other rows. Where
        the processor has AVX512-BF16, numbers below 1.2e-38 in bfloat16 count as zero.

    Semantics: y[t, o] = sum_i x[t, i] * weight[o, i] + bias[o]; in int8 as told above
    """
    return LINEAR.on(x.device.type)(x, weight, bias)


def linear_f32(
    x: torch.Tensor, weight: torch.Tensor | PackedWeight, out: torch.Tensor | None = None
) -> torch.Tensor:
    """Apply a linear layer and keep the sums as they are: for logits.

    In bfloat16 a logit between 16 and 32 is a multiple of 1/8: log-probabilities would be as
    coarse, and the best token often a tie.

    Args:
        x: [T, in], fp32, bf16 or fp16.
        weight: [out, in], contiguous, of x's dtype; or a PackedWeight of x's dtype.
        out: [T, out] float32, where the result goes; None: into memory of its own.

    Returns: [T, out] float32.

    Semantics: y[t, o] = sum_i x[t, i] * weight[o, i], in fp32
    """
    return LINEAR_F32.on(x.device.type)(x, weight, out)
