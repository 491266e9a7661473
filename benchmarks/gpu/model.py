"""A decoder with random weights, made on the device: no checkpoint is read or written."""

from __future__ import annotations

import torch

from benchmarks.gpu.shapes import Config
from inferd.engines.native.architectures import parse_config
from inferd.engines.native.decoder import DTYPES, Decoder
from inferd.engines.native.decoder_weights import parameters
from inferd.engines.native.parameters import Param
from inferd.engines.native.stores import Kept, Parameters, TensorStore

ROWS = 8192
"""Of a matrix that are made at a time, in float32."""


def make(
    config: Config, device: torch.device, *, max_model_len: int, max_batch_tokens: int
) -> Decoder:
    """Inputs of unit size give outputs of about that, so that no number overflows."""
    parsed = parse_config(config, max_model_len)
    dtype = DTYPES[config["dtype"]]
    store = TensorStore(dtype, device)
    generator = torch.Generator(device).manual_seed(0)
    kept = {param.key: _filled(param, store, device, generator) for param in parameters(parsed)}
    decoder = Decoder(
        parsed, Parameters(kept), dtype=dtype, device=device, max_batch_tokens=max_batch_tokens
    )
    decoder.reserve(max_model_len)
    return decoder


def _filled(
    param: Param, store: TensorStore, device: torch.device, generator: torch.Generator
) -> Kept:
    place = store.place(param)
    total, columns = 1, param.columns
    for size in param.shape:
        total *= size
    vector = len(param.shape) == 1
    for row in range(0, total // columns, ROWS):
        count = min(ROWS, total // columns - row)
        part = torch.randn(count, columns, device=device, generator=generator)
        place.fill(row, part.mul_(0.1).add_(1.0) if vector else part.mul_(columns**-0.5))
    return place.finish()
