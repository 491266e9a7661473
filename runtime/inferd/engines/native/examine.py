"""What only transformers' code can tell of a model that it runs, before its weights are read."""

from __future__ import annotations

from pathlib import Path

from inferd.engines.native import fallback, fallback_checks
from inferd.engines.native.kv_spec import KVSpec


def examine(folder: Path) -> tuple[tuple[KVSpec, ...], int]:
    """(shape of the KV cache, longest context in tokens). Takes seconds, and imports torch.

    Raises StartError(unsupported) where nothing here can run the model.
    """
    config, kv_specs = fallback.examine(folder)
    return kv_specs, fallback_checks.context_length(config)
