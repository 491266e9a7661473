"""Our paged attention behind transformers' attention interface, under the name `inferd_paged`.

transformers calls `paged_attention` once per layer and forward pass, in the same order every time.
The n-th call of a pass uses the n-th layer of the KV cache. What the pass is about (its batch)
does not fit through every model's arguments, so it waits in a context variable.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import AttentionInterface

from inferd.engines.native.model import Batch, KVSpec
from inferd_kernels.attention import attention
from inferd_kernels.kv_write import kv_write

NAME = "inferd_paged"

UNSUPPORTED_ARGUMENTS = {
    "s_aux": "attention sinks",
    "sinks": "attention sinks",
    "position_bias": "a position bias (T5, ALiBi)",
    "alibi": "ALiBi",
    "head_mask": "a head mask",
    "indexer": "sparse attention",
    "cu_seq_lens_k": "an attention over sequences of its own",
}


@dataclass(frozen=True, slots=True)
class LayerCall:
    """What one layer asked of attention."""

    kv: KVSpec
    window: int  # 0: none
    problem: str | None  # why our attention cannot do it


@dataclass(slots=True)
class Pass:
    """One forward pass under way. Without a batch it only records what the layers ask for."""

    batch: Batch | None
    calls: list[LayerCall] = field(default_factory=list)
    layer: int = 0


_pass: ContextVar[Pass | None] = ContextVar("inferd_paged_pass", default=None)


@contextmanager
def forward_pass(batch: Batch | None) -> Iterator[Pass]:
    """All attention inside is over `batch`; None: record the calls instead."""
    current = Pass(batch)
    token = _pass.set(current)
    try:
        yield current
    finally:
        _pass.reset(token)


def paged_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' signature.

    query [1, Hq, T, D], key [1, Hkv, T, D], value [1, Hkv, T, Dv] → [1, T, Hq, Dv].
    """
    current = _pass.get()
    if current is None:
        raise RuntimeError(f"{NAME} attention runs only inside the engine")
    width, value_width = query.shape[-1], value.shape[-1]
    if current.batch is None:
        problem = _problem(module, query, key, attention_mask, options)
        kv = KVSpec(key.shape[1], max(width, value_width))
        current.calls.append(LayerCall(kv, sliding_window or 0, problem))
        return query.new_zeros((1, query.shape[2], query.shape[1], value_width)), None
    batch = current.batch
    keys, values = batch.kv_cache[current.layer]
    current.layer += 1
    kv_write(_rows(key, keys), _rows(value, values), keys, values, batch.slot_mapping)
    out = attention(
        _rows(query, keys),
        keys,
        values,
        batch.block_tables,
        batch.cu_seqlens_q,
        batch.seq_lens,
        max_seqlen_q=batch.max_seqlen_q,
        max_seqlen_k=batch.max_seqlen_k,
        scale=width**-0.5 if scaling is None else float(scaling),
        window=sliding_window or 0,
        softcap=softcap or 0.0,
    )
    return out[None, ..., :value_width].to(query.dtype), None


def _rows(x: torch.Tensor, cache: torch.Tensor) -> torch.Tensor:
    """[1, H, T, D] → [T, H, the cache's width] of its dtype; narrower heads end in zeros."""
    rows = x[0].transpose(0, 1).to(cache.dtype)
    missing = cache.shape[-1] - rows.shape[-1]
    return pad(rows, (0, missing)) if missing else rows


def _problem(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    attention_mask: torch.Tensor | None,
    options: dict[str, Any],
) -> str | None:
    """What this layer asks for that our attention lacks."""
    for name, meaning in UNSUPPORTED_ARGUMENTS.items():
        if options.get(name) is not None or getattr(module, name, None) is not None:
            return meaning
    if attention_mask is not None:
        return "an attention mask of its own"
    if options.get("is_causal") is False or getattr(module, "is_causal", True) is False:
        return "attention that is not causal"
    if key.shape[2] != query.shape[2] or query.shape[0] != 1:
        return "attention over states that are not the input's (cross-attention, a shared cache)"
    if query.shape[1] % key.shape[1]:
        return "query heads that are no multiple of the key-value heads"
    return None


AttentionInterface.register(NAME, paged_attention)
