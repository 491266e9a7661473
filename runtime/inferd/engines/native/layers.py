"""One decoder layer: its weights and its step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from inferd.engines.native.decoder_config import DecoderConfig, LayerSpec
from inferd.engines.native.model import Batch
from inferd.engines.native.moe import SparseMLP
from inferd.engines.native.rope import RopeTable
from inferd.engines.native.stores import Parameters, Weight
from inferd_kernels.activation import Kind as Activation
from inferd_kernels.activation import gated
from inferd_kernels.attention import attention
from inferd_kernels.elementwise import add
from inferd_kernels.kv_write import kv_write
from inferd_kernels.linear import linear
from inferd_kernels.lora import LoraModule, LoraSegments, lora
from inferd_kernels.rmsnorm import add_rmsnorm, rmsnorm
from inferd_kernels.rope import rope_kv_write

Cache = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Attention:
    """Self-attention with fused projections. Weights are [out, in]."""

    config: DecoderConfig
    window: int
    rope: RopeTable | None
    qkv: Weight  # queries' rows, then keys', then values'
    qkv_bias: torch.Tensor | None
    o: Weight
    o_bias: torch.Tensor | None
    q_norm: torch.Tensor | None
    k_norm: torch.Tensor | None
    qkv_lora: LoraModule
    o_lora: LoraModule

    def __call__(self, x: torch.Tensor, batch: Batch, cache: Cache) -> torch.Tensor:
        """[T, hidden] → [T, hidden]; writes the new tokens' KV."""
        config = self.config
        q, k, v = self._project(x, batch.segments)
        if self.rope is None:
            kv_write(k, v, *cache, batch.slot_mapping)
        else:
            cos, sin = self.rope.cos, self.rope.sin
            rope_kv_write(q, k, v, batch.positions, cos, sin, *cache, batch.slot_mapping)
        out = attention(
            q,
            *cache,
            batch.block_tables,
            batch.cu_seqlens_q,
            batch.seq_lens,
            max_seqlen_q=batch.max_seqlen_q,
            max_seqlen_k=batch.max_seqlen_k,
            scale=config.attention_scale,
            window=self.window,
            softcap=config.attention_softcap,
        )
        return _adapted(
            out.view(-1, config.q_size), self.o, self.o_bias, self.o_lora, batch.segments
        )

    def _project(
        self, x: torch.Tensor, segments: LoraSegments | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries [T, Hq, D], keys and values [T, Hkv, D], normed where the model does so."""
        config = self.config
        qkv = _adapted(x, self.qkv, self.qkv_bias, self.qkv_lora, segments)
        q, k, v = torch.split(qkv, [config.q_size, config.kv_size, config.kv_size], dim=-1)
        if self.q_norm is not None and self.k_norm is not None and config.qk_norm == "full":
            q = rmsnorm(q, self.q_norm, config.norm_eps)
            k = rmsnorm(k, self.k_norm, config.norm_eps)
        q = q.view(-1, config.num_heads, config.head_dim)
        k = k.view(-1, config.num_kv_heads, config.head_dim)
        v = v.view(-1, config.num_kv_heads, config.head_dim)
        if self.q_norm is not None and self.k_norm is not None and config.qk_norm == "head":
            q = rmsnorm(q, self.q_norm, config.norm_eps)
            k = rmsnorm(k, self.k_norm, config.norm_eps)
        return q, k, v


@dataclass(frozen=True, slots=True)
class DenseMLP:
    """A gated MLP; `gate_up` is [2 * I, hidden], `down` [hidden, I]."""

    activation: Activation
    gate_up: Weight
    gate_up_bias: torch.Tensor | None
    down: Weight
    down_bias: torch.Tensor | None
    gate_up_lora: LoraModule
    down_lora: LoraModule

    def __call__(self, x: torch.Tensor, segments: LoraSegments | None) -> torch.Tensor:
        both = _adapted(x, self.gate_up, self.gate_up_bias, self.gate_up_lora, segments)
        inner = gated(both, self.activation)
        return _adapted(inner, self.down, self.down_bias, self.down_lora, segments)


@dataclass(frozen=True, slots=True)
class Layer:
    """Attention and MLP around the residual stream, with the norms that the model has."""

    config: DecoderConfig
    attention: Attention
    mlp: DenseMLP | SparseMLP
    before_attention: torch.Tensor | None
    after_attention: torch.Tensor | None
    before_mlp: torch.Tensor | None
    after_mlp: torch.Tensor | None

    def __call__(
        self, x: torch.Tensor | None, residual: torch.Tensor, batch: Batch, cache: Cache
    ) -> torch.Tensor:
        """Run the layer.

        Args:
            x: [T, hidden], what the layer before put out and nobody has added yet; None in front.
            residual: [T, hidden], the stream without x; changed in place.

        Returns: [T, hidden], this layer's last output, to be added by whoever comes next.
        """
        x = self._enter(x, residual, self.before_attention)
        x = self._leave(self.attention(x, batch, cache), self.after_attention)
        x = self._enter(x, residual, self.before_mlp)
        return self._leave(self.mlp(x, batch.segments), self.after_mlp)

    def _enter(
        self, x: torch.Tensor | None, residual: torch.Tensor, weight: torch.Tensor | None
    ) -> torch.Tensor:
        return enter(self.config, x, residual, weight)

    def _leave(self, x: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
        return x if weight is None else rmsnorm(x, weight, self.config.norm_eps)


def _adapted(
    x: torch.Tensor,
    weight: Weight,
    bias: torch.Tensor | None,
    module: LoraModule,
    segments: LoraSegments | None,
) -> torch.Tensor:
    """A linear layer, and what the rows' adapters add to it."""
    y = linear(x, weight, bias)
    if segments is not None:
        lora(y, x, module, segments)
    return y


def enter(
    config: DecoderConfig,
    x: torch.Tensor | None,
    residual: torch.Tensor,
    weight: torch.Tensor | None,
) -> torch.Tensor:
    """Add x to the stream in place; what the next block reads, normed where there is a norm."""
    if x is None:
        return residual if weight is None else rmsnorm(residual, weight, config.norm_eps)
    if weight is None:
        add(residual, x, config.residual_scale)
        return residual
    return add_rmsnorm(x, residual, weight, config.norm_eps, config.residual_scale)


def build_layer(
    config: DecoderConfig,
    spec: LayerSpec,
    rope: RopeTable | None,
    parameters: Parameters,
    adapters: Callable[[str], LoraModule],
) -> Layer:
    """A layer of these parameters; `adapters` gives what adapters add to its linear layers."""
    mlp: DenseMLP | SparseMLP
    if spec.moe is not None:
        mlp = SparseMLP(
            spec.moe,
            config.activation,
            parameters.matrix("router"),
            parameters.experts("gate_up"),
            parameters.experts("down"),
        )
    else:
        mlp = DenseMLP(
            activation=config.activation,
            gate_up=parameters.matrix("gate_up"),
            gate_up_bias=parameters.vector("gate_up_bias"),
            down=parameters.matrix("down"),
            down_bias=parameters.vector("down_bias"),
            gate_up_lora=adapters("gate_up"),
            down_lora=adapters("down"),
        )
    return Layer(
        config=config,
        attention=Attention(
            config=config,
            window=spec.window,
            rope=rope,
            qkv=parameters.matrix("qkv"),
            qkv_bias=parameters.vector("qkv_bias"),
            o=parameters.matrix("o"),
            o_bias=parameters.vector("o_bias"),
            q_norm=parameters.vector("q_norm"),
            k_norm=parameters.vector("k_norm"),
            qkv_lora=adapters("qkv"),
            o_lora=adapters("o"),
        ),
        mlp=mlp,
        before_attention=parameters.vector("before_attention"),
        after_attention=parameters.vector("after_attention"),
        before_mlp=parameters.vector("before_mlp"),
        after_mlp=parameters.vector("after_mlp"),
    )
