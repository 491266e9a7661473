"""Decoders keep to their device: run where tensors have no values, a step can neither read one nor
mix in a tensor of the host's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from inferd.engines.native.architectures import parse_config
from inferd.engines.native.batching import allocate_kv
from inferd.engines.native.decoder import Decoder
from inferd.engines.native.decoder_weights import parameters
from inferd.engines.native.model import Batch
from inferd.engines.native.stores import Parameters, TensorStore
from inferd_kernels.dispatch import only
from tests.engines.native.tiny import CASES

META = torch.device("meta")
ROWS, LENGTH, SIZE = 3, 33, 4
DENSE = [name for name in CASES if "moe" not in name and name != "mixtral"]
"""The sparse MLP's reference reads how many rows each expert has; test_gpu_path has the GPU's."""


def decoder(case: str) -> Decoder:
    settings = CASES[case].config()
    mapping: Any = transformers.AutoModelForCausalLM._model_mapping
    name = mapping[type(settings)].__name__
    config = parse_config({**settings.to_dict(), "architectures": [name]}, None)
    store = TensorStore(torch.bfloat16, META)
    kept = {param.key: store.place(param).finish() for param in parameters(config)}
    found = Decoder(config, Parameters(kept), dtype=torch.bfloat16, device=META)
    found.reserve(64)
    return found


def zeros(*shape: int, dtype: torch.dtype = torch.int64) -> torch.Tensor:
    return torch.zeros(shape, dtype=dtype, device=META)


@pytest.mark.parametrize("case", DENSE)
def test_a_decode_step_stays_on_its_device(case: str) -> None:
    model = decoder(case)
    kv_cache = allocate_kv(model.kv_specs, 9, SIZE, torch.bfloat16, META)
    batch = Batch(
        input_ids=zeros(ROWS),
        positions=zeros(ROWS),
        slot_mapping=zeros(ROWS),
        block_tables=zeros(ROWS, 10, dtype=torch.int32),
        cu_seqlens_q=zeros(ROWS + 1, dtype=torch.int32),
        seq_lens=zeros(ROWS, dtype=torch.int32),
        max_seqlen_q=1,
        max_seqlen_k=LENGTH,
        kv_cache=kv_cache,
    )
    with only("reference"):
        logits = model.logits(model.forward(batch))
    assert (logits.shape, logits.device) == ((ROWS, model.vocab_size), META)
