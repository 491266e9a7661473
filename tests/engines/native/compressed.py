"""Checkpoints in compressed-tensors' form, beside the floats that they stand for."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tests.engines.native import tiny

LINEAR = re.compile(r"_proj\.weight$|\.w[123]\.weight$")
CHANNEL: dict[str, Any] = {
    "num_bits": 8,
    "type": "int",
    "symmetric": True,
    "strategy": "channel",
    "group_size": None,
    "dynamic": False,
    "actorder": None,
    "observer": "minmax",
}
TOKEN: dict[str, Any] = CHANNEL | {"strategy": "token", "dynamic": True, "observer": None}


def section(form: str, weights: Mapping[str, Any], inputs: Any, **others: Any) -> dict[str, Any]:
    """`quantization_config`, as llm-compressor writes it."""
    group = {
        "targets": ["Linear"],
        "weights": dict(weights),
        "input_activations": inputs,
        "output_activations": None,
        "format": form,
    }
    return {
        "quant_method": "compressed-tensors",
        "format": form,
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
        "kv_cache_scheme": None,
        "quantization_status": "compressed",
        "sparsity_config": {},
        "transform_config": {},
        **others,
    }


def write(floats: Path, folder: Path, *, packed: bool, group: int | None) -> tuple[Path, Path]:
    """(the quantised checkpoint, what it means in floats) of one in floats.

    Args:
        packed: `pack-quantized`, weights alone; else `int-quantized`.
        group: inputs that share a scale; None: all.
    """
    quantised, meant = folder / "quantised", folder / "meant"
    for copy in (quantised, meant):
        shutil.copytree(floats, copy)
    tensors = load_file(floats / "model.safetensors")
    stored: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        if not LINEAR.search(name):
            stored[name] = tensor
            continue
        q, scales = _quantise(tensor, group)
        width = tensor.shape[1] // scales.shape[1]
        tensors[name] = q * scales.float().repeat_interleave(width, dim=1)
        stored |= _stored(name.removesuffix("weight"), q, scales, packed)
    save_file(stored, quantised / "model.safetensors", {"format": "pt"})
    save_file(tensors, meant / "model.safetensors", {"format": "pt"})
    grouped = {} if group is None else {"strategy": "group", "group_size": group}
    form = "pack-quantized" if packed else "int-quantized"
    scheme = section(form, CHANNEL | grouped, None if packed else dict(TOKEN))
    tiny.edit_config(quantised, quantization_config=scheme)
    return quantised, meant


def _quantise(weight: torch.Tensor, group: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """int8 [out, in] from -128 on, and bfloat16 scales [out, groups]."""
    rows, columns = weight.shape
    parts = weight.view(rows, -1, group or columns)
    scales = (parts.abs().amax(dim=-1) / 127.5).bfloat16()
    q = (parts / scales[..., None].float()).round().clamp(-128, 127)
    return q.view(rows, columns).to(torch.int8), scales


def _stored(
    prefix: str, q: torch.Tensor, scales: torch.Tensor, packed: bool
) -> dict[str, torch.Tensor]:
    if not packed:
        return {f"{prefix}weight": q, f"{prefix}weight_scale": scales}
    words = torch.tensor(list(_words(q)), dtype=torch.int64)
    words = torch.where(words < 2**31, words, words - 2**32).to(torch.int32)
    return {
        f"{prefix}weight_packed": words.view(len(q), -1),
        f"{prefix}weight_scale": scales,
        f"{prefix}weight_shape": torch.tensor(q.shape),
    }


def _words(q: torch.Tensor) -> Iterator[int]:
    """Four numbers from 0 to 255 in each, the first in the lowest bits."""
    flat = (q.int() + 128).flatten().tolist()
    for i in range(0, len(flat), 4):
        yield sum(byte << (8 * j) for j, byte in enumerate(flat[i : i + 4]))
