"""How large a model is, by its config.json and its files' headers alone; without torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from inferd.engines.native.adapters.base import EMBEDDING, HEAD
from inferd.engines.native.adapters.sites import sites
from inferd.engines.native.architectures import architecture_name, parse_config, supports
from inferd.engines.native.compressed_tensors import contents
from inferd.engines.native.decoder_config import DecoderConfig
from inferd.engines.native.decoder_weights import parameters
from inferd.engines.native.kv_spec import NUMBER_TYPES, Dtype, KVSpec
from inferd.engines.native.memory import stored_bytes
from inferd.engines.native.parameters import Param
from inferd.engines.native.quantization import (
    NO_KERNELS,
    PANEL,
    WHY_NO_KERNELS,
    int8_groups,
    num_bytes,
    weights_in,
)
from inferd.errors import StartError
from inferd.weights import TensorInfo
from inferd_kernels.cpu.available import available

FLOAT32 = NUMBER_TYPES["float32"]

_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_HEADS = ("num_attention_heads", "n_head", "n_heads")
_WIDTHS = ("hidden_size", "n_embd", "d_model")
_LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")


@dataclass(frozen=True, slots=True)
class Shape:
    """What a model asks for. Bytes, tokens."""

    architecture: str
    runner: str  # `native` or `transformers`
    why_not_native: str  # empty where the runner is `native`
    dtype: Dtype
    weight_bytes: int  # exact where the runner is `native`
    kv_specs: tuple[KVSpec, ...]  # empty where the config does not tell
    max_position: int  # 0 where the config does not tell
    vocab_size: int
    token_bytes: int  # that a step's activations take at most per token
    adapter_bytes: int  # per unit of rank, of all projections; 0: it takes no adapters
    quantization: str = ""  # `int8`; empty: weights are in `dtype`
    kernels: bool = False  # the CPU's run it, with packed weights

    @property
    def kv_bytes_per_token(self) -> int:
        return sum(spec.bytes_per_token(self.dtype) for spec in self.kv_specs)


def read_shape(
    config: Mapping[str, Any],
    headers: Mapping[str, TensorInfo],
    *,
    dtype: str,
    on_cpu: bool,
    max_model_len: int | None = None,
    quantization: str = "auto",
) -> Shape:
    """Measure a model.

    Args:
        config: config.json.
        headers: of all its safetensors files.
        dtype: as `EngineSpec.dtype`.
        quantization: as `EngineSpec.quantization`.

    Raises StartError: `unsupported`, `bad_weights`, or `bad_option` for dtype or quantization.
    """
    reason = supports(config, sizes_only=True)
    kept = weights_in(config, quantization, why_not_native=reason, on_cpu=on_cpu)
    if reason is not None:
        return _fallback(config, headers, dtype, on_cpu, reason)
    decoder = parse_config(config, max_model_len, sizes_only=True)
    kernels = on_cpu and available()
    if kept and not kernels:
        raise StartError("unsupported", NO_KERNELS, hint=WHY_NO_KERNELS)
    served = pick_dtype(dtype, decoder.dtype, widens=on_cpu and not kernels)
    return Shape(
        architecture=decoder.architecture,
        runner="native",
        why_not_native="",
        dtype=served,
        weight_bytes=decoder_bytes(decoder, served, headers, quantization, kernels=kernels),
        kv_specs=decoder.kv_specs,
        max_position=decoder.max_position,
        vocab_size=decoder.vocab_size,
        token_bytes=_token_bytes(decoder, served),
        adapter_bytes=served.itemsize * _adapted(decoder),
        quantization=kept,
        kernels=kernels,
    )


def pick_dtype(asked: str, stored: str | None, *, widens: bool) -> Dtype:
    """What a model is served in.

    Args:
        stored: what config.json names.
        widens: `auto` is float32: see `start.pick_dtype`.
    """
    name = asked
    if asked == "auto":
        name = "float32" if widens else (stored or "float32").removeprefix("torch.")
    if name not in NUMBER_TYPES:
        known = ", ".join(NUMBER_TYPES)
        if asked == "auto":
            raise StartError("unsupported", f"config.json: dtype = {name!r} is not supported")
        raise StartError("bad_option", f"dtype {name!r} is not one of auto, {known}")
    return NUMBER_TYPES[name]


def decoder_bytes(
    config: DecoderConfig,
    dtype: Dtype,
    headers: Mapping[str, TensorInfo],
    quantization: str,
    *,
    kernels: bool,
) -> int:
    """Bytes of a native decoder's parameters."""
    params = parameters(config)
    groups = int8_groups(params, contents(headers).stored, quantization)
    return sum(
        num_bytes(param.shape, groups[param.key])
        if param.key in groups
        else _elements(param, dtype, kernels) * (FLOAT32 if param.float32 else dtype).itemsize
        for param in params
    )


def _elements(param: Param, dtype: Dtype, kernels: bool) -> int:
    """Of a parameter. The CPU's kernels fill a matrix up to whole panels of outputs and, in
    bfloat16, whole pairs of inputs."""
    if not kernels or len(param.shape) == 1:
        return prod(param.shape)
    *several, rows, columns = param.shape
    paired = columns + columns % 2 if dtype.name == "bfloat16" else columns
    return prod(several) * (rows + -rows % PANEL) * paired


def _adapted(config: DecoderConfig) -> int:
    """Elements that an adapter of rank 1 adds to every projection; embedding and head, which few
    adapters change, are not counted."""
    found = sites(config).values()
    return sum(each.inputs + each.width for each in found if each.key not in (EMBEDDING, HEAD))


def _token_bytes(config: DecoderConfig, dtype: Dtype) -> int:
    """Of one token: what a dense step has a buffer for on a CPU, or the widest place of a sparse
    layer."""
    hidden, attended = config.hidden_size, 2 * (config.q_size + config.kv_size)
    dense = 3 * (hidden + config.intermediate_size) + attended
    sparse = [4 * each.moe.top_k * each.moe.intermediate_size for each in config.layers if each.moe]
    return dtype.itemsize * max(dense, 2 * hidden + max(sparse, default=0))


def _fallback(
    config: Mapping[str, Any],
    headers: Mapping[str, TensorInfo],
    dtype: str,
    on_cpu: bool,
    reason: str,
) -> Shape:
    """What transformers' code will take, by the names that most configs use."""
    text = config.get("text_config")
    named = {**config, **text} if isinstance(text, dict) else config
    stored = named.get("dtype") or named.get("torch_dtype")
    served = pick_dtype(dtype, stored if isinstance(stored, str) else None, widens=on_cpu)
    layers, heads, width = _first(named, _LAYERS), _first(named, _HEADS), _first(named, _WIDTHS)
    head_dim = _first(named, ("head_dim",)) or (width // heads if heads else 0)
    kv_heads = _first(named, ("num_key_value_heads",)) or heads
    known = bool(layers and kv_heads and head_dim)
    return Shape(
        architecture=architecture_name(config),
        runner="transformers",
        why_not_native=reason,
        dtype=served,
        weight_bytes=stored_bytes(headers.values(), served),
        kv_specs=(KVSpec(kv_heads, head_dim),) * layers if known else (),
        max_position=_first(named, _LENGTHS),
        vocab_size=_first(named, ("vocab_size",)),
        token_bytes=served.itemsize * 16 * width,
        adapter_bytes=0,
    )


def _first(config: Mapping[str, Any], names: Iterable[str]) -> int:
    """The first of these settings that is a positive whole number; 0 where none is."""
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and value > 0:
            return value
    return 0
