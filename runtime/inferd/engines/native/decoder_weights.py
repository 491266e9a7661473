"""A decoder's parameters and the tensors of a checkpoint that they are made of."""

from __future__ import annotations

from inferd.engines.native.decoder_config import DecoderConfig, MoESpec
from inferd.engines.native.parameters import Param, Source


def parameters(config: DecoderConfig) -> list[Param]:
    """Every parameter, in the order of use. Keys: `embedding`, `0.qkv`, …, `norm`, `head`."""
    hidden, vocab = config.hidden_size, config.vocab_size
    params = [_single("embedding", "model.embed_tokens.weight", (vocab, hidden))]
    for i, layer in enumerate(config.layers):
        params += _attention(config, i) + _norms(config, i)
        params += _moe(config, i, layer.moe) if layer.moe else _mlp(config, i)
    params.append(_norm(config, "norm", "model.norm.weight", hidden))
    if not config.tied:
        params.append(_single("head", "lm_head.weight", (vocab, hidden)))
    return params


def is_ignored(name: str) -> bool:
    """Names that checkpoints of this family may hold beside the parameters.

    Old files keep the rotary frequencies; some with tied embeddings keep the head as well.
    """
    return name.endswith("rotary_emb.inv_freq") or name == "lm_head.weight"


def _attention(config: DecoderConfig, i: int) -> list[Param]:
    prefix, hidden = f"model.layers.{i}.self_attn.", config.hidden_size
    rows = {"q_proj": config.q_size, "k_proj": config.kv_size, "v_proj": config.kv_size}
    params = [_fused(f"{i}.qkv", prefix, rows, "qkv_proj", (hidden,), "weight")]
    if config.qkv_bias:
        params.append(_fused(f"{i}.qkv_bias", prefix, rows, "qkv_proj", (), "bias"))
    params.append(_single(f"{i}.o", prefix + "o_proj.weight", (hidden, config.q_size)))
    if config.o_bias:
        params.append(_single(f"{i}.o_bias", prefix + "o_proj.bias", (hidden,)))
    if config.qk_norm != "none":
        full = config.qk_norm == "full"
        q_size = config.q_size if full else config.head_dim
        k_size = config.kv_size if full else config.head_dim
        params.append(_norm(config, f"{i}.q_norm", prefix + "q_norm.weight", q_size))
        params.append(_norm(config, f"{i}.k_norm", prefix + "k_norm.weight", k_size))
    return params


def _norms(config: DecoderConfig, i: int) -> list[Param]:
    names = {
        "before_attention": config.norms.before_attention,
        "after_attention": config.norms.after_attention,
        "before_mlp": config.norms.before_mlp,
        "after_mlp": config.norms.after_mlp,
    }
    return [
        _norm(config, f"{i}.{key}", f"model.layers.{i}.{name}.weight", config.hidden_size)
        for key, name in names.items()
        if name is not None
    ]


def _mlp(config: DecoderConfig, i: int) -> list[Param]:
    prefix, hidden, inner = f"model.layers.{i}.mlp.", config.hidden_size, config.intermediate_size
    rows = {"gate_proj": inner, "up_proj": inner}
    params = [_fused(f"{i}.gate_up", prefix, rows, "gate_up_proj", (hidden,), "weight")]
    if config.mlp_bias:
        params.append(_fused(f"{i}.gate_up_bias", prefix, rows, "gate_up_proj", (), "bias"))
    params.append(_single(f"{i}.down", prefix + "down_proj.weight", (hidden, inner)))
    if config.mlp_bias:
        params.append(_single(f"{i}.down_bias", prefix + "down_proj.bias", (hidden,)))
    return params


def _moe(config: DecoderConfig, i: int, moe: MoESpec) -> list[Param]:
    """The router and the experts. Checkpoints hold experts one by one, under Mixtral's names
    (w1 the gate, w3 up, w2 down) or the dense MLP's, or all in one tensor."""
    hidden, inner, experts = config.hidden_size, moe.intermediate_size, moe.num_experts
    layer = f"model.layers.{i}."
    plain, mixtral = layer + "mlp.", layer + "block_sparse_moe."
    gate_up, down = (experts, 2 * inner, hidden), (experts, hidden, inner)

    def each(prefix: str, names: tuple[str, ...], shape: tuple[int, int]) -> tuple[Source, ...]:
        return tuple(
            Source(f"{prefix}experts.{e}.{name}.weight", shape)
            for e in range(experts)
            for name in names
        )

    return [
        Param(
            f"{i}.router",
            (experts, hidden),
            tuple((Source(p + "gate.weight", (experts, hidden)),) for p in (plain, mixtral)),
        ),
        Param(
            f"{i}.gate_up",
            gate_up,
            (
                each(plain, ("gate_proj", "up_proj"), (inner, hidden)),
                each(mixtral, ("w1", "w3"), (inner, hidden)),
                (Source(plain + "experts.gate_up_proj", gate_up),),
            ),
        ),
        Param(
            f"{i}.down",
            down,
            (
                each(plain, ("down_proj",), (hidden, inner)),
                each(mixtral, ("w2",), (hidden, inner)),
                (Source(plain + "experts.down_proj", down),),
            ),
        ),
    ]


def _single(key: str, name: str, shape: tuple[int, ...]) -> Param:
    return Param(key, shape, ((Source(name, shape),),))


def _norm(config: DecoderConfig, key: str, name: str, size: int) -> Param:
    """Norm weights are kept in float32 with the offset added, whatever the model's dtype."""
    sources = ((Source(name, (size,)),),)
    return Param(key, (size,), sources, float32=True, offset=config.norm_offset)


def _fused(
    key: str, prefix: str, rows: dict[str, int], fused: str, columns: tuple[int, ...], kind: str
) -> Param:
    """Several projections of one input as one matrix; some checkpoints hold it so already."""
    shape = (sum(rows.values()), *columns)
    parts = tuple(Source(f"{prefix}{name}.{kind}", (n, *columns)) for name, n in rows.items())
    return Param(key, shape, (parts, (Source(f"{prefix}{fused}.{kind}", shape),)))
