"""int8 checkpoints in compressed-tensors' form, as llm-compressor writes them; without torch.

A linear layer is kept as `weight` (int8) and `weight_scale` (`int-quantized`), or as
`weight_packed` (four bytes w + 128 in an int32), `weight_scale` and `weight_shape`
(`pack-quantized`); one that was ignored is kept as `weight` in floats. Which of them a layer is,
its tensors tell; the config, that they mean what we take them for.
Source: https://github.com/vllm-project/compressed-tensors, `quantization/quant_config.py`,
`quantization/quant_args.py` and `compressors/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from inferd.engines.native.parameters import bad_weights
from inferd.errors import StartError
from inferd.weights import TensorInfo

METHOD = "compressed-tensors"

SECTIONS = ("quantization_config", "compression_config")  # today's name, and the first one
_FORMATS = ("int-quantized", "naive-quantized", "pack-quantized")
_PRESETS = ("W8A8", "INT8", "W8A16")
_SCALES = ("F32", "F16", "BF16")
_BESIDE = ("weight_shape", "weight_zero_point")  # the shape is known; zero points are zeros


@dataclass(frozen=True, slots=True)
class Stored:
    """A quantised weight of a checkpoint: the tensors that hold its bytes and its scales."""

    name: str
    file: Path
    scales: str
    scales_file: Path
    shape: tuple[int, int]  # [out, in]
    group: int  # inputs that share a scale
    packed: bool
    zeros: tuple[str, Path] | None = None  # zero points, where they are stored: all 0


@dataclass(frozen=True, slots=True)
class Contents:
    """A checkpoint's tensors.

    Args:
        headers: a quantised weight is one tensor here, under the name and with the shape that it
            would have in floats.
        stored: those of them that are quantised.
    """

    headers: dict[str, TensorInfo]
    stored: dict[str, Stored]


def section_of(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What config.json says of quantisation; None: nothing. Raises StartError(unsupported)."""
    for key in SECTIONS:
        if section := config.get(key):
            return _object(section, f"config.json: {key}")
    return None


def check_scheme(section: Mapping[str, Any]) -> None:
    """Raise StartError(unsupported), naming it, for a scheme that we do not run."""
    method = section.get("quant_method", METHOD)
    if method != METHOD:
        raise _unsupported(f"{method}")
    if (form := section.get("format")) not in _FORMATS:
        raise _unsupported(f"the format {form}")
    for key, what in (
        ("kv_cache_scheme", "a quantised KV cache"),
        ("transform_config", "transformed weights"),
    ):
        if section.get(key):
            raise _unsupported(what)
    sparse = section.get("sparsity_config") or {}
    if _object(sparse, "sparsity_config").get("format", "dense") != "dense":
        raise _unsupported("sparse weights")
    groups = _object(section.get("config_groups"), "config_groups")
    for name, group in groups.items():
        if isinstance(group, list):  # of the layers that a scheme of this name applies to
            if name not in _PRESETS:
                raise _unsupported(f"the scheme {name}")
        else:
            _check_group(_object(group, name))


def contents(headers: Mapping[str, TensorInfo]) -> Contents:
    """Find the quantised weights. Raises StartError(bad_weights)."""
    logical, stored = dict(headers), {}
    for scales in (name for name in headers if name.endswith("weight_scale")):
        prefix = scales.removesuffix("weight_scale")
        packed = f"{prefix}weight_packed" in headers
        name = f"{prefix}weight_packed" if packed else f"{prefix}weight"
        if name not in headers:
            raise bad_weights(f"{scales} is there, and {name} is not")
        if packed and f"{prefix}weight" in headers:
            raise bad_weights(f"{prefix}weight and {name} are both there")
        for used in (name, scales, *(prefix + each for each in _BESIDE)):
            logical.pop(used, None)
        data = headers[name]
        shape = _shape(name, data, packed)
        group = _group(scales, headers[scales], shape)
        size = data.num_bytes + headers[scales].num_bytes
        logical[f"{prefix}weight"] = replace(data, shape=shape, num_bytes=size)
        points = f"{prefix}weight_zero_point"
        stored[f"{prefix}weight"] = Stored(
            name=name,
            file=data.file,
            scales=scales,
            scales_file=headers[scales].file,
            shape=shape,
            group=group,
            packed=packed,
            zeros=(points, headers[points].file) if points in headers else None,
        )
    return Contents(logical, stored)


def _check_group(group: Mapping[str, Any]) -> None:
    if (form := group.get("format")) and form not in _FORMATS:
        raise _unsupported(f"the format {form}")
    if group.get("output_activations"):
        raise _unsupported("quantised outputs")
    weights = _object(group.get("weights"), "weights")
    _check_numbers("weights", weights)
    if weights.get("dynamic"):
        raise _unsupported("dynamic weights")
    if weights.get("strategy", "channel") not in ("tensor", "channel", "group"):
        raise _unsupported(f"weights by {weights['strategy']}")
    if weights.get("actorder") in (True, "group", "dynamic"):
        raise _unsupported("weights in the order of activations (actorder)")
    inputs = group.get("input_activations")
    if inputs is not None:
        inputs = _object(inputs, "input_activations")
        _check_numbers("activations", inputs)
        if inputs.get("dynamic") is not True:
            raise _unsupported("static activations")


def _check_numbers(what: str, scheme: Mapping[str, Any]) -> None:
    kind, bits = scheme.get("type", "int"), scheme.get("num_bits", 8)
    if (kind, bits) != ("int", 8):
        raise _unsupported(f"{what} in {kind}{bits}")
    if scheme.get("symmetric", True) is not True:
        raise _unsupported(f"asymmetric {what}")


def _shape(name: str, data: TensorInfo, packed: bool) -> tuple[int, int]:
    kind = "I32" if packed else "I8"
    if data.dtype != kind:
        raise bad_weights(f"{name} is stored as {data.dtype} instead of {kind}")
    if len(data.shape) != 2 or 0 in data.shape:
        raise bad_weights(f"{name} {list(data.shape)} is not a matrix")
    return data.shape[0], data.shape[1] * (4 if packed else 1)


def _group(name: str, scales: TensorInfo, shape: tuple[int, int]) -> int:
    """Inputs that share a scale; one for the whole tensor is one for each output."""
    rows, columns = shape
    if scales.dtype not in _SCALES:
        raise bad_weights(f"{name} is stored as {scales.dtype}")
    if scales.shape in ((), (1,), (1, 1), (rows,)):
        return columns
    groups = scales.shape[1] if len(scales.shape) == 2 and scales.shape[0] == rows else 0
    if not groups or columns % groups:
        raise bad_weights(f"{name} {list(scales.shape)} does not fit {rows} × {columns} weights")
    return columns // groups


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _unsupported(f"{where}, which must be an object")
    return value


def _unsupported(what: str) -> StartError:
    return StartError(
        "unsupported",
        f"config.json: the weights are quantized with {what}, which is not supported",
        hint="Use the unquantized checkpoint, with --quantization int8 where memory is short.",
    )
