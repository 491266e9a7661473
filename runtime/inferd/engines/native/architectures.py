"""The architectures that the native decoder runs: config.json → `DecoderConfig`.

One function per family, saying only where it differs from Llama; the defaults for absent settings
are those of transformers' configuration classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from inferd.engines.native.architectures_base import (
    base_config,
    cap,
    gemma_config,
    late_layers,
    optionally_windowed,
    ropes_by_kind,
    sparse,
    window_of,
    windowed,
    windowed_by_layer,
    with_local_rope,
)
from inferd.engines.native.decoder_config import DecoderConfig, MoESpec, NormNames
from inferd.engines.native.decoder_settings import Settings, unsupported
from inferd.engines.native.rope_settings import flat_settings, rope_type
from inferd.errors import StartError

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


def parse_config(
    config: Mapping[str, Any], max_model_len: int | None = None, *, sizes_only: bool = False
) -> DecoderConfig:
    """Read config.json.

    Args:
        config: its JSON object.
        max_model_len: the longest context that will be served, in tokens; it decides the factors
            of longrope (see `rope_formulas`). None: all that the checkpoint supports.
        sizes_only: the result is to be measured, not to be run: without rotary frequencies, and
            without torch.

    Raises: StartError(unsupported), naming the architecture or the setting and the reason.
    """
    name = architecture_name(config)
    family = ARCHITECTURES.get(name)
    if family is None:
        raise unsupported(f"The architecture {name} is not one that the native decoder runs")
    settings = Settings(config, sizes_only=sizes_only)
    try:
        decoder = replace(family(settings, max_model_len), architecture=name)
    except (ArithmeticError, ValueError) as error:
        reason = f"config.json holds a number that makes no sense: {error}"
        raise unsupported(reason) from error
    settings.refuse_unread_variations(name)
    _check(settings, decoder)
    return decoder


def supports(config: Mapping[str, Any], *, sizes_only: bool = False) -> str | None:
    """Why the native decoder cannot run this config.json; None: it can."""
    try:
        parse_config(config, sizes_only=sizes_only)
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
    return base_config(config, served)


def mistral(config: Settings, served: int | None) -> DecoderConfig:
    return windowed(base_config(config, served, biased=False), window_of(config, 4096))


def ministral(config: Settings, served: int | None) -> DecoderConfig:
    base = base_config(config, served, biased=False)
    return windowed_by_layer(config, base, [True] * len(base.layers))


def phi3(config: Settings, served: int | None) -> DecoderConfig:
    """Phi-3 and Phi-4. "su" and "yarn" are older names of longrope."""
    rope = flat_settings(config)
    if rope_type(rope) in ("su", "yarn"):
        rope = Settings({**rope.values, "rope_type": "longrope"}, rope.where)
    partial = config.number("partial_rotary_factor", 1.0)
    base = base_config(
        config, served, rope=rope, original=4096, partial=partial, eps=1e-5, biased=False
    )
    return windowed(base, window_of(config))


def qwen2(config: Settings, served: int | None) -> DecoderConfig:
    base = replace(base_config(config, served, biased=False), qkv_bias=True)
    return optionally_windowed(config, base, late_layers(config, base))


def qwen3(config: Settings, served: int | None) -> DecoderConfig:
    base = replace(base_config(config, served, head_dim=128), qk_norm="head")
    return optionally_windowed(config, base, late_layers(config, base))


def qwen3_moe(config: Settings, served: int | None) -> DecoderConfig:
    base = replace(base_config(config, served), qk_norm="head")
    window = window_of(config, 4096)
    base = windowed(base, window if config.flag("use_sliding_window") else 0)
    moe = _experts(config, "num_experts", 128, 8, config.size("moe_intermediate_size"))
    step = config.size("decoder_sparse_step", 1)
    dense = config.integers("mlp_only_layers")
    chosen = [i not in dense and (i + 1) % step == 0 for i in range(len(base.layers))]
    return sparse(base, moe, chosen)


def mixtral(config: Settings, served: int | None) -> DecoderConfig:
    base = base_config(config, served, theta=1e6, eps=1e-5, biased=False)
    moe = _experts(config, "num_local_experts", 8, 2, base.intermediate_size)
    return windowed(sparse(base, replace(moe, normalize=True)), window_of(config))


def gemma(config: Settings, served: int | None) -> DecoderConfig:
    base = gemma_config(config, served, "hidden_act")
    # The first releases say "gelu" and mean its tanh approximation.
    return replace(base, activation="gelu_tanh" if base.activation == "gelu" else base.activation)


def gemma2(config: Settings, served: int | None) -> DecoderConfig:
    base = replace(
        gemma_config(config, served, "hidden_activation"),
        norms=SANDWICH,
        attention_scale=config.number("query_pre_attn_scalar", 256) ** -0.5,
        attention_softcap=cap(config, "attn_logit_softcapping", 50.0),
        logit_softcap=cap(config, "final_logit_softcapping", 30.0),
    )
    return windowed_by_layer(config, base, _but_every(2, base))


def gemma3(config: Settings, served: int | None) -> DecoderConfig:
    full, local = ropes_by_kind(config)
    base = replace(
        gemma_config(config, served, "hidden_activation", rope=full, theta=1e6),
        norms=SANDWICH,
        qk_norm="head",
        attention_scale=config.number("query_pre_attn_scalar", 256) ** -0.5,
        logit_softcap=cap(config, "final_logit_softcapping", 0.0),
    )
    base = windowed_by_layer(config, base, _patterned(config, 6, base))
    return with_local_rope(config, base, local, config.number("rope_local_base_freq", 1e4))


def olmo2(config: Settings, served: int | None) -> DecoderConfig:
    return replace(base_config(config, served, eps=1e-5), norms=POST_ONLY, qk_norm="full")


def olmo3(config: Settings, served: int | None) -> DecoderConfig:
    full, local = ropes_by_kind(config)
    base = base_config(config, served, rope=full, theta=5e5, eps=1e-5)
    base = replace(base, norms=POST_ONLY, qk_norm="full")
    base = windowed_by_layer(config, base, _but_every(4, base))
    return with_local_rope(config, base, local, config.number("rope_theta", 5e5))


def olmoe(config: Settings, served: int | None) -> DecoderConfig:
    base = replace(base_config(config, served, eps=1e-5), qk_norm="full")
    return sparse(base, _experts(config, "num_experts", 64, 8, base.intermediate_size))


def exaone4(config: Settings, served: int | None) -> DecoderConfig:
    """Where some layers slide, only those have a position embedding."""
    base = base_config(config, served, eps=1e-5, biased=False)
    base = replace(base, norms=POST_ONLY, qk_norm="head")
    if not window_of(config, 4096):
        config.ignore("layer_types")
        return base
    base = windowed_by_layer(config, base, _patterned(config, 4, base))
    layers = tuple(layer if layer.window else replace(layer, rope=None) for layer in base.layers)
    return replace(base, layers=layers)


def seed_oss(config: Settings, served: int | None) -> DecoderConfig:
    base = base_config(config, served, head_dim=128)
    return replace(
        base,
        qkv_bias=config.flag("attention_bias", True),
        o_bias=config.flag("attention_out_bias"),
    )


def granite(config: Settings, served: int | None) -> DecoderConfig:
    return replace(
        base_config(config, served),
        embedding_scale=config.number("embedding_multiplier", 1.0),
        residual_scale=config.number("residual_multiplier", 1.0),
        attention_scale=config.number("attention_multiplier", 1.0),
        logit_scale=1.0 / config.number("logits_scaling", 1.0),
    )


def smollm3(config: Settings, served: int | None) -> DecoderConfig:
    base = base_config(config, served, theta=2e6, tied=True)
    count = len(base.layers)
    rotated = config.sequence("no_rope_layers", count)
    if rotated is None:
        rotated = _but_every(config.size("no_rope_layer_interval", 4), base)
    layers = tuple(
        layer if has_rope else replace(layer, rope=None)
        for layer, has_rope in zip(base.layers, rotated, strict=True)
    )
    base = replace(base, layers=layers)
    return optionally_windowed(config, base, [not has_rope for has_rope in rotated])


ARCHITECTURES: Mapping[str, Family] = {
    "Exaone4ForCausalLM": exaone4,
    "Gemma2ForCausalLM": gemma2,
    "Gemma3ForCausalLM": gemma3,
    "GemmaForCausalLM": gemma,
    "GraniteForCausalLM": granite,
    "LlamaForCausalLM": llama,
    "MinistralForCausalLM": ministral,
    "MistralForCausalLM": mistral,
    "MixtralForCausalLM": mixtral,
    "Olmo2ForCausalLM": olmo2,
    "Olmo3ForCausalLM": olmo3,
    "OlmoeForCausalLM": olmoe,
    "Phi3ForCausalLM": phi3,
    "Qwen2ForCausalLM": qwen2,
    "Qwen3ForCausalLM": qwen3,
    "Qwen3MoeForCausalLM": qwen3_moe,
    "SeedOssForCausalLM": seed_oss,
    "SmolLM3ForCausalLM": smollm3,
}
MODEL_TYPES: Mapping[str, str] = {
    "exaone4": "Exaone4ForCausalLM",
    "gemma": "GemmaForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
    "granite": "GraniteForCausalLM",
    "llama": "LlamaForCausalLM",
    "ministral": "MinistralForCausalLM",
    "mistral": "MistralForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "olmo2": "Olmo2ForCausalLM",
    "olmo3": "Olmo3ForCausalLM",
    "olmoe": "OlmoeForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
    "seed_oss": "SeedOssForCausalLM",
    "smollm3": "SmolLM3ForCausalLM",
}


def _but_every(n: int, base: DecoderConfig) -> list[bool]:
    """Per layer: false for every nth, as in the patterns of sliding windows."""
    return [(i + 1) % n != 0 for i in range(len(base.layers))]


def _patterned(config: Settings, default: int, base: DecoderConfig) -> list[bool]:
    """As `_but_every`, n being `sliding_window_pattern`; not looked at beside `layer_types`."""
    known = config.raw("layer_types") is not None
    n = default if known else config.size("sliding_window_pattern", default)
    return _but_every(n, base)


def _experts(
    config: Settings, key: str, default: int, top_k: int, intermediate_size: int
) -> MoESpec:
    """An MoE's settings; the defaults are the family's. transformers 5 has a second name too."""
    other = {"num_experts": "num_local_experts", "num_local_experts": "num_experts"}[key]
    return MoESpec(
        num_experts=config.integer(key, config.integer(other, default)),
        top_k=config.integer("num_experts_per_tok", top_k),
        intermediate_size=intermediate_size,
        normalize=config.flag("norm_topk_prob"),
    )


def _check(settings: Settings, decoder: DecoderConfig) -> None:
    if decoder.num_heads % decoder.num_kv_heads:
        raise settings.fail(
            "num_key_value_heads",
            f"= {decoder.num_kv_heads} does not divide num_attention_heads = {decoder.num_heads}",
        )
    moe = next((layer.moe for layer in decoder.layers if layer.moe), None)
    if moe and not 1 <= moe.top_k <= moe.num_experts:
        raise settings.fail("num_experts_per_tok", f"must be 1 to {moe.num_experts}")
