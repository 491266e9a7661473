"""adapter_config.json means what PEFT means by it, or is refused by the field's name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
from peft.tuners.tuners_utils import check_target_module_exists

from inferd.engines.native.adapters.settings import AdapterSettings, read_settings
from inferd.engines.native.adapters.unfit import Unfit
from inferd.engines.native.decoder import Decoder
from tests.engines.native import tiny
from tests.engines.native.adapters import made

PLAIN: dict[str, Any] = {"peft_type": "LORA", "r": 8, "target_modules": ["q_proj"]}


def settings(**changes: Any) -> AdapterSettings:
    return AdapterSettings(PLAIN | changes)


@pytest.mark.parametrize(
    "config",
    [
        *made.EIGHT,
        {"target_modules": "model.layers.[01].mlp.(up|down)_proj"},
        {"target_modules": "up_proj"},  # an expression is matched against the whole name
        {"target_modules": ["proj", "self_attn.q_proj", "model.layers.1.mlp.up_proj"]},
        {"target_modules": ["q_proj", "model.layers.2.mlp.up_proj"], "layers_to_transform": 1},
        {"target_modules": ["q_proj"], "layers_to_transform": [0, 2], "layers_pattern": "layers"},
        {"target_modules": ["q_proj"], "layers_to_transform": [1], "layers_pattern": ["h", "l.*s"]},
        {"target_modules": ["q_proj"], "layers_to_transform": [1], "layers_pattern": "blocks"},
        {"target_modules": ["q_proj", "up_proj"], "exclude_modules": ["layers.1.mlp.up_proj"]},
        {"target_modules": ["q_proj"], "exclude_modules": r".*\.[02]\..*"},
    ],
)
def test_the_layers_are_pefts(config: dict[str, Any], model: Decoder) -> None:
    theirs: Any = peft.LoraConfig(**config)
    ours = settings(**json.loads(json.dumps(theirs.to_dict(), default=list)))
    assert model.adaptable is not None
    for path, site in model.adaptable.sites.items():
        expected = check_target_module_exists(theirs, path)
        assert ours.targets(path, site) == bool(expected), path


def test_all_linear_leaves_embedding_and_head_alone(model: Decoder) -> None:
    ours = settings(target_modules="all-linear")
    assert model.adaptable is not None
    left = [p for p, site in model.adaptable.sites.items() if not ours.targets(p, site)]
    assert left == ["model.embed_tokens", "lm_head"]


@pytest.mark.parametrize("config", made.EIGHT)
def test_ranks_and_scalings_are_pefts(config: dict[str, Any], folder: Path) -> None:
    with made.quiet():
        adapted: Any = peft.get_peft_model(tiny.reference(folder), peft.LoraConfig(**config))
    ours = settings(
        **json.loads(json.dumps(adapted.peft_config["default"].to_dict(), default=list))
    )
    seen = 0
    for name, layer in adapted.named_modules():
        scaling = getattr(layer, "scaling", None)
        if isinstance(scaling, dict):
            path = name.removeprefix("base_model.model.")
            assert ours.rank(path) == layer.r["default"], path
            assert ours.scaling(path) == pytest.approx(scaling["default"]), path
            seen += 1
    assert seen > 1


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"peft_type": "VERA"}, "unsupported", "peft_type"),
        ({"peft_type": None}, "unsupported", "peft_type"),
        ({"use_dora": True}, "unsupported", "use_dora"),
        ({"bias": "all"}, "unsupported", "bias"),
        ({"bias": "lora_only"}, "unsupported", "bias"),
        ({"lora_bias": True}, "unsupported", "lora_bias"),
        ({"modules_to_save": ["lm_head"]}, "unsupported", "modules_to_save"),
        ({"trainable_token_indices": [1]}, "unsupported", "trainable_token_indices"),
        ({"target_parameters": ["experts.down"]}, "unsupported", "target_parameters"),
        ({"layer_replication": [[0, 2]]}, "unsupported", "layer_replication"),
        ({"alora_invocation_tokens": [5]}, "unsupported", "alora_invocation_tokens"),
        ({"init_lora_weights": "pissa"}, "unsupported", "init_lora_weights"),
        ({"use_qalora": True}, "unsupported", "use_qalora"),
        ({"kasa_config": {"a": 1}}, "unsupported", "kasa_config"),
        ({"new_thing": 3}, "unsupported", "new_thing"),
        ({"r": "8"}, "invalid", "r"),
        ({"r": True}, "invalid", "r"),
        ({"lora_alpha": "x"}, "invalid", "lora_alpha"),
        ({"lora_alpha": float("inf")}, "invalid", "lora_alpha"),
        ({"rank_pattern": {"q_proj": 1.5}}, "invalid", "rank_pattern"),
        ({"alpha_pattern": []}, "ok", ""),
        ({"alpha_pattern": ["q_proj"]}, "invalid", "alpha_pattern"),
        ({"target_modules": None}, "invalid", "target_modules"),
        ({"target_modules": [3]}, "invalid", "target_modules"),
        ({"layers_to_transform": "all"}, "invalid", "layers_to_transform"),
        ({"new_thing": None, "kasa_config": {}, "init_lora_weights": "gaussian"}, "ok", ""),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    changes: dict[str, Any], code: str, field: str
) -> None:
    if code == "ok":
        settings(**changes)
        return
    with pytest.raises(Unfit) as caught:
        settings(**changes)
    assert caught.value.code == code
    assert caught.value.message.startswith(field)


@pytest.mark.parametrize(("rank", "pattern"), [(0, {}), (-1, {}), (257, {}), (8, {"q_proj": 300})])
def test_ranks_out_of_range(rank: int, pattern: dict[str, int]) -> None:
    with pytest.raises(Unfit, match="1 to 256"):
        settings(r=rank, rank_pattern=pattern).rank("model.layers.0.self_attn.q_proj")


@pytest.mark.parametrize("field", ["target_modules", "exclude_modules"])
def test_an_expression_that_never_ends_is_given_up(field: str, model: Decoder) -> None:
    assert model.adaptable is not None
    ours = settings(**{"target_modules": ".*", field: r"(a|e|o|.)+(a|o|.)+(a|.)+(.|.)+\1\2[!?]"})
    path = "model.layers.0.self_attn.v_proj"
    with pytest.raises(Unfit, match=f"{field}.*too long"):
        ours.targets(path, model.adaptable.sites[path])


@pytest.mark.parametrize("pattern", ["(", "a{2,1}", "x" * 3000])
def test_expressions_that_are_none(pattern: str, model: Decoder) -> None:
    assert model.adaptable is not None
    [(path, site), *_] = model.adaptable.sites.items()
    with pytest.raises(Unfit) as caught:
        settings(target_modules=pattern).targets(path, site)
    assert (caught.value.code, caught.value.message[:14]) == ("invalid", "target_modules")


@pytest.mark.parametrize("text", ["", "[]", "{", "3", "[" * 100_000, '{"r": ' * 50_000])
def test_files_that_hold_no_settings(tmp_path: Path, text: str) -> None:
    (tmp_path / "adapter_config.json").write_text(text)
    with pytest.raises(Unfit, match=r"adapter_config\.json"):
        read_settings(tmp_path)


def test_no_file_and_too_large_a_file(tmp_path: Path) -> None:
    with pytest.raises(Unfit, match=r"no adapter_config\.json"):
        read_settings(tmp_path)
    (tmp_path / "adapter_config.json").write_text(" " * (1 << 20) + "{}")
    with pytest.raises(Unfit, match="bytes"):
        read_settings(tmp_path)
