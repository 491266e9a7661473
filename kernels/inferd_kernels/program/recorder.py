"""Records operations on tensors into a program."""

from __future__ import annotations

import torch

from inferd_kernels.activation.cpu import arguments as gated_arguments
from inferd_kernels.attention.cpu import AttentionBatch
from inferd_kernels.attention.cpu import arguments as attention_arguments
from inferd_kernels.elementwise.cpu import add_arguments
from inferd_kernels.embedding.cpu import arguments as embedding_arguments
from inferd_kernels.kv_write.cpu import arguments as kv_write_arguments
from inferd_kernels.linear.cpu import arguments as linear_arguments
from inferd_kernels.linear.weight import PackedWeight
from inferd_kernels.program import Program
from inferd_kernels.rmsnorm.cpu import arguments as rmsnorm_arguments
from inferd_kernels.rope.cpu import arguments as rope_arguments


class Recorder:
    """The operations of `inferd_kernels`, with what they return given as `out`.

    Tensors are buffers with as many rows as a run can have, or more. Those that weights and tables
    lie in are kept with the program; caches, and what a run's caller fills, are not.
    """

    def __init__(self) -> None:
        self.program = Program()

    def embedding(
        self, ids: torch.Tensor, weight: PackedWeight, scale: float, out: torch.Tensor
    ) -> None:
        self.program.add("embedding", embedding_arguments(ids, weight, scale, out), weight, out)

    def rmsnorm(
        self,
        x: torch.Tensor,
        weight: torch.Tensor,
        eps: float,
        out: torch.Tensor,
        residual: torch.Tensor | None = None,
        alpha: float = 1.0,
    ) -> None:
        """`rmsnorm` or, with a residual, `add_rmsnorm`; `out` may be x."""
        args = rmsnorm_arguments(x, weight, eps, out, residual, alpha)
        self.program.add("rmsnorm", args, x, weight, out, residual)

    def add(self, out: torch.Tensor, x: torch.Tensor, alpha: float) -> None:
        self.program.add("add", add_arguments(out, x, alpha), out, x)

    def linear(
        self, x: torch.Tensor, weight: PackedWeight, bias: torch.Tensor | None, out: torch.Tensor
    ) -> None:
        args = linear_arguments(x, weight, bias, out)
        self.program.add("linear", args, x, weight, bias, out)

    def rope(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        positions: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
    ) -> None:
        self.program.add("rope", rope_arguments(q, k, positions, cos, sin), q, k, cos, sin)

    def kv_write(
        self,
        k: torch.Tensor,
        v: torch.Tensor,
        k_cache: torch.Tensor,
        v_cache: torch.Tensor,
        slot_mapping: torch.Tensor,
    ) -> None:
        args = kv_write_arguments(k, v, k_cache, v_cache, slot_mapping)
        self.program.add("kv_write", args, k, v)

    def attention(
        self,
        q: torch.Tensor,
        k_cache: torch.Tensor,
        v_cache: torch.Tensor,
        batch: AttentionBatch,
        out: torch.Tensor,
        *,
        scale: float,
        window: int,
        softcap: float,
    ) -> None:
        """`batch` says before each run what the sequences are."""
        args = attention_arguments(
            q, k_cache, v_cache, batch, out, scale=scale, window=window, softcap=softcap
        )
        self.program.add("attention", args, q, out, batch)

    def gated(self, gate_up: torch.Tensor, kind: str, out: torch.Tensor) -> None:
        self.program.add("gated", gated_arguments(gate_up, kind, out), gate_up, out)
