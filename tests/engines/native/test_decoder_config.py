"""config.json, old and new: what is understood, and what is refused by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from inferd.engines.native.architectures import (
    ARCHITECTURES,
    MODEL_TYPES,
    parse_config,
    supports,
)
from inferd.engines.native.parameters import read_config
from inferd.errors import StartError
from tests.engines.native import tiny

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 100,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
}
LONGROPE = {
    "type": "longrope",
    "short_factor": [1.0] * 8,
    "long_factor": [float(i + 1) for i in range(8)],
}


def config_of(case: str) -> dict[str, Any]:
    config: dict[str, Any] = tiny.CASES[case].config().to_diff_dict()
    return config


def test_every_architecture_has_a_case() -> None:
    tried = {MODEL_TYPES[config_of(case)["model_type"]] for case in tiny.CASES}
    assert tried == ARCHITECTURES.keys() == set(MODEL_TYPES.values())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"architectures": ["BertModel"]}, "BertModel"),
        ({"architectures": None}, "names neither architectures nor model_type"),
        ({"hidden_size": ...}, "hidden_size is missing"),
        ({"hidden_size": "64"}, "hidden_size must be a number"),
        ({"vocab_size": 10.5}, "vocab_size must be a whole number"),
        ({"num_hidden_layers": 0}, "num_hidden_layers must be at least 1"),
        ({"attention_bias": 1}, "attention_bias must be true or false"),
        ({"num_key_value_heads": 3}, "num_key_value_heads = 3 does not divide"),
        ({"hidden_act": "relu6"}, "hidden_act = 'relu6'"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantized with awq"),
        ({"rope_scaling": {"type": "mystery"}}, "rope_type = 'mystery'"),
        ({"rope_scaling": {"type": "linear"}}, "factor is missing"),
        ({"rope_scaling": {"type": "linear", "factor": 2, "bend": 1}}, "bend is not a setting"),
        ({"rope_scaling": ["linear"]}, "rope_scaling must be an object"),
        ({"sliding_window": 128}, "sliding_window = 128 is not supported for LlamaForCausalLM"),
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping = 30.0"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor = 0.5"),
        ({"layer_types": ["full_attention", "linear_attention"]}, "layer_types = "),
    ],
)
def test_refused_by_name(change: dict[str, Any], words: str) -> None:
    config = {key: value for key, value in {**LLAMA, **change}.items() if value is not ...}
    assert words in (supports(config) or "supported")
    with pytest.raises(StartError) as caught:
        parse_config(config)
    assert caught.value.code == "unsupported"


@pytest.mark.parametrize(
    ("case", "change", "words"),
    [
        ("gemma2", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ("gemma3", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
        ("gemma3", {"layer_types": ["sliding_attention"]}, "layer_types must be an array of 4"),
        ("gemma3", {"layer_types": ["chunked_attention"] * 4}, "has 'chunked_attention'"),
        ("mixtral", {"num_experts_per_tok": 6}, "num_experts_per_tok must be 1 to 5"),
        ("phi3", {"rope_scaling": {**LONGROPE, "long_factor": [1.0]}}, "array of 5 items"),
        ("qwen3", {"attention_bias": "yes"}, "attention_bias must be"),
    ],
)
def test_refused_in_other_families(case: str, change: dict[str, Any], words: str) -> None:
    config = {**config_of(case), **change}
    assert supports(config_of(case)) is None
    if case == "phi3":
        del config["rope_parameters"]
    assert words in (supports(config) or "supported")


@pytest.mark.parametrize(
    "change",
    [
        {"sliding_window": None, "quantization_config": None, "partial_rotary_factor": 1.0},
        {"attention_dropout": 0.1, "use_cache": False, "pretraining_tp": 2},
        {"layer_types": ["full_attention", "full_attention"]},
        {"rope_scaling": None, "rope_parameters": {"rope_type": "default"}},
        {"mlp_bias": False, "attention_bias": None},
    ],
)
def test_settings_that_change_nothing(change: dict[str, Any]) -> None:
    assert parse_config({**LLAMA, **change}) == parse_config(LLAMA)


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "default"},
        {"rope_type": "linear", "factor": 2.0},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128},
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 128,
        },
    ],
    ids=lambda rope: str(rope["rope_type"]),
)
def test_old_and_new_spellings_of_rope_agree(rope: dict[str, Any]) -> None:
    new = parse_config({**LLAMA, "rope_parameters": {**rope, "rope_theta": 5e5}})
    renamed = {"type": rope["rope_type"], **{k: v for k, v in rope.items() if k != "rope_type"}}
    assert parse_config({**LLAMA, "rope_theta": 5e5, "rope_scaling": rope}) == new
    assert parse_config({**LLAMA, "rope_theta": 5e5, "rope_scaling": renamed}) == new
    assert parse_config(LLAMA).layers[0].rope != new.layers[0].rope


def test_rope_scaling_added_to_a_new_file_is_heeded() -> None:
    base = {**LLAMA, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}
    scaling = {"factor": 4.0, "original_max_position_embeddings": 128}
    added = parse_config({**base, "rope_scaling": {**scaling, "type": "yarn"}})
    new = {**scaling, "rope_type": "yarn", "rope_theta": 5e5}
    assert added == parse_config({**LLAMA, "rope_parameters": new})


def test_old_and_new_spellings_of_gemma3_agree() -> None:
    new = config_of("gemma3")
    old = {
        **{
            key: value
            for key, value in new.items()
            if key not in ("rope_parameters", "layer_types")
        },
        "rope_theta": 5e3,
        "rope_local_base_freq": 50.0,
        "rope_scaling": {"rope_type": "linear", "factor": 4.0},
        "sliding_window_pattern": 2,
    }
    assert parse_config(old) == parse_config(new)


def test_defaults_where_config_json_is_silent() -> None:
    """Older files leave out what equals the class's default."""
    gemma = {**LLAMA, "architectures": ["Gemma2ForCausalLM"]}
    config = parse_config(gemma)
    assert config.tied
    assert config.head_dim == 256
    assert (config.attention_softcap, config.logit_softcap) == (50.0, 30.0)
    assert [layer.window for layer in config.layers] == [4096, 0]
    capless = parse_config({**gemma, "attn_logit_softcapping": None, "sliding_window": None})
    assert capless.attention_softcap == 0.0
    assert [layer.window for layer in capless.layers] == [0, 0]
    mistral = {**LLAMA, "architectures": ["MistralForCausalLM"]}
    assert parse_config(mistral).layers[0].window == 4096
    assert parse_config({**mistral, "sliding_window": None}).layers[0].window == 0


def test_architecture_by_model_type() -> None:
    by_type = {**LLAMA, "architectures": None, "model_type": "llama"}
    assert parse_config(by_type) == parse_config(LLAMA)


def test_longrope_factors_follow_the_served_context() -> None:
    config = {
        **LLAMA,
        "architectures": ["Phi3ForCausalLM"],
        "original_max_position_embeddings": 128,
        "rope_scaling": LONGROPE,
    }
    long, short = parse_config(config), parse_config(config, max_model_len=128)
    assert parse_config(config, max_model_len=129) == long
    assert (long.max_position, short.max_position) == (512, 128)
    rope, plain = long.layers[0].rope, short.layers[0].rope
    assert rope is not None
    assert plain is not None
    assert rope.attention_factor == plain.attention_factor > 1
    ratio = torch.tensor(plain.inv_freq) / torch.tensor(rope.inv_freq)
    torch.testing.assert_close(ratio, torch.arange(1.0, 9.0))
    assert parse_config({**config, "rope_scaling": {**LONGROPE, "type": "su"}}) == long


def test_yarn_extends_the_context() -> None:
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}
    assert parse_config({**LLAMA, "rope_scaling": yarn}).max_position == 2048


def test_unreadable_config(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"There is no config\.json"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(StartError, match="cannot be read"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(StartError, match="not a JSON object"):
        read_config(tmp_path)


def test_specs_are_data() -> None:
    config = parse_config(config_of("mixtral"))
    assert config == replace(config)
    assert hash(config) == hash(parse_config(config_of("mixtral")))


JUNK: list[Any] = [None, True, 0, -1, 1.5, 10**30, float("inf"), float("nan"), "x", [], [1], {}]


@pytest.mark.parametrize("case", tiny.CASES)
def test_no_value_of_any_setting_is_a_crash(case: str) -> None:
    """Every member, and every rope setting, replaced by junk: understood or refused, no more."""
    config = config_of(case)
    for key in config.keys() - {"num_hidden_layers"}:
        for value in JUNK:
            supports({**config, key: value})
    rope = config["rope_parameters"]
    for key in rope:
        for value in JUNK:
            supports({**config, "rope_parameters": {**rope, key: value}})


def test_a_pattern_in_letters_is_fine_beside_layer_types() -> None:
    config = config_of("exaone4-full") | {"sliding_window": 8, "sliding_window_pattern": "LLG"}
    kinds = ["sliding_attention", "sliding_attention", "full_attention"]
    layers = parse_config({**config, "layer_types": kinds}).layers
    assert [layer.window for layer in layers] == [8, 8, 0]
    assert [layer.rope is None for layer in layers] == [False, False, True]
