"""Whether and how a model would fit: all that can be known before its weights are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from inferd.engines.base import EngineSpec
from inferd.engines.native import memory
from inferd.engines.native.architectures import parse_config, supports
from inferd.engines.native.decoder import DTYPES, checkpoint_dtype
from inferd.engines.native.model import KVSpec
from inferd.engines.native.parameters import read_config
from inferd.engines.native.start import free_bytes, pick_device, pick_dtype
from inferd.errors import StartError
from inferd.weights import weight_files


@dataclass(frozen=True, slots=True)
class Shape:
    """What a model asks for, by its config.json."""

    architecture: str
    runner: str  # `native` or `transformers`
    why_not_native: str  # empty where the runner is `native`
    dtype: torch.dtype
    kv_specs: tuple[KVSpec, ...]
    max_position: int  # tokens


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model would run here. `refusal` says why it would not; then there are no blocks."""

    shape: Shape
    device: torch.device
    free_bytes: int
    weight_bytes: int
    kv_bytes_per_token: int
    num_blocks: int
    max_model_len: int  # tokens
    refusal: StartError | None


def plan(spec: EngineSpec) -> Plan:
    """Plan without loading. On a GPU, what a step needs beside the weights is not known yet.

    Raises: StartError: `unsupported` where no runner can run the model, or as starting it would.
    """
    folder = Path(spec.model)
    device = pick_device(spec.device)
    dtype = pick_dtype(spec.dtype, device)
    weight_files(folder)
    shape = read_shape(folder, dtype, spec.max_model_len)
    free, weights = free_bytes(device), memory.weight_bytes(folder, dtype)
    fitted, refusal = memory.KVPlan(0, 0), None
    try:
        memory.check_weights(folder, dtype, free)
        budget = kv_budget(spec, device, free, weights)
        fitted = memory.plan_kv(spec, shape.kv_specs, shape.dtype, shape.max_position, budget)
    except StartError as error:
        refusal = error
    per_token = sum(kv.bytes_per_token(shape.dtype) for kv in shape.kv_specs)
    return Plan(
        shape, device, free, weights, per_token, fitted.num_blocks, fitted.max_model_len, refusal
    )


def read_shape(folder: Path, dtype: torch.dtype | None, max_model_len: int | None) -> Shape:
    """What the model in `folder` asks for. Raises StartError(unsupported)."""
    raw = read_config(folder)
    reason = supports(raw)
    if reason is not None:
        return _fallback_shape(folder, dtype, reason)
    config = parse_config(raw, max_model_len)
    return Shape(
        architecture=config.architecture,
        runner="native",
        why_not_native="",
        dtype=dtype or checkpoint_dtype(config),
        kv_specs=config.kv_specs,
        max_position=config.max_position,
    )


def _fallback_shape(folder: Path, dtype: torch.dtype | None, reason: str) -> Shape:
    from inferd.engines.native import fallback, fallback_checks  # transformers: slow to import

    config, kv_specs = fallback.examine(folder)
    return Shape(
        architecture=fallback_checks.name_of(config),
        runner="transformers",
        why_not_native=reason,
        dtype=dtype or _stored_dtype(config.dtype),
        kv_specs=kv_specs,
        max_position=fallback_checks.context_length(config),
    )


def _stored_dtype(named: torch.dtype | str | None) -> torch.dtype:
    """The dtype that config.json names; float32 where it names none."""
    if isinstance(named, torch.dtype):
        return named
    return DTYPES.get(named or "float32", torch.float32)


def kv_budget(spec: EngineSpec, device: torch.device, free: int, weights: int) -> memory.Budget:
    """What the KV cache may take once the weights are loaded."""
    if device.type == "cuda":
        total = int(torch.cuda.mem_get_info(device)[1])
        return memory.cuda_budget(spec, free - weights, total, peak=0)
    return memory.cpu_budget(spec, free - weights, weights)
