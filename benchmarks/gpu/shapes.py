"""The models that are measured, as config.json has them, and tiny ones for a rehearsal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.models.shapes import QWEN3

Config = dict[str, Any]

LLAMA_8B: Config = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "dtype": "bfloat16",
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
    "vocab_size": 128256,
}
QWEN_06B: Config = QWEN3.config()

_TINY: Config = {
    "dtype": "float32",
    "head_dim": 16,
    "hidden_size": 32,
    "intermediate_size": 48,
    "max_position_embeddings": 256,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "num_key_value_heads": 1,
    "vocab_size": 96,
}
TINY_LLAMA: Config = LLAMA_8B | _TINY
TINY_QWEN: Config = QWEN_06B | _TINY | {"eos_token_id": 95}


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured. Tokens, sequences.

    Attributes:
        context: of prompts in the batches.
        output: tokens generated per sequence in a measurement.
        batch, crowd: sequences in the batch of the large model, and of the small one.
        crowd_context: of the small one's prompts: short, so that its steps are.
        repeats: of a prefill.
        copy_bytes, matmul_side: of what the ceilings are measured with.
    """

    llama: Config
    qwen: Config
    dtype: str
    context: int
    output: int
    batch: int
    crowd: int
    crowd_context: int
    prefill: int
    repeats: int
    adapters: int
    rank: int
    copy_bytes: int
    matmul_side: int


FULL = Sizes(
    llama=LLAMA_8B,
    qwen=QWEN_06B,
    dtype="bfloat16",
    context=1024,
    output=128,
    batch=64,
    crowd=256,
    crowd_context=256,
    prefill=8192,
    repeats=5,
    adapters=16,
    rank=16,
    copy_bytes=4 << 30,
    matmul_side=8192,
)
REHEARSAL = Sizes(
    llama=TINY_LLAMA,
    qwen=TINY_QWEN,
    dtype="float32",
    context=4,
    output=3,
    batch=2,
    crowd=2,
    crowd_context=4,
    prefill=8,
    repeats=1,
    adapters=2,
    rank=2,
    copy_bytes=1 << 16,
    matmul_side=32,
)
