"""Records operations on tensors into a program."""

from __future__ import annotations

import ctypes

import torch

from inferd_kernels.activation.cpu import KINDS, GatedArgs
from inferd_kernels.attention.cpu import AttentionArgs, AttentionBatch
from inferd_kernels.cpu.library import DTYPES
from inferd_kernels.elementwise.cpu import AddArgs
from inferd_kernels.embedding.cpu import arguments as embedding_arguments
from inferd_kernels.kv_write.cpu import arguments as kv_write_arguments
from inferd_kernels.linear.cpu import arguments as linear_arguments
from inferd_kernels.linear.weight import PackedWeight
from inferd_kernels.program import Program
from inferd_kernels.rmsnorm.cpu import RmsnormArgs
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
        width = x.shape[-1]
        args = RmsnormArgs(
            x=x.data_ptr(),
            residual=None if residual is None else residual.data_ptr(),
            out=out.data_ptr(),
            weight=weight.data_ptr(),
            x_stride=x.stride(0),
            residual_stride=0 if residual is None else residual.stride(0),
            out_stride=out.stride(0),
            groups=x.shape[1] if x.dim() == 3 else 1,
            width=width,
            eps=eps,
            alpha=alpha,
            dtype=DTYPES[x.dtype],
        )
        self.program.add("rmsnorm", args, x, weight, out, residual)

    def add(self, out: torch.Tensor, x: torch.Tensor, alpha: float) -> None:
        args = AddArgs(
            out=out.data_ptr(),
            x=x.data_ptr(),
            out_stride=out.stride(0),
            x_stride=x.stride(0),
            width=out.shape[1],
            alpha=alpha,
            dtype=DTYPES[out.dtype],
        )
        self.program.add("add", args, out, x)

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
        args = AttentionArgs(
            q=q.data_ptr(),
            k_cache=k_cache.data_ptr(),
            v_cache=v_cache.data_ptr(),
            out=out.data_ptr(),
            batch=ctypes.pointer(batch),
            q_stride=q.stride(0),
            out_stride=out.stride(0),
            heads=q.shape[1],
            kv_heads=k_cache.shape[2],
            head_dim=q.shape[2],
            block_size=k_cache.shape[1],
            window=window,
            scale=scale,
            softcap=softcap,
            dtype=DTYPES[q.dtype],
        )
        self.program.add("attention", args, q, out, batch)

    def gated(self, gate_up: torch.Tensor, kind: str, out: torch.Tensor) -> None:
        args = GatedArgs(
            gate_up=gate_up.data_ptr(),
            out=out.data_ptr(),
            stride=gate_up.stride(0),
            out_stride=out.stride(0),
            width=out.shape[1],
            kind=KINDS[kind],
            dtype=DTYPES[out.dtype],
        )
        self.program.add("gated", args, gate_up, out)
