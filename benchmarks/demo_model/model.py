"""The architecture, and the folder that a trained model is exported to."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import Qwen3Config, Qwen3ForCausalLM

from benchmarks.demo_model.tokenizer import CONTEXT, VOCABULARY, save_tokenizer

ROPE_THETA = 10_000.0


def build_model(
    tokenizer: Tokenizer, hidden: int, layers: int, mlp: int, heads: int
) -> Qwen3ForCausalLM:
    """A small Qwen3 decoder with tied embeddings and random weights."""
    end = tokenizer.token_to_id("<|im_end|>")
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=mlp,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        head_dim=64,
        max_position_embeddings=CONTEXT,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=tokenizer.token_to_id("<|endoftext|>"),
        use_cache=False,
    )
    model = Qwen3ForCausalLM(config)
    # Faster than fused attention for short rows on a CPU; not part of the exported config.
    model.set_attn_implementation("eager")
    return model


def export(model: Qwen3ForCausalLM, tokenizer: Tokenizer, folder: Path) -> None:
    """Write config, weights in bfloat16, tokenizer and generation defaults."""
    folder.mkdir(parents=True, exist_ok=True)
    config = model.config.to_diff_dict()
    config |= {"architectures": ["Qwen3ForCausalLM"], "dtype": "bfloat16", "use_cache": True}
    # Readers that predate `rope_parameters` take theta from here.
    config["rope_theta"] = ROPE_THETA
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    ends = [tokenizer.token_to_id(token) for token in ("<|im_end|>", "<|endoftext|>")]
    generation = {"do_sample": False, "eos_token_id": ends, "pad_token_id": ends[1]}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    weights = {
        name: tensor.detach().to("cpu", torch.bfloat16).contiguous()
        for name, tensor in model.state_dict().items()
        if name != "lm_head.weight"
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    save_tokenizer(tokenizer, folder)
