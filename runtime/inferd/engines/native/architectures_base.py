"""What the architectures are made from: a Llama, and the variations that several families share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from inferd.engines.native.decoder_config import DecoderConfig, LayerSpec, MoESpec
from inferd.engines.native.decoder_settings import Settings
from inferd.engines.native.rope_settings import (
    context_length,
    flat_settings,
    overlaid,
    parse_rope,
)

if TYPE_CHECKING:  # torch comes with it, and a plan has no need of that
    from inferd_kernels.activation import Kind as Activation

ACTIVATIONS: Mapping[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}


def base_config(
    config: Settings,
    served: int | None,
    *,
    rope: Settings | None = None,
    theta: float = 1e4,
    original: int | None = None,
    partial: float | None = None,
    eps: float = 1e-6,
    tied: bool = False,
    head_dim: int | None = None,
    biased: bool = True,
    activation: str = "hidden_act",
) -> DecoderConfig:
    """A Llama. The keywords are the family's defaults; `biased`: it reads the bias settings."""
    rope = rope or flat_settings(config)
    hidden, heads = config.size("hidden_size"), config.size("num_attention_heads")
    head_dim = config.optional_integer("head_dim") or head_dim or hidden // heads
    spec = parse_rope(
        config,
        rope,
        head_dim=head_dim,
        served=served,
        theta=theta,
        original=original,
        partial=partial,
    )
    bias = biased and config.flag("attention_bias")
    return DecoderConfig(
        architecture="",
        vocab_size=config.size("vocab_size"),
        hidden_size=hidden,
        intermediate_size=config.size("intermediate_size"),
        num_heads=heads,
        num_kv_heads=config.optional_integer("num_key_value_heads") or heads,
        head_dim=head_dim,
        max_position=context_length(config, rope, served),
        layers=(LayerSpec(rope=spec),) * config.size("num_hidden_layers"),
        attention_scale=head_dim**-0.5,
        norm_eps=config.number("rms_norm_eps", eps),
        activation=_activation(config, activation),
        qkv_bias=bias,
        o_bias=bias,
        mlp_bias=biased and config.flag("mlp_bias"),
        tied=config.flag("tie_word_embeddings", tied),
        dtype=config.text("dtype") or config.text("torch_dtype"),
    )


def gemma_config(
    config: Settings,
    served: int | None,
    activation: str,
    *,
    rope: Settings | None = None,
    theta: float = 1e4,
) -> DecoderConfig:
    base = base_config(
        config, served, rope=rope, theta=theta, tied=True, head_dim=256, activation=activation
    )
    return replace(
        base,
        norm_offset=1.0,
        embedding_scale=base.hidden_size**0.5,
        round_embedding_scale=True,
    )


def _activation(config: Settings, key: str) -> Activation:
    default = "silu" if key == "hidden_act" else "gelu_pytorch_tanh"
    name = config.text(key) or default
    if name not in ACTIVATIONS:
        raise config.fail(key, f"= {name!r} is not supported (known: {', '.join(ACTIVATIONS)})")
    return ACTIVATIONS[name]


def cap(config: Settings, key: str, default: float) -> float:
    """A soft cap; null switches it off."""
    return default if key not in config.values else config.optional_number(key) or 0.0


def window_of(config: Settings, default: int = 0) -> int:
    """sliding_window in tokens; 0 where it is null."""
    if "sliding_window" not in config.values:
        return default
    return config.optional_integer("sliding_window") or 0


def windowed(base: DecoderConfig, window: int) -> DecoderConfig:
    return replace(base, layers=tuple(replace(layer, window=window) for layer in base.layers))


def late_layers(config: Settings, base: DecoderConfig) -> list[bool]:
    first = config.integer("max_window_layers", 28)
    return [i >= first for i in range(len(base.layers))]


def optionally_windowed(
    config: Settings, base: DecoderConfig, sliding: list[bool]
) -> DecoderConfig:
    """As `windowed_by_layer` where `use_sliding_window` says so."""
    if config.flag("use_sliding_window"):
        return windowed_by_layer(config, base, sliding)
    config.ignore("sliding_window", "layer_types")
    return base


def sliding_layers(config: Settings, base: DecoderConfig, sliding: list[bool]) -> list[bool]:
    """Per layer, whether it slides: by `layer_types`, or else as given."""
    kinds = config.sequence("layer_types", len(base.layers))
    if kinds is None:
        return sliding
    for kind in kinds:
        if kind not in ("full_attention", "sliding_attention"):
            raise config.fail("layer_types", f"has {kind!r}, which is not supported")
    return [kind == "sliding_attention" for kind in kinds]


def windowed_by_layer(config: Settings, base: DecoderConfig, sliding: list[bool]) -> DecoderConfig:
    window = window_of(config, 4096)
    layers = tuple(
        replace(layer, window=window if slides else 0)
        for layer, slides in zip(base.layers, sliding_layers(config, base, sliding), strict=True)
    )
    return replace(base, layers=layers)


def sparse(base: DecoderConfig, moe: MoESpec, layers: list[bool] | None = None) -> DecoderConfig:
    """With experts in the chosen layers; None: in all."""
    chosen = [True] * len(base.layers) if layers is None else layers
    return replace(
        base,
        layers=tuple(
            replace(layer, moe=moe if choose else None)
            for layer, choose in zip(base.layers, chosen, strict=True)
        ),
    )


def ropes_by_kind(config: Settings) -> tuple[Settings, Settings]:
    """Rope settings of full and of sliding layers. Before transformers 5 only full ones had any."""
    nested = config.section("rope_parameters") or Settings({})
    full = overlaid(nested.section("full_attention"), config.section("rope_scaling"))
    return full, overlaid(nested.section("sliding_attention"), None)


def with_local_rope(
    config: Settings, base: DecoderConfig, local: Settings, theta: float
) -> DecoderConfig:
    """Give the sliding layers a rope of their own; `theta` is its base where it names none."""
    own = Settings(
        {"max_position_embeddings": base.max_position},
        config.where,
        sizes_only=config.sizes_only,
    )
    rope = parse_rope(own, local, head_dim=base.head_dim, served=None, theta=theta)
    layers = tuple(replace(layer, rope=rope) if layer.window else layer for layer in base.layers)
    return replace(base, layers=layers)
