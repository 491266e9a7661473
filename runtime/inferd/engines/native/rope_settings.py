"""Rope settings as config.json spells them, old and new, into a `RopeSpec`.

Checkpoints are published against transformers' `modeling_rope_utils`; its formulas are in
`rope_formulas`, which a plan does without.
"""

from __future__ import annotations

from inferd.engines.native.decoder_config import RopeSpec
from inferd.engines.native.decoder_settings import Settings

KNOWN = {
    *("rope_type", "type", "rope_theta", "partial_rotary_factor"),
    *("factor", "original_max_position_embeddings", "attention_factor"),
    *("beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"),
    *("short_factor", "long_factor", "low_freq_factor", "high_freq_factor"),
}
KINDS = ("default", "linear", "dynamic", "llama3", "yarn", "longrope")


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
    if kind not in KINDS:
        known = ", ".join(KINDS)
        raise rope.fail("rope_type", f"= {kind!r} is not supported (known: {known})")
    if unknown := sorted(rope.values.keys() - KNOWN):
        raise rope.fail(unknown[0], "is not a setting that is known")
    share = rope.number("partial_rotary_factor", partial or 1.0)
    if partial is None and share != 1.0:
        raise rope.fail("partial_rotary_factor", f"= {share} is not supported here")
    max_position = config.size("max_position_embeddings")
    outside = config.optional_integer("original_max_position_embeddings") or original
    inside = rope.optional_integer("original_max_position_embeddings")
    base = rope.number("rope_theta", config.number("rope_theta", theta))
    dim = int(head_dim * share)
    if dim < 2 or dim % 2:
        raise rope.fail("partial_rotary_factor", f"rotates {dim} dimensions of a head")
    if config.sizes_only:
        return RopeSpec((0.0,) * (dim // 2))
    from inferd.engines.native.rope_formulas import FORMULAS, RopeContext  # torch comes with it

    context = RopeContext(
        theta=base,
        dim=dim,
        max_position=max_position,
        original_max_position=outside or inside or max_position,
        served=served or max_position,
    )
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
