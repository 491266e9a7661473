"""adapter_config.json: what PEFT's LoraConfig says about an adapter, and which of it we support.

The meaning of every field is PEFT's (`peft.LoraConfig`, and `check_target_module_exists` of its
tuners for which layers are meant). A field that would change the numbers and is not supported is
refused by its name, and so is one that is not known here unless it says nothing.
"""

from __future__ import annotations

import json
from math import isfinite, sqrt
from pathlib import Path
from typing import Any

from inferd.engines.native.adapters.base import Site
from inferd.engines.native.adapters.patterns import Patterns
from inferd.engines.native.adapters.unfit import invalid, unsupported
from inferd.peft_files import CONFIG, MAX_CONFIG

MAX_RANK = 256

_SAYS_NOTHING: tuple[object, ...] = (None, False, "", [], {})
_WITHOUT_EFFECT = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "corda_config",  # of ways to initialise; `init_lora_weights` says which was used
        "ensure_weight_tying",  # of layers in modules_to_save and trainable tokens
        "eva_config",
        "fan_in_fan_out",  # PEFT itself sets it right for linear layers
        "inference_mode",
        "loftq_config",
        "lora_dropout",
        "lora_ga_config",
        "megatron_config",  # of training in parallel
        "megatron_core",
        "peft_version",
        "qalora_group_size",
        "revision",
        "runtime_config",
        "task_type",
    }
)
_READ = frozenset(
    {
        "alpha_pattern",
        "bias",
        "exclude_modules",
        "init_lora_weights",
        "layers_pattern",
        "layers_to_transform",
        "lora_alpha",
        "peft_type",
        "r",
        "rank_pattern",
        "target_modules",
        "use_rslora",
    }
)
_WHY = {
    "use_dora": "DoRA is not supported",
    "modules_to_save": "layers that were trained whole are not supported",
    "trainable_token_indices": "tokens that were trained whole are not supported",
    "target_parameters": "adapters on parameters (experts) are not supported",
    "layer_replication": "replicated layers are not supported",
    "alora_invocation_tokens": "activated LoRA is not supported",
    "lora_bias": "biases are not supported",
}
_PLAIN_STARTS = ("gaussian", "eva", "orthogonal")
"""Ways to initialise factors that leave the base's weights alone; PiSSA and others do not."""


class AdapterSettings:
    """The parsed settings. All methods take a module's name, such as `model.layers.0.mlp.up_proj`,
    and raise Unfit where an expression of the settings cannot be matched."""

    def __init__(self, config: dict[str, Any]) -> None:
        """Raises Unfit."""
        _refuse_unsupported(config)
        self._patterns = Patterns()
        self._rank = _integer(config.get("r", 8), "r")
        self._alpha = _number(config.get("lora_alpha", 8), "lora_alpha")
        self._ranks = {
            key: _integer(value, f"rank_pattern[{key!r}]")
            for key, value in _mapping(config, "rank_pattern").items()
        }
        self._alphas = {
            key: _number(value, f"alpha_pattern[{key!r}]")
            for key, value in _mapping(config, "alpha_pattern").items()
        }
        self._rslora = bool(config.get("use_rslora"))
        self._targets = _names(config, "target_modules")
        self._excluded = _names(config, "exclude_modules")
        self._layers = _layers(config)
        self._layer_names = _names(config, "layers_pattern")
        if not self._targets:
            raise invalid("target_modules: names no layers")

    def rank(self, path: str) -> int:
        """From 1 to MAX_RANK."""
        field, rank = "r", self._rank
        for key, value in self._ranks.items():
            if self._is_key(key, path, "rank_pattern"):
                field, rank = f"rank_pattern[{key!r}]", value
                break
        if not 1 <= rank <= MAX_RANK:
            raise invalid(f"{field}: is {rank}, and must be from 1 to {MAX_RANK}")
        return rank

    def scaling(self, path: str) -> float:
        """What the product of both factors is multiplied by."""
        alpha = self._alpha
        for key, value in self._alphas.items():
            if self._is_key(key, path, "alpha_pattern"):
                alpha = value
                break
        rank = self.rank(path)
        return alpha / sqrt(rank) if self._rslora else alpha / rank

    def targets(self, path: str, site: Site) -> bool:
        """Whether the adapter changes this layer."""
        if self._names(self._excluded, "exclude_modules", path):
            return False
        if self._targets == "all-linear":
            return site.kind not in ("embed_tokens", "lm_head")
        named = self._names(self._targets, "target_modules", path)
        if isinstance(self._targets, str) or path in self._targets:
            return named
        return named and self._in_layers(path)

    def _names(self, names: str | list[str], field: str, path: str) -> bool:
        """A list holds names, whole or the last parts of them; a text is an expression."""
        if isinstance(names, str):
            return bool(names) and self._patterns.match(field, rf"(?:{names})\Z", path) is not None
        return any(path == name or path.endswith(f".{name}") for name in names)

    def _in_layers(self, path: str) -> bool:
        if not self._layers:
            return True
        names = self._layer_names or [r"[^.]*"]
        for name in [names] if isinstance(names, str) else names:
            prefix = r".*?\." if not self._layer_names else r"(?:^|.*?\.)"
            found = self._patterns.match("layers_pattern", rf"{prefix}{name}\.(?P<idx>\d+)\.", path)
            if found is not None:
                return int(found["idx"]) in self._layers
        return False

    def _is_key(self, key: str, path: str, field: str) -> bool:
        return self._patterns.match(field, rf"(.*\.)?({key})$", path) is not None


def read_settings(folder: Path) -> AdapterSettings:
    """Raises Unfit."""
    path = folder / CONFIG
    try:
        if path.stat().st_size > MAX_CONFIG:
            raise invalid(f"{CONFIG} has more than {MAX_CONFIG} bytes")
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise invalid(f"There is no {CONFIG}: this is no folder of a PEFT adapter") from None
    except (OSError, ValueError, RecursionError) as error:
        raise invalid(f"{CONFIG} cannot be read: {error}") from None
    if not isinstance(config, dict):
        raise invalid(f"{CONFIG} is not a JSON object")
    return AdapterSettings(config)


def _refuse_unsupported(config: dict[str, Any]) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise unsupported(f"peft_type: {kind!r} is not supported, only 'LORA' is")
    for field, why in _WHY.items():
        if config.get(field) not in _SAYS_NOTHING:
            raise unsupported(f"{field}: {why}")
    bias = config.get("bias", "none")
    if bias != "none":
        raise unsupported(f"bias: {bias!r} is not supported, only 'none' is")
    start = config.get("init_lora_weights", True)
    if not isinstance(start, bool | None) and start not in _PLAIN_STARTS:
        message = f"init_lora_weights: {start!r} changes the base's weights, and is not supported"
        raise unsupported(message)
    for field, value in config.items():
        known = field in _READ or field in _WITHOUT_EFFECT or field in _WHY
        if not known and value not in _SAYS_NOTHING:
            raise unsupported(f"{field}: is not supported")


def _integer(value: object, field: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise invalid(f"{field}: must be an integer, not {value!r}")
    return value


def _number(value: object, field: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not isfinite(value):
        raise invalid(f"{field}: must be a finite number, not {value!r}")
    return float(value)


def _mapping(config: dict[str, Any], field: str) -> dict[str, Any]:
    value = config.get(field) or {}
    if not isinstance(value, dict):
        raise invalid(f"{field}: must be an object")
    return value


def _names(config: dict[str, Any], field: str) -> str | list[str]:
    value = config.get(field) or []
    if not isinstance(value, str) and not _all_texts(value):
        raise invalid(f"{field}: must be a text or a list of texts")
    names: str | list[str] = value
    return names


def _all_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _layers(config: dict[str, Any]) -> frozenset[int]:
    value = config.get("layers_to_transform")
    if value is None:
        return frozenset()
    numbers = value if isinstance(value, list) else [value]
    return frozenset(_integer(number, "layers_to_transform") for number in numbers)
