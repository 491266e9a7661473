"""What the runner and a model agree on: the flat batch that goes in, the tensors that come out.

Both the native decoder and the transformers fallback stand behind `Model`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from inferd.engines.native.adapters.base import Adaptable
from inferd.engines.native.kv_spec import KVSpec as KVSpec
from inferd.messages import QuantizationLoss
from inferd_kernels.lora import LoraSegments


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's work as a flat (varlen) batch: B sequences, T new tokens in all.

    Sequence b owns rows cu_seqlens_q[b] … cu_seqlens_q[b+1]-1; its new tokens are the last ones
    of its context. All index tensors live on the model's device.
    """

    input_ids: torch.Tensor  # [T] int64
    positions: torch.Tensor  # [T] int64, position of each token in its sequence
    slot_mapping: torch.Tensor  # [T] int64, block_id * block_size + offset, where its KV goes
    block_tables: torch.Tensor  # [B, max_blocks] int32; beyond its context a row holds anything
    cu_seqlens_q: torch.Tensor  # [B + 1] int32
    seq_lens: torch.Tensor  # [B] int32, context length including the new tokens
    max_seqlen_q: int
    max_seqlen_k: int
    kv_cache: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    """Per layer (keys, values), each [num_blocks, block_size, num_kv_heads, head_dim]."""
    segments: LoraSegments | None = None  # which rows use which adapter; None: none does


class Model(Protocol):
    """A decoder with its weights on its device. `forward` runs under torch.inference_mode."""

    @property
    def runner(self) -> str:
        """`native` or `transformers`."""

    @property
    def architecture(self) -> str: ...

    @property
    def vocab_size(self) -> int: ...

    @property
    def max_position(self) -> int:
        """The longest context the checkpoint supports, in tokens."""

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def kv_specs(self) -> tuple[KVSpec, ...]:
        """One per layer that keeps KV."""

    @property
    def weight_bytes(self) -> int: ...

    @property
    def weights(self) -> Sequence[torch.Tensor]:
        """All of its weights on the device; whoever moves one changes its `data` in place."""

    @property
    def quantization(self) -> str:
        """`int8`; empty where weights are in `dtype`."""

    @property
    def quantization_loss(self) -> QuantizationLoss | None:
        """What that costs; None where it was not measured."""

    @property
    def adaptable(self) -> Adaptable | None:
        """Its layers that adapters can change; None: it takes no adapters."""

    def forward(self, batch: Batch) -> torch.Tensor:
        """Write the new tokens' KV; return their final hidden states [T, hidden], normed. They hold
        until the next call."""

    def logits(self, hidden: torch.Tensor, segments: LoraSegments | None = None) -> torch.Tensor:
        """[N, hidden] → float32 [N, vocab_size], soft caps and scales applied. They hold until the
        next call.

        `segments`: which rows of `hidden` use which adapter.
        """
