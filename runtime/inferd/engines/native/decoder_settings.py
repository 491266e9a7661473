"""config.json, read with types: a wrong value is named, and a variation nobody read is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inferd.engines.native.compressed_tensors import SECTIONS, check_scheme, section_of
from inferd.errors import StartError

NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "add_cross_attention": (False,),
    "alibi": (False,),
    "attention_bias": (False,),
    "attention_chunk_size": (),
    "attention_multiplier": (1,),
    "attn_logit_softcapping": (0,),
    "clip_qkv": (),
    "compression_config": (),
    "embedding_multiplier": (1,),
    "final_logit_softcapping": (0,),
    "is_encoder_decoder": (False,),
    "layer_types": (),
    "logit_scale": (1,),
    "logits_scaling": (1,),
    "mlp_bias": (False,),
    "no_rope_layers": (),
    "num_experts": (0,),
    "num_local_experts": (0,),
    "partial_rotary_factor": (1,),
    "qk_layernorm": (False,),
    "quantization_config": (),
    "residual_multiplier": (1,),
    "rope_interleaved": (False,),
    "rope_local_base_freq": (),
    "sliding_window": (),
    "use_bias": (False,),
    "use_bidirectional_attention": (False,),
    "use_mrope": (False,),
    "use_qk_norm": (False,),
    "use_sliding_window": (False,),
}
"""Settings that change the mathematics somewhere in the family → values (beside null) that do not.

An architecture reads those it knows; of the others, one that is set to anything else is refused.
"""


def unsupported(message: str, *, hint: str = "") -> StartError:
    return StartError("unsupported", message, hint=hint)


class Settings:
    """A JSON object whose members are read by type. null means absent, except for `raw`.

    Args:
        values: the object.
        where: what it is called in messages.
        sizes_only: only the sizes in it matter; no tables of numbers are computed.

    Every method raises StartError(unsupported) when the value is missing or of another type.
    """

    def __init__(
        self, values: Mapping[str, Any], where: str = "config.json", *, sizes_only: bool = False
    ) -> None:
        self.values = values
        self.where = where
        self.sizes_only = sizes_only
        self.read: set[str] = set()

    def raw(self, key: str, default: Any = None) -> Any:
        """The value as it stands: null is None, and `default` only where the key is absent."""
        self.read.add(key)
        return self.values.get(key, default)

    def ignore(self, *keys: str) -> None:
        """Other settings switch these off, whatever they say."""
        self.read.update(keys)

    def fail(self, key: str, reason: str) -> StartError:
        return unsupported(f"{self.where}: {key} {reason}")

    def optional_number(self, key: str) -> float | None:
        value = self.raw(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.fail(key, f"must be a number, not {value!r}")
        return float(value)

    def optional_integer(self, key: str) -> int | None:
        value = self.optional_number(key)
        if value is None:
            return None
        if value != int(value) or value < 0:
            raise self.fail(key, f"must be a whole number, not {value!r}")
        return int(value)

    def number(self, key: str, default: float | None = None) -> float:
        value = self.optional_number(key)
        return self._required(key, default) if value is None else value

    def integer(self, key: str, default: int | None = None) -> int:
        """A whole number, 0 or more."""
        value = self.optional_integer(key)
        return int(self._required(key, default)) if value is None else value

    def size(self, key: str, default: int | None = None) -> int:
        """A whole number, 1 or more; required where there is no default."""
        value = self.integer(key, default)
        if value < 1:
            raise self.fail(key, "must be at least 1")
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        value = self.raw(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.fail(key, f"must be true or false, not {value!r}")
        return value

    def text(self, key: str) -> str | None:
        value = self.raw(key)
        if value is not None and not isinstance(value, str):
            raise self.fail(key, f"must be a string, not {value!r}")
        return value

    def integers(self, key: str) -> list[int]:
        """An array of whole numbers; empty where absent."""
        value = self.raw(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(type(item) is int for item in value):
            raise self.fail(key, f"must be an array of whole numbers, not {value!r}")
        return value

    def sequence(self, key: str, length: int) -> list[Any] | None:
        """An array of exactly `length` items, or None where absent."""
        value = self.raw(key)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) != length:
            raise self.fail(key, f"must be an array of {length} items, not {value!r}")
        return value

    def section(self, key: str) -> Settings | None:
        """An object in the object, or None where absent or empty."""
        value = self.raw(key)
        if not value:
            return None
        if not isinstance(value, dict):
            raise self.fail(key, f"must be an object, not {value!r}")
        return Settings(value, f"{self.where}: {key}")

    def refuse_unread_variations(self, architecture: str) -> None:
        """Raise StartError(unsupported) if a setting that changes the mathematics was not read."""
        if (section := section_of(self.values)) is not None:
            check_scheme(section)
            self.ignore(*SECTIONS)
        for key in sorted(NEUTRAL.keys() & self.values.keys() - self.read):
            value = self.values[key]
            if value is not None and value not in NEUTRAL[key] and not _all_full(key, value):
                raise self.fail(key, f"= {value!r} is not supported for {architecture}")

    def _required(self, key: str, default: float | None) -> float:
        if default is None:
            raise self.fail(key, "is missing")
        return default


def _all_full(key: str, value: Any) -> bool:
    return (
        key == "layer_types"
        and isinstance(value, list)
        and all(kind == "full_attention" for kind in value)
    )
