"""Tiny random checkpoints of every architecture, and a paged cache to run decoders in.

Weights are large and norms random, so that a wrong scale, cap, window or norm shows in the logits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
import transformers

from inferd.engines.native.model import Batch, Model
from inferd_kernels import layout

VOCAB = 199
SMALL: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 60,
    "intermediate_size": 88,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "max_position_embeddings": 128,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
HALVES = 5  # rotated pairs of a 10-wide head


@dataclass(frozen=True)
class Case:
    """A configuration: a class of transformers and what differs from SMALL."""

    kind: str
    changes: dict[str, Any] = field(default_factory=dict)

    def config(self) -> Any:
        return getattr(transformers, f"{self.kind}Config")(**SMALL | self.changes)


def _rope(kind: str, **settings: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 100.0, **settings}}


CASES: dict[str, Case] = {
    "llama": Case("Llama", _rope("default")),
    "llama-bias-tied": Case(
        "Llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}
    ),
    "llama-one-kv-head": Case(
        "Llama", {"num_attention_heads": 5, "num_key_value_heads": 1, "head_dim": 14}
    ),
    "llama-linear": Case("Llama", _rope("linear", factor=3.0)),
    "llama-dynamic": Case("Llama", _rope("dynamic", factor=2.0)),
    "llama-llama3": Case(
        "Llama",
        _rope(
            "llama3",
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=32,
        ),
    ),
    "llama-yarn": Case(
        "Llama", _rope("yarn", factor=4.0, original_max_position_embeddings=32, beta_fast=4)
    ),
    "llama-yarn-mscale": Case(
        "Llama",
        _rope(
            "yarn",
            factor=4.0,
            original_max_position_embeddings=32,
            mscale=1.2,
            mscale_all_dim=0.5,
            truncate=False,
        ),
    ),
    "mistral": Case("Mistral", {"sliding_window": 7, "head_dim": 12}),
    "ministral": Case(
        "Ministral",
        {
            "sliding_window": 7,
            "head_dim": 12,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
    ),
    "mistral-full": Case("Mistral", {"sliding_window": None}),
    "qwen2": Case("Qwen2", {"tie_word_embeddings": True}),
    "qwen2-window": Case(
        "Qwen2", {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}
    ),
    "qwen3": Case("Qwen3", {"head_dim": 16}),
    "qwen3-yarn": Case(
        "Qwen3",
        {"head_dim": 16, **_rope("yarn", factor=4.0, original_max_position_embeddings=32)},
    ),
    "phi3": Case("Phi3"),
    "phi3-partial": Case(
        "Phi3",
        {"hidden_size": 96, "sliding_window": 9, **_rope("default", partial_rotary_factor=0.75)},
    ),
    "phi3-longrope": Case(
        "Phi3",
        {
            "original_max_position_embeddings": 32,
            **_rope(
                "longrope",
                short_factor=[1.0 + 0.1 * i for i in range(HALVES)],
                long_factor=[2.0 + 1.5 * i for i in range(HALVES)],
            ),
        },
    ),
    "gemma": Case("Gemma", {"head_dim": 14, "hidden_act": "gelu"}),
    "gemma2": Case(
        "Gemma2",
        {
            "num_hidden_layers": 4,
            "head_dim": 14,
            "query_pre_attn_scalar": 9,
            "sliding_window": 6,
            "attn_logit_softcapping": 5.0,
            "final_logit_softcapping": 8.0,
        },
    ),
    "gemma3": Case(
        "Gemma3Text",
        {
            "num_hidden_layers": 4,
            "head_dim": 14,
            "query_pre_attn_scalar": 9,
            "sliding_window": 6,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "rope_theta": 5e3, "factor": 4.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
            },
        },
    ),
    "olmo2": Case("Olmo2"),
    "olmo3": Case(
        "Olmo3",
        {
            "num_hidden_layers": 4,
            "sliding_window": 6,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "rope_parameters": {
                "full_attention": {
                    "rope_type": "yarn",
                    "rope_theta": 100.0,
                    "factor": 4.0,
                    "original_max_position_embeddings": 32,
                },
                "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
            },
        },
    ),
    "olmoe": Case("Olmoe", {"num_experts": 6, "num_experts_per_tok": 2}),
    "granite": Case(
        "Granite",
        {
            "embedding_multiplier": 3.0,
            "residual_multiplier": 0.4,
            "attention_multiplier": 0.15,
            "logits_scaling": 1.7,
        },
    ),
    "exaone4": Case(
        "Exaone4", {"num_hidden_layers": 4, "sliding_window": 6, "sliding_window_pattern": 2}
    ),
    "exaone4-full": Case(
        "Exaone4", {"sliding_window": None, "layer_types": ["full_attention"] * 3}
    ),
    "seed-oss": Case("SeedOss", {"head_dim": 14}),
    "smollm3": Case("SmolLM3", {"num_hidden_layers": 4, "no_rope_layer_interval": 2}),
    "smollm3-window": Case(
        "SmolLM3",
        {"no_rope_layers": [1, 0, 1], "use_sliding_window": True, "sliding_window": 6},
    ),
    "mixtral": Case("Mixtral", {"num_local_experts": 5, "num_experts_per_tok": 2}),
    "qwen3-moe": Case(
        "Qwen3Moe",
        {
            "head_dim": 16,
            "num_experts": 7,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 40,
            "norm_topk_prob": True,
            "mlp_only_layers": [1],
        },
    ),
    "qwen3-moe-plain": Case(
        "Qwen3Moe", {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 40}
    ),
}


def write_checkpoint(case: str, folder: Path, *, seed: int = 0) -> Path:
    """Save a random checkpoint (float32 safetensors and config.json) and return its folder."""
    config = CASES[case].config()
    config._attn_implementation = "eager"
    torch.manual_seed(seed)
    model: Any = transformers.AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(std=0.2)
            if "norm" in name and not case.startswith("gemma"):
                parameter.add_(1.0)
    model.save_pretrained(folder)
    return folder


def reference(folder: Path) -> Any:
    """The same checkpoint in transformers: eager attention, float32."""
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    return model.eval()


def edit_config(folder: Path, **changes: Any) -> None:
    """Change members of config.json; a value of ... removes one."""
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))


class PagedCache:
    """KV blocks full of NaN, handed out to sequences in a shuffled order, and batches over them."""

    def __init__(
        self, model: Model, *, num_blocks: int = 64, block_size: int = 4, seed: int = 0
    ) -> None:
        self.block_size = block_size
        self.device = model.device
        self.layers = tuple(
            layout.allocate(
                num_blocks,
                block_size,
                spec.num_kv_heads,
                spec.head_dim,
                dtype=model.dtype,
                device=model.device,
            )
            for spec in model.kv_specs
        )
        for pair in self.layers:
            for tensor in pair:
                tensor.fill_(torch.nan)
        order = torch.randperm(num_blocks, generator=torch.Generator().manual_seed(seed))
        self.free: list[int] = order.tolist()
        self.tables: dict[int, list[int]] = {}
        self.lengths: dict[int, int] = {}

    def batch(self, tokens: Mapping[int, Sequence[int]]) -> Batch:
        """The next step for some sequences: id → its new tokens."""
        positions: list[int] = []
        slots: list[int] = []
        for sequence, new in tokens.items():
            start = self.lengths.get(sequence, 0)
            at = range(start, start + len(new))
            self.lengths[sequence] = at.stop
            table = self.tables.setdefault(sequence, [])
            while len(table) * self.block_size < at.stop:
                table.append(self.free.pop())
            positions += at
            slots += [
                table[p // self.block_size] * self.block_size + p % self.block_size for p in at
            ]
        width = max(len(self.tables[sequence]) for sequence in tokens)
        tables = [self.tables[s] + [0] * (width - len(self.tables[s])) for s in tokens]
        sizes, lens = [len(new) for new in tokens.values()], [self.lengths[s] for s in tokens]
        return Batch(
            input_ids=self._index([token for new in tokens.values() for token in new]),
            positions=self._index(positions),
            slot_mapping=self._index(slots),
            block_tables=self._index(tables, torch.int32),
            cu_seqlens_q=self._index([0, *accumulate(sizes)], torch.int32),
            seq_lens=self._index(lens, torch.int32),
            max_seqlen_q=max(sizes),
            max_seqlen_k=max(lens),
            kv_cache=self.layers,
        )

    def _index(self, numbers: Sequence[Any], dtype: torch.dtype = torch.int64) -> torch.Tensor:
        return torch.tensor(numbers, dtype=dtype, device=self.device)
