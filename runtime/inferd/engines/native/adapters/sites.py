"""Which of a decoder's layers adapters can change, by their names in transformers."""

from __future__ import annotations

from collections.abc import Mapping

from inferd.engines.native.adapters.base import (
    EMBEDDING,
    EMBEDDING_PATH,
    HEAD,
    HEAD_PATH,
    Site,
    Sites,
)
from inferd.engines.native.decoder_config import DecoderConfig

_FUSED = frozenset({"Phi3ForCausalLM"})  # transformers has these projections in one layer each


def sites(config: DecoderConfig) -> Sites:
    """Every layer that can be adapted. Experts and their router are not among them."""
    hidden, vocab = config.hidden_size, config.vocab_size
    found = {EMBEDDING_PATH: Site(EMBEDDING, "embed_tokens", 0, hidden, vocab)}
    for i, layer in enumerate(config.layers):
        found |= _attention(config, i)
        if layer.moe is None:
            found |= _mlp(config, i)
    found[HEAD_PATH] = Site(HEAD, "lm_head", 0, vocab, hidden)
    return found


def _attention(config: DecoderConfig, i: int) -> dict[str, Site]:
    path, hidden = f"model.layers.{i}.self_attn.", config.hidden_size
    widths = {"q_proj": config.q_size, "k_proj": config.kv_size, "v_proj": config.kv_size}
    if config.architecture in _FUSED:
        widths = {"qkv_proj": sum(widths.values())}
    found = _parts(path, f"{i}.qkv", widths, hidden)
    found[path + "o_proj"] = Site(f"{i}.o", "o_proj", 0, hidden, config.q_size)
    return found


def _mlp(config: DecoderConfig, i: int) -> dict[str, Site]:
    path, hidden, inner = f"model.layers.{i}.mlp.", config.hidden_size, config.intermediate_size
    widths = {"gate_proj": inner, "up_proj": inner}
    if config.architecture in _FUSED:
        widths = {"gate_up_proj": 2 * inner}
    found = _parts(path, f"{i}.gate_up", widths, hidden)
    found[path + "down_proj"] = Site(f"{i}.down", "down_proj", 0, hidden, inner)
    return found


def _parts(path: str, key: str, widths: Mapping[str, int], inputs: int) -> dict[str, Site]:
    """Layers whose outputs are side by side in one of ours."""
    found, offset = {}, 0
    for kind, width in widths.items():
        found[path + kind] = Site(key, kind, offset, width, inputs)
        offset += width
    return found
