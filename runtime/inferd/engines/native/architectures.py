"""The architectures that the native decoder runs: config.json → `DecoderConfig`.

One function per family, saying only where it differs from Llama; the defaults for absent settings
are those of transformers' configuration classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from inferd_kernels.activation import Kind as Activation

from inferd.engines.native.decoder_config import (
    DecoderConfig,
    LayerSpec,
    MoESpec,
    NormNames,
    RopeSpec,
)
from inferd.engines.native.decoder_settings import Settings, unsupported
from inferd.engines.native.rope_settings import context_length, flat_settings, parse_rope
from inferd.errors import StartError

ACTIVATIONS: Mapping[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}
SANDWICH = NormNames(
    after_attention="post_attention_layernorm",
    before_mlp="pre_feedforward_layernorm",
    after_mlp="post_feedforward_layernorm",
)
POST_ONLY = NormNames(
    before_attention=None,
    after_attention="post_attention_layernorm",
    before_mlp=None,
    after_mlp="post_feedforward_layernorm",
)

Family = Callable[[Settings, "int | None"], DecoderConfig]


def parse_config(config: Mapping[str, Any], max_model_len: int | None = None) -> DecoderConfig:
    """Read config.json.

    Args:
        config: its JSON object.
        max_model_len: the longest context that will be served, in tokens; it decides the factors
            of longrope (see `rope_settings`). None: all that the checkpoint supports.

    Raises: StartError(unsupported), naming the architecture or the setting and the reason.
    """
    name = architecture_name(config)
    family = ARCHITECTURES.get(name)
    if family is None:
        raise unsupported(f"The architecture {name} is not one that the native decoder runs")
    settings = Settings(config)
    decoder = replace(family(settings, max_model_len), architecture=name)
    settings.refuse_unread_variations(name)
    _check(settings, decoder)
    return decoder


def supports(config: Mapping[str, Any]) -> str | None:
    """Why the native decoder cannot run this config.json; None: it can."""
    try:
        parse_config(config)
    except StartError as error:
        return error.message
    return None


def architecture_name(config: Mapping[str, Any]) -> str:
    """`architectures[0]`, or what the model_type stands for."""
    names = config.get("architectures")
    if isinstance(names, list) and names:
        return str(names[0])
    kind = config.get("model_type")
    if kind is None:
        raise unsupported("config.json names neither architectures nor model_type")
    return MODEL_TYPES.get(str(kind), str(kind))


def llama(config: Settings, served: int | None) -> DecoderConfig:
    return _base(config, served)


def mistral(config: Settings, served: int | None) -> DecoderConfig:
    return _windowed(_base(config, served, biased=False), _window(config, 4096))


def phi3(config: Settings, served: int | None) -> DecoderConfig:
    """Phi-3 and Phi-4. "su" and "yarn" are older names of longrope."""
    rope = flat_settings(config)
    if (rope.raw("rope_type") or rope.raw("type")) in ("su", "yarn"):
        rope = Settings({**rope.values, "rope_type": "longrope"}, rope.where)
    partial = config.number("partial_rotary_factor", 1.0)
    base = _base(config, served, rope=rope, original=4096, partial=partial, eps=1e-5, biased=False)
    return _windowed(base, _window(config))


def qwen2(config: Settings, served: int | None) -> DecoderConfig:
    base = replace(_base(config, served, biased=False), qkv_bias=True)
    return _optionally_windowed(config, base, _late_layers(config, base))


def qwen3(config: Settings, served: int | None) -> DecoderConfig:
    base = replace(_base(config, served, head_dim=128), qk_norm="head")
    return _optionally_windowed(config, base, _late_layers(config, base))


def qwen3_moe(config: Settings, served: int | None) -> DecoderConfig:
    base = replace(_base(config, served), qk_norm="head")
    window = _window(config, 4096)
    if not config.flag("use_sliding_window"):
        window = 0
    moe = MoESpec(
        num_experts=config.integer("num_experts", config.integer("num_local_experts", 128)),
        top_k=config.integer("num_experts_per_tok", 8),
        intermediate_size=config.size("moe_intermediate_size"),
        normalize=config.flag("norm_topk_prob"),
    )
    step = config.integer("decoder_sparse_step", 1)
    dense = set(config.raw("mlp_only_layers") or ())
    layers = tuple(
        replace(layer, moe=moe if i not in dense and (i + 1) % step == 0 else None)
        for i, layer in enumerate(base.layers)
    )
    return _windowed(replace(base, layers=layers), window)


def mixtral(config: Settings, served: int | None) -> DecoderConfig:
    base = _base(config, served, theta=1e6, eps=1e-5, biased=False)
    moe = MoESpec(
        num_experts=config.integer("num_local_experts", 8),
        top_k=config.integer("num_experts_per_tok", 2),
        intermediate_size=base.intermediate_size,
        normalize=True,
    )
    layers = tuple(replace(layer, moe=moe) for layer in base.layers)
    return _windowed(replace(base, layers=layers), _window(config))


def gemma(config: Settings, served: int | None) -> DecoderConfig:
    base = _gemma_base(config, served, "hidden_act")
    # The first releases say "gelu" and mean its tanh approximation.
    return replace(base, activation="gelu_tanh" if base.activation == "gelu" else base.activation)


def gemma2(config: Settings, served: int | None) -> DecoderConfig:
    base = replace(
        _gemma_base(config, served, "hidden_activation"),
        norms=SANDWICH,
        attention_scale=config.number("query_pre_attn_scalar", 256) ** -0.5,
        attention_softcap=_cap(config, "attn_logit_softcapping", 50.0),
        logit_softcap=_cap(config, "final_logit_softcapping", 30.0),
    )
    alternating = [(i + 1) % 2 != 0 for i in range(len(base.layers))]
    return _windowed_by_layer(config, base, alternating)


def gemma3(config: Settings, served: int | None) -> DecoderConfig:
    new = config.section("rope_parameters") or Settings({})
    full = new.section("full_attention") or config.section("rope_scaling") or Settings({})
    local = new.section("sliding_attention") or Settings({})
    base = replace(
        _gemma_base(config, served, "hidden_activation", rope=full, theta=1e6),
        norms=SANDWICH,
        qk_norm="head",
        attention_scale=config.number("query_pre_attn_scalar", 256) ** -0.5,
        logit_softcap=_cap(config, "final_logit_softcapping", 0.0),
    )
    theta = local.number("rope_theta", config.number("rope_local_base_freq", 1e4))
    local_rope = parse_rope(
        Settings({"max_position_embeddings": base.max_position}),
        local,
        head_dim=base.head_dim,
        served=served,
        theta=theta,
    )
    pattern = config.integer("sliding_window_pattern", 6)
    sliding = [(i + 1) % pattern != 0 for i in range(len(base.layers))]
    windowed = _windowed_by_layer(config, base, sliding)
    layers = tuple(
        replace(layer, rope=local_rope if sliding else layer.rope)
        for layer, sliding in zip(windowed.layers, _kinds(config, base, sliding), strict=True)
    )
    return replace(windowed, layers=layers)


def olmo2(config: Settings, served: int | None) -> DecoderConfig:
    return replace(_base(config, served, eps=1e-5), norms=POST_ONLY, qk_norm="full")


def granite(config: Settings, served: int | None) -> DecoderConfig:
    return replace(
        _base(config, served),
        embedding_scale=config.number("embedding_multiplier", 1.0),
        residual_scale=config.number("residual_multiplier", 1.0),
        attention_scale=config.number("attention_multiplier", 1.0),
        logit_scale=1.0 / config.number("logits_scaling", 1.0),
    )


def smollm3(config: Settings, served: int | None) -> DecoderConfig:
    base = _base(config, served, theta=2e6, tied=True)
    count = len(base.layers)
    interval = config.integer("no_rope_layer_interval", 4)
    default = [int((i + 1) % interval != 0) for i in range(count)]
    rotated = config.sequence("no_rope_layers", count) or default
    layers = tuple(
        layer if has_rope else replace(layer, rope=None)
        for layer, has_rope in zip(base.layers, rotated, strict=True)
    )
    base = replace(base, layers=layers)
    return _optionally_windowed(config, base, [not has_rope for has_rope in rotated])


ARCHITECTURES: Mapping[str, Family] = {
    "Gemma2ForCausalLM": gemma2,
    "Gemma3ForCausalLM": gemma3,
    "GemmaForCausalLM": gemma,
    "GraniteForCausalLM": granite,
    "LlamaForCausalLM": llama,
    "MistralForCausalLM": mistral,
    "MixtralForCausalLM": mixtral,
    "Olmo2ForCausalLM": olmo2,
    "Phi3ForCausalLM": phi3,
    "Qwen2ForCausalLM": qwen2,
    "Qwen3ForCausalLM": qwen3,
    "Qwen3MoeForCausalLM": qwen3_moe,
    "SmolLM3ForCausalLM": smollm3,
}
MODEL_TYPES: Mapping[str, str] = {
    "gemma": "GemmaForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
    "granite": "GraniteForCausalLM",
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "olmo2": "Olmo2ForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
    "smollm3": "SmolLM3ForCausalLM",
}


def _base(
    config: Settings,
    served: int | None,
    *,
    rope: Settings | None = None,
    theta: float = 1e4,
    original: int | None = None,
    partial: float = 1.0,
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
        layers=_layers(config, spec),
        attention_scale=head_dim**-0.5,
        norm_eps=config.number("rms_norm_eps", eps),
        activation=_activation(config, activation),
        qkv_bias=bias,
        o_bias=bias,
        mlp_bias=biased and config.flag("mlp_bias"),
        tied=config.flag("tie_word_embeddings", tied),
        dtype=config.raw("dtype") or config.raw("torch_dtype"),
    )


def _gemma_base(
    config: Settings,
    served: int | None,
    activation: str,
    *,
    rope: Settings | None = None,
    theta: float = 1e4,
) -> DecoderConfig:
    base = _base(
        config, served, rope=rope, theta=theta, tied=True, head_dim=256, activation=activation
    )
    return replace(
        base,
        norm_offset=1.0,
        embedding_scale=base.hidden_size**0.5,
        round_embedding_scale=True,
    )


def _layers(config: Settings, rope: RopeSpec) -> tuple[LayerSpec, ...]:
    return (LayerSpec(rope=rope),) * config.size("num_hidden_layers")


def _activation(config: Settings, key: str) -> Activation:
    default = "silu" if key == "hidden_act" else "gelu_pytorch_tanh"
    name = config.raw(key) or default
    if name not in ACTIVATIONS:
        raise config.fail(key, f"= {name!r} is not supported (known: {', '.join(ACTIVATIONS)})")
    return ACTIVATIONS[name]


def _cap(config: Settings, key: str, default: float) -> float:
    """A soft cap; null switches it off."""
    return default if key not in config.values else config.optional_number(key) or 0.0


def _window(config: Settings, default: int = 0) -> int:
    """sliding_window in tokens; 0 where it is null."""
    if "sliding_window" not in config.values:
        return default
    return config.optional_integer("sliding_window") or 0


def _windowed(base: DecoderConfig, window: int) -> DecoderConfig:
    return replace(base, layers=tuple(replace(layer, window=window) for layer in base.layers))


def _late_layers(config: Settings, base: DecoderConfig) -> list[bool]:
    first = config.integer("max_window_layers", 28)
    return [i >= first for i in range(len(base.layers))]


def _optionally_windowed(
    config: Settings, base: DecoderConfig, sliding: list[bool]
) -> DecoderConfig:
    """As `_windowed_by_layer` where `use_sliding_window` says so."""
    if config.flag("use_sliding_window"):
        return _windowed_by_layer(config, base, sliding)
    config.ignore("sliding_window", "layer_types")
    return base


def _kinds(config: Settings, base: DecoderConfig, sliding: list[bool]) -> list[bool]:
    """Per layer, whether it slides: by `layer_types`, or else as given."""
    kinds = config.sequence("layer_types", len(base.layers))
    if kinds is None:
        return sliding
    for kind in kinds:
        if kind not in ("full_attention", "sliding_attention"):
            raise config.fail("layer_types", f"has {kind!r}, which is not supported")
    return [kind == "sliding_attention" for kind in kinds]


def _windowed_by_layer(config: Settings, base: DecoderConfig, sliding: list[bool]) -> DecoderConfig:
    window = _window(config, 4096)
    layers = tuple(
        replace(layer, window=window if slides else 0)
        for layer, slides in zip(base.layers, _kinds(config, base, sliding), strict=True)
    )
    return replace(base, layers=layers)


def _check(settings: Settings, decoder: DecoderConfig) -> None:
    if decoder.num_heads % decoder.num_kv_heads:
        raise settings.fail(
            "num_key_value_heads",
            f"= {decoder.num_kv_heads} does not divide num_attention_heads = {decoder.num_heads}",
        )
    moe = next((layer.moe for layer in decoder.layers if layer.moe), None)
    if moe and not 1 <= moe.top_k <= moe.num_experts:
        raise settings.fail("num_experts_per_tok", f"must be 1 to {moe.num_experts}")
