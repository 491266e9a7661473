"""Matrix products of a mixture of experts: rows in groups, each with a weight of its own."""

from __future__ import annotations

import torch

from inferd_kernels.dispatch import Op
from inferd_kernels.grouped_linear import reference
from inferd_kernels.linear import PackedWeight

_GPU = "inferd_kernels.grouped_linear.gpu"
GROUP_ROWS = Op("group_rows", reference.group_rows, gpu=_GPU)
GROUPED_LINEAR = Op("grouped_linear", reference.grouped_linear, gpu=_GPU)
GROUPED_SUM = Op("grouped_sum", reference.grouped_sum, gpu=_GPU)


def group_rows(groups: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Put rows in the order of their groups.

    Args:
        groups: [N] int64, 0 ≤ each < count: the group of each row.
        count: of groups.

    Returns:
        order: [N] int64, the rows by group and, within a group, by number.
        places: [N] int64, where each row stands in `order`.
        offsets: [count + 1] int32, as `grouped_linear` reads it.

    Semantics: places[n] = #{m: (groups[m], m) < (groups[n], n)}; order[places[n]] = n;
        offsets[e] = #{m: groups[m] < e}
    """
    return GROUP_ROWS.on(groups.device.type)(groups, count)


def grouped_linear(
    x: torch.Tensor, weight: torch.Tensor | tuple[PackedWeight, ...], offsets: torch.Tensor
) -> torch.Tensor:
    """Multiply each group of rows with its weight.

    Args:
        x: [N, in], fp32, bf16 or fp16; group e is rows offsets[e] … offsets[e + 1] - 1.
        weight: [E, out, in], contiguous, of x's dtype; or E PackedWeights.
        offsets: [E + 1] int32, from 0 to N, none less than the one before. The GPU's kernels read
            it on the device and wait for nothing.

    Returns: [N, out] of x's dtype; products accumulate in fp32. With a PackedWeight, and with the
        GPU's kernels, a row's result does not depend on the other rows.

    Semantics: y[n, o] = sum_i x[n, i] * weight[e, o, i], e the group of n
    """
    return GROUPED_LINEAR.on(x.device.type)(x, weight, offsets)


def grouped_sum(x: torch.Tensor, places: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Gather each token's rows and add them up, one after the other.

    Args:
        x: [N, D], fp32, bf16 or fp16.
        places: [T, K] int64 < N, of the token's rows in x.
        shares: [T, K] float32.

    Returns: [T, D] of x's dtype.

    Semantics: y[t, d] = sum_k x[places[t, k], d] * shares[t, k], in fp32, from the first k to the
        last, and rounded once
    """
    return GROUPED_SUM.on(x.device.type)(x, places, shares)
