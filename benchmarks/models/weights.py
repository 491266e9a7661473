"""Random weights whose activations and logits stay of a trained model's order, in bfloat16 too."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from benchmarks.models.shapes import Shape

LOGIT_SCALE = 2.5  # standard deviation of a logit: the best one leads by about half
EMBEDDING_SCALE = 0.2  # so that layers outweigh it: else a tied model repeats what it reads


@dataclass(frozen=True, slots=True)
class Init:
    """A tensor of normal values."""

    name: str
    shape: tuple[int, ...]
    std: float
    mean: float = 0.0

    def tensor(self, seed: int) -> torch.Tensor:
        """bfloat16; depends on nothing but the seed, the name and the shape."""
        digest = hashlib.sha256(f"{seed} {self.name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
        values = torch.empty(self.shape).normal_(self.mean, self.std, generator=generator)
        return values.to(torch.bfloat16)


def parameters(shape: Shape) -> Iterator[Init]:
    """Every tensor of the checkpoint, in the order of the forward pass."""
    embedding = EMBEDDING_SCALE * shape.hidden**-0.5
    yield Init("model.embed_tokens.weight", (shape.vocabulary, shape.hidden), embedding)
    for layer in range(shape.layers):
        yield from _layer(shape, f"model.layers.{layer}")
    gain = LOGIT_SCALE / EMBEDDING_SCALE
    yield Init("model.norm.weight", (shape.hidden,), 0.1 * gain, gain)


def _layer(shape: Shape, prefix: str) -> Iterator[Init]:
    """Inputs of unit size give outputs of unit size; what joins the residual stream is smaller."""
    hidden, kv = shape.hidden, shape.kv_heads * shape.head_dim
    queries, mlp = shape.heads * shape.head_dim, shape.mlp
    quiet = (2 * shape.layers) ** -0.5
    attention = f"{prefix}.self_attn"
    yield _norm(f"{prefix}.input_layernorm", hidden)
    yield _linear(f"{attention}.q_proj", queries, hidden)
    yield _linear(f"{attention}.k_proj", kv, hidden)
    yield _linear(f"{attention}.v_proj", kv, hidden)
    yield _linear(f"{attention}.o_proj", hidden, queries, quiet)
    yield _norm(f"{attention}.q_norm", shape.head_dim)
    yield _norm(f"{attention}.k_norm", shape.head_dim)
    yield _norm(f"{prefix}.post_attention_layernorm", hidden)
    yield _linear(f"{prefix}.mlp.gate_proj", mlp, hidden)
    yield _linear(f"{prefix}.mlp.up_proj", mlp, hidden)
    yield _linear(f"{prefix}.mlp.down_proj", hidden, mlp, quiet)


def _linear(name: str, outputs: int, inputs: int, scale: float = 1.0) -> Init:
    return Init(f"{name}.weight", (outputs, inputs), scale * inputs**-0.5)


def _norm(name: str, size: int) -> Init:
    return Init(f"{name}.weight", (size,), 0.1, 1.0)
