"""Rope settings as config.json spells them, old and new, into a `RopeSpec`.

The formulas are those of transformers' `modeling_rope_utils`, which checkpoints are published
against. Two types depend on a length there and must not depend on a request's here, so that its
numbers change neither with its neighbours nor with its own growth:

dynamic    changes nothing up to the checkpoint's context, and that is where we stop: plain rope.
longrope   has one set of factors for the original context and another beyond it. The choice is
           made once, by the longest context that is served: the same for every request.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from inferd.engines.native.decoder_config import RopeSpec
from inferd.engines.native.decoder_settings import Settings

KNOWN = {
    *("rope_type", "type", "rope_theta", "partial_rotary_factor"),
    *("factor", "original_max_position_embeddings", "attention_factor"),
    *("beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"),
    *("short_factor", "long_factor", "low_freq_factor", "high_freq_factor"),
}


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


def flat_settings(config: Settings) -> Settings:
    """`rope_parameters` (transformers 5) with `rope_scaling` (before) over it, as people add it."""
    return overlaid(config.section("rope_parameters"), config.section("rope_scaling"))


def overlaid(new: Settings | None, old: Settings | None) -> Settings:
    """Rope settings in the new spelling, overruled by those in the old; either may be absent."""
    values = dict(new.values) if new else {}
    if old:
        values |= {**old.values, "rope_type": rope_type(old)}
    return Settings(values, (old or new or Settings({}, "config.json: rope_parameters")).where)


def rope_type(rope: Settings) -> str:
    return str(rope.raw("rope_type") or rope.raw("type") or "default")


def parse_rope(
    config: Settings,
    rope: Settings,
    *,
    head_dim: int,
    served: int | None,
    theta: float,
    original: int | None = None,
    partial: float | None = None,
) -> RopeSpec:
    """The angles of one kind of layer.

    Args:
        config, rope: config.json and its rope settings.
        served: the longest context to serve, in tokens; None: all that the checkpoint has.
        theta: the base where neither `rope` nor `config` has one.
        original: the context before scaling where it has a default of its own.
        partial: the share of head_dim that is rotated, where `rope` does not say; None: all of
            it, and `rope` may not say otherwise.
    """
    kind = rope_type(rope)
    if kind not in FORMULAS:
        known = ", ".join(FORMULAS)
        raise rope.fail("rope_type", f"= {kind!r} is not supported (known: {known})")
    if unknown := sorted(rope.values.keys() - KNOWN):
        raise rope.fail(unknown[0], "is not a setting that is known")
    share = rope.number("partial_rotary_factor", partial or 1.0)
    if partial is None and share != 1.0:
        raise rope.fail("partial_rotary_factor", f"= {share} is not supported here")
    max_position = config.size("max_position_embeddings")
    outside = config.optional_integer("original_max_position_embeddings") or original
    inside = rope.optional_integer("original_max_position_embeddings")
    context = RopeContext(
        theta=rope.number("rope_theta", config.number("rope_theta", theta)),
        dim=int(head_dim * share),
        max_position=max_position,
        original_max_position=outside or inside or max_position,
        served=served or max_position,
    )
    if context.dim < 2 or context.dim % 2:
        raise rope.fail("partial_rotary_factor", f"rotates {context.dim} dimensions of a head")
    inv_freq, factor = FORMULAS[kind](rope, context)
    if not bool(inv_freq.isfinite().all()):
        raise rope.fail(kind, "gives frequencies that are not finite")
    return RopeSpec(tuple(inv_freq.tolist()), factor)


def context_length(config: Settings, rope: Settings, served: int | None) -> int:
    """The longest context that the rope settings carry, in tokens."""
    length = config.size("max_position_embeddings")
    outside = config.optional_integer("original_max_position_embeddings")
    original = outside or rope.optional_integer("original_max_position_embeddings")
    kind = rope_type(rope)
    if kind == "yarn" and original:
        return max(length, int(original * rope.number("factor", length / original)))
    if kind == "longrope" and original and served and served <= original:
        return original
    return length


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
