"""The frequencies of each rope type, as transformers' `modeling_rope_utils` computes them.

Two types depend on a length there and must not depend on a request's here, so that its numbers
change neither with its neighbours nor with its own growth:

dynamic    changes nothing up to the checkpoint's context, and that is where we stop: plain rope.
longrope   has one set of factors for the original context and another beyond it. The choice is
           made once, by the longest context that is served: the same for every request.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from inferd.engines.native.decoder_settings import Settings


@dataclass(frozen=True, slots=True)
class RopeContext:
    """What a formula needs beside its own settings. Lengths in tokens."""

    theta: float
    dim: int  # rotated dimensions, even
    max_position: int  # max_position_embeddings
    original_max_position: int  # before any scaling
    served: int  # the longest context that is served

    def frequencies(self) -> torch.Tensor:
        """[dim / 2] float32, from the fastest to the slowest."""
        steps = torch.arange(0, self.dim, 2, dtype=torch.int64).float() / self.dim
        return 1.0 / (self.theta**steps)


Formula = Callable[[Settings, RopeContext], tuple[torch.Tensor, float]]


def _default(rope: Settings, context: RopeContext) -> tuple[torch.Tensor, float]:
    return context.frequencies(), 1.0


def _linear(rope: Settings, context: RopeContext) -> tuple[torch.Tensor, float]:
    return context.frequencies() / rope.number("factor"), 1.0


def _llama3(rope: Settings, context: RopeContext) -> tuple[torch.Tensor, float]:
    """Long waves are stretched by `factor`, short ones left, those between interpolated."""
    factor = rope.number("factor")
    low, high = rope.number("low_freq_factor"), rope.number("high_freq_factor")
    inv_freq = context.frequencies()
    length = context.original_max_position
    waves = 2 * math.pi / inv_freq
    scaled = torch.where(waves > length / low, inv_freq / factor, inv_freq)
    smooth = (length / waves - low) / (high - low)
    between = (1 - smooth) * scaled / factor + smooth * scaled
    medium = (waves >= length / high) & (waves <= length / low)
    return torch.where(medium, between, scaled), 1.0


def _yarn(rope: Settings, context: RopeContext) -> tuple[torch.Tensor, float]:
    """YaRN (Peng et al. 2023, arXiv:2309.00071)."""
    length, dim = context.original_max_position, context.dim
    factor = rope.number("factor", context.max_position / length)
    attention = rope.optional_number("attention_factor")
    if attention is None:
        attention = _yarn_attention(rope, factor)

    def dimension(rotations: float) -> float:
        return dim * math.log(length / (rotations * 2 * math.pi)) / (2 * math.log(context.theta))

    low = dimension(rope.optional_number("beta_fast") or 32)
    high = dimension(rope.optional_number("beta_slow") or 1)
    if rope.flag("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    if low == high:
        high += 0.001
    ramp = ((torch.arange(dim // 2, dtype=torch.float32) - low) / (high - low)).clamp(0, 1)
    inv_freq = context.frequencies()
    return inv_freq / factor * ramp + inv_freq * (1 - ramp), attention


def _yarn_attention(rope: Settings, factor: float) -> float:
    def scale(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    mscale, all_dim = rope.optional_number("mscale"), rope.optional_number("mscale_all_dim")
    return scale(mscale) / scale(all_dim) if mscale and all_dim else scale(1.0)


def _longrope(rope: Settings, context: RopeContext) -> tuple[torch.Tensor, float]:
    """LongRoPE (Ding et al. 2024, arXiv:2402.13753)."""
    original = context.original_max_position
    factor = rope.number("factor", context.max_position / original)
    attention = rope.optional_number("attention_factor")
    if attention is None:
        attention = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
    key = "long_factor" if context.served > original else "short_factor"
    factors = rope.sequence(key, context.dim // 2)
    if factors is None:
        raise rope.fail(key, "is missing")
    steps = torch.arange(0, context.dim, 2, dtype=torch.int64).float() / context.dim
    return 1.0 / (torch.tensor(factors, dtype=torch.float32) * context.theta**steps), attention


FORMULAS: dict[str, Formula] = {
    "default": _default,
    "linear": _linear,
    "dynamic": _default,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
}
