"""The shapes that are measured: Qwen3's architecture in two sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Shape:
    """A dense Qwen3 decoder with a tied embedding, stored as bfloat16."""

    name: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    vocabulary: int
    context: int = 4096
    rope_theta: float = 1_000_000.0
    norm_eps: float = 1e-6

    @property
    def layer_parameters(self) -> int:
        """Weights of all matrices within the layers."""
        attention = 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.mlp)

    @property
    def head_parameters(self) -> int:
        """Weights of the language model's head, which is the embedding too."""
        return self.hidden * self.vocabulary

    def config(self) -> dict[str, Any]:
        """config.json as transformers writes it."""
        return {
            "architectures": ["Qwen3ForCausalLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "dtype": "bfloat16",
            "eos_token_id": self.vocabulary - 1,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "hidden_size": self.hidden,
            "initializer_range": 0.02,
            "intermediate_size": self.mlp,
            "max_position_embeddings": self.context,
            "model_type": "qwen3",
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.kv_heads,
            "rms_norm_eps": self.norm_eps,
            "rope_theta": self.rope_theta,
            "sliding_window": None,
            "tie_word_embeddings": True,
            "use_cache": True,
            "use_sliding_window": False,
            "vocab_size": self.vocabulary,
        }


QWEN3 = Shape("qwen3-0.6b", 1024, 28, 16, 8, 128, 3072, 151_936)
SMALL = Shape("small", 256, 4, 4, 2, 64, 768, 8192)
SHAPES = {shape.name: shape for shape in (QWEN3, SMALL)}
