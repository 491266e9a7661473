"""Bytes that a step must move and operations that it must do, counted from a model's config.

Counted is what no implementation can leave out: weights once a step, keys and values of the
context once, logits written and read once. Activations between operations are not counted: a
better kernel keeps them on the chip.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Config = Mapping[str, Any]

BF16 = 2  # bytes
FLOAT32 = 4


def layer_parameters(config: Config) -> int:
    """Weights of the matrices in all layers."""
    hidden, head = config["hidden_size"], config["head_dim"]
    queries = config["num_attention_heads"] * head
    keys = config["num_key_value_heads"] * head
    attention = 2 * hidden * (queries + keys)
    return int(config["num_hidden_layers"] * (attention + 3 * hidden * config["intermediate_size"]))


def head_parameters(config: Config) -> int:
    """Weights of the language model's head."""
    return int(config["hidden_size"] * config["vocab_size"])


def kv_bytes(config: Config, itemsize: int = BF16) -> int:
    """Keys and values of a token, in all layers."""
    width = config["num_key_value_heads"] * config["head_dim"]
    return int(2 * config["num_hidden_layers"] * width * itemsize)


def decode_bytes(config: Config, batch: int, context: float, itemsize: int = BF16) -> float:
    """Of a step that gives each of `batch` sequences a token.

    Args:
        context: mean length that attention reads, the new token included.
    """
    weights = (layer_parameters(config) + head_parameters(config)) * itemsize
    embedded = batch * config["hidden_size"] * itemsize
    cache = batch * (context + 1) * kv_bytes(config, itemsize)  # one is written
    logits = 2 * batch * config["vocab_size"] * FLOAT32
    return float(weights + embedded + cache + logits)


def operations(config: Config, tokens: int, attended: float, logits: int) -> float:
    """Additions and multiplications of a step.

    Args:
        attended: positions that each new token attends to, summed over the tokens.
        logits: rows that the head computes.
    """
    matrices = 2 * layer_parameters(config) * tokens + 2 * head_parameters(config) * logits
    width = config["num_attention_heads"] * config["head_dim"]
    return float(matrices + 4 * config["num_hidden_layers"] * width * attended)


def prefill_operations(config: Config, tokens: int) -> float:
    """Of one prompt, whose last row alone is sampled."""
    return operations(config, tokens, tokens * (tokens + 1) / 2, 1)


def adapter_bytes(config: Config, rank: int, itemsize: int = BF16) -> int:
    """Of an adapter of all seven projections of each layer."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    queries = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    attention = 2 * (hidden + queries) + 2 * (hidden + keys)
    return int(config["num_hidden_layers"] * rank * (attention + 3 * (hidden + inner)) * itemsize)
