"""What adapters act on: the linear layers of a model, by the names that PEFT knows them by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a plan asks what can be adapted, and does without torch
    import torch

    from inferd_kernels.linear.weight import PackedWeight
    from inferd_kernels.lora import LoraModule

EMBEDDING, HEAD = "embedding", "head"
EMBEDDING_PATH, HEAD_PATH = "model.embed_tokens", "lm_head"


@dataclass(frozen=True, slots=True)
class Site:
    """One of transformers' layers, as a part of a layer of ours."""

    key: str  # of our layer: `3.qkv`, `3.o`, `3.gate_up`, `3.down`, `embedding`, `head`
    kind: str  # the last part of its name: `q_proj`, `embed_tokens`, …
    offset: int  # of its first column in our layer's output
    width: int  # columns
    inputs: int  # columns of its input; of the embedding, the vocabulary


Sites = Mapping[str, Site]
"""transformers' module name → site; in the order of use."""


@dataclass(frozen=True, slots=True)
class Adaptable:
    """A model that takes adapters."""

    sites: Sites
    modules: Mapping[str, LoraModule]  # our layers' slots, by `Site.key`
    embedding: torch.Tensor | PackedWeight  # its weights, [vocab, hidden]
    head: torch.Tensor | PackedWeight  # its weights; the embedding's where they are tied
