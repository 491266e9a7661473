"""What a decoder is, as data: every way in which the Llama family varies, in one frozen record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from inferd.engines.native.kv_spec import KVSpec

if TYPE_CHECKING:  # torch comes with it, and a plan has no need of that
    from inferd_kernels.activation import Kind as Activation


@dataclass(frozen=True, slots=True)
class RopeSpec:
    """One set of rotary angles: angle[p, i] = p * inv_freq[i].

    Every rope type (linear, llama3, yarn, longrope, …) comes down to this once its settings are
    known; the rotated dimensions are the head's first 2 * len(inv_freq).
    """

    inv_freq: tuple[float, ...]
    attention_factor: float = 1.0  # multiplies cos and sin


@dataclass(frozen=True, slots=True)
class MoESpec:
    """A sparse MLP: each token goes to `top_k` of `num_experts`."""

    num_experts: int
    top_k: int
    intermediate_size: int
    normalize: bool  # the chosen experts' probabilities are made to sum to 1


@dataclass(frozen=True, slots=True)
class NormNames:
    """Which norms a layer has, by the names in its checkpoint; None: no such norm."""

    before_attention: str | None = "input_layernorm"
    after_attention: str | None = None
    before_mlp: str | None = "post_attention_layernorm"
    after_mlp: str | None = None


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """What may differ from one layer to the next."""

    rope: RopeSpec | None  # None: no position embedding (NoPE)
    window: int = 0  # a token sees itself and window - 1 before it; 0: all
    moe: MoESpec | None = None  # None: a dense MLP


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """A Llama-family decoder. Sizes in elements, lengths in tokens."""

    architecture: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int  # of the dense MLPs
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_position: int
    layers: tuple[LayerSpec, ...]
    attention_scale: float
    norm_eps: float = 1e-6
    norm_offset: float = 0.0  # 1: norms multiply by 1 + weight (Gemma)
    norms: NormNames = NormNames()
    activation: Activation = "silu"
    qk_norm: Literal["none", "head", "full"] = "none"  # per head, or over all heads at once
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    attention_softcap: float = 0.0
    logit_softcap: float = 0.0
    embedding_scale: float = 1.0
    round_embedding_scale: bool = False  # to the model's dtype, as Gemma does
    residual_scale: float = 1.0
    logit_scale: float = 1.0
    tied: bool = False  # the head is the embedding
    dtype: str | None = None  # what the checkpoint says it is in, as config.json spells it

    @property
    def q_size(self) -> int:
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        return self.num_kv_heads * self.head_dim

    @property
    def kv_specs(self) -> tuple[KVSpec, ...]:
        return (KVSpec(self.num_kv_heads, self.head_dim),) * len(self.layers)
