"""What a model's folder says without reading a weight: sizes, context, whether we run it."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch

from inferd.engines.native.architectures import architecture_name, parse_config, supports
from inferd.engines.native.checkpoint import read_config, read_headers
from inferd.engines.native.decoder import checkpoint_dtype
from inferd.engines.native.decoder_weights import parameters


@dataclass(frozen=True, slots=True)
class Summary:
    """A checkpoint, as far as config.json and the headers of its files tell.

    The fields below `reason` are those of the native decoder, and None where it cannot run it.
    """

    architecture: str
    disk_bytes: int  # of all tensors
    reason: str | None  # why the native decoder cannot run it; None: it can
    dtype: torch.dtype | None = None  # what it would be loaded in
    num_params: int | None = None
    weight_bytes: int | None = None  # once loaded
    kv_bytes_per_token: int | None = None
    max_position: int | None = None  # tokens
    vocab_size: int | None = None
    num_layers: int | None = None


def describe(
    folder: Path, *, dtype: torch.dtype | None = None, max_model_len: int | None = None
) -> Summary:
    """Summarise a model's folder as `load_decoder` would load it. Raises StartError."""
    raw = read_config(folder)
    disk_bytes = sum(info.num_bytes for info in read_headers(folder).values())
    if (reason := supports(raw)) is not None:
        return Summary(architecture_name(raw), disk_bytes, reason)
    config = parse_config(raw, max_model_len)
    dtype = dtype or checkpoint_dtype(config)
    params = parameters(config)
    return Summary(
        architecture=config.architecture,
        disk_bytes=disk_bytes,
        reason=None,
        dtype=dtype,
        num_params=sum(prod(param.shape) for param in params),
        weight_bytes=sum(prod(p.shape) * (p.dtype or dtype).itemsize for p in params),
        kv_bytes_per_token=sum(spec.bytes_per_token(dtype) for spec in config.kv_specs),
        max_position=config.max_position,
        vocab_size=config.vocab_size,
        num_layers=len(config.layers),
    )
