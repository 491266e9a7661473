"""A dense decoder's forward pass on the CPU's kernels: one program over buffers of its own.

What `layers` does operation by operation, without Python in between and without allocating: the
same kernels in the same order on the same numbers, so the same bits. Adapters and sparse MLPs are
left to `layers`.
"""

from __future__ import annotations

from collections.abc import Sequence
from weakref import ref

import torch

from inferd.engines.native.decoder_config import DecoderConfig
from inferd.engines.native.layers import Attention, Cache, DenseMLP, Layer
from inferd.engines.native.model import Batch
from inferd.engines.native.stores import Weight
from inferd_kernels.attention.cpu import AttentionBatch
from inferd_kernels.linear.weight import PackedWeight
from inferd_kernels.program.recorder import Recorder


class StepProgram:
    """The forward pass over one KV cache, for batches whose tensors begin at the same addresses.

    Args:
        embedding, layers, norm: the decoder's; matrices are packed, and no MLP is sparse.
        batch: any; what counts is where its tensors and its cache lie.
        capacity: rows of the buffers; no batch has more.
    """

    def __init__(
        self,
        config: DecoderConfig,
        embedding: Weight,
        embedding_scale: float,
        layers: Sequence[Layer],
        norm: torch.Tensor,
        batch: Batch,
        capacity: int,
    ) -> None:
        self.capacity = capacity
        self._config = config
        self._dtype = batch.kv_cache[0][0].dtype
        self._ropes = {layer.attention.rope for layer in layers} - {None}
        self._addresses = _addresses(batch)
        self._cache = ref(batch.kv_cache[0][0])  # not kept: a model that sleeps has none
        self._tables = self._rope_tables()
        self._attention = AttentionBatch()
        self._record = Recorder()
        self._residual = self._buffer(config.hidden_size)
        self._normed = self._buffer(config.hidden_size)
        self._out = self._buffer(config.hidden_size)
        self._qkv = self._buffer(config.q_size + 2 * config.kv_size)
        self._attended = self._buffer(config.q_size)
        self._gate_up = self._buffer(2 * config.intermediate_size)
        self._inner = self._buffer(config.intermediate_size)
        self._record.embedding(batch.input_ids, _packed(embedding), embedding_scale, self._residual)
        x: torch.Tensor | None = None
        for layer, cache in zip(layers, batch.kv_cache, strict=True):
            x = self._layer(layer, x, cache, batch)
        self._hidden = self._enter(x, norm)

    def fits(self, batch: Batch) -> bool:
        """Whether it may run this batch."""
        return (
            len(batch.input_ids) <= self.capacity
            and self._cache() is batch.kv_cache[0][0]
            and self._addresses == _addresses(batch)
            and all(
                mine is now for mine, now in zip(self._tables, self._rope_tables(), strict=True)
            )
        )

    def run(self, batch: Batch) -> torch.Tensor:
        """Write the new tokens' KV; their final hidden states [T, hidden], normed: a view of a
        buffer, that holds until the next run."""
        self._describe(batch)
        self._record.program.run(len(batch.input_ids))
        return self._hidden[: len(batch.input_ids)]

    def run_timed(self, batch: Batch) -> list[tuple[str, float]]:
        """Run it; each operation's name and seconds."""
        self._describe(batch)
        return self._record.program.run_timed(len(batch.input_ids))

    def _describe(self, batch: Batch) -> None:
        mine = self._attention
        mine.block_tables = batch.block_tables.data_ptr()
        mine.cu_seqlens_q = batch.cu_seqlens_q.data_ptr()
        mine.seq_lens = batch.seq_lens.data_ptr()
        mine.num_seqs = len(batch.seq_lens)
        mine.max_blocks = batch.block_tables.stride(0)
        mine.max_seqlen_q = batch.max_seqlen_q
        mine.max_seqlen_k = batch.max_seqlen_k

    def _layer(
        self, layer: Layer, x: torch.Tensor | None, cache: Cache, batch: Batch
    ) -> torch.Tensor:
        """See `Layer.__call__`."""
        x = self._enter(x, layer.before_attention)
        x = self._leave(self._attend(layer.attention, x, cache, batch), layer.after_attention)
        x = self._enter(x, layer.before_mlp)
        assert isinstance(layer.mlp, DenseMLP)
        return self._leave(self._mlp(layer.mlp, x), layer.after_mlp)

    def _enter(self, x: torch.Tensor | None, weight: torch.Tensor | None) -> torch.Tensor:
        """See `layers.enter`."""
        config, record, residual = self._config, self._record, self._residual
        if weight is not None and x is not None:
            record.rmsnorm(
                x, weight, config.norm_eps, self._normed, residual, config.residual_scale
            )
            return self._normed
        if weight is not None:
            record.rmsnorm(residual, weight, config.norm_eps, self._normed)
            return self._normed
        if x is not None:
            record.add(residual, x, config.residual_scale)
        return residual

    def _leave(self, x: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
        if weight is not None:
            self._record.rmsnorm(x, weight, self._config.norm_eps, x)
        return x

    def _attend(
        self, layer: Attention, x: torch.Tensor, cache: Cache, batch: Batch
    ) -> torch.Tensor:
        """See `Attention.__call__`."""
        config, record = self._config, self._record
        record.linear(x, _packed(layer.qkv), layer.qkv_bias, self._qkv)
        q, k, v = torch.split(self._qkv, [config.q_size, config.kv_size, config.kv_size], dim=-1)
        if config.qk_norm == "full":
            self._norm_q_k(layer, q, k)
        q = q.view(-1, config.num_heads, config.head_dim)
        k = k.view(-1, config.num_kv_heads, config.head_dim)
        v = v.view(-1, config.num_kv_heads, config.head_dim)
        if config.qk_norm == "head":
            self._norm_q_k(layer, q, k)
        if layer.rope is not None:
            record.rope(q, k, batch.positions, layer.rope.cos, layer.rope.sin)
        record.kv_write(k, v, *cache, batch.slot_mapping)
        record.attention(
            q,
            *cache,
            self._attention,
            self._attended,
            scale=config.attention_scale,
            window=layer.window,
            softcap=config.attention_softcap,
        )
        record.linear(self._attended, _packed(layer.o), layer.o_bias, self._out)
        return self._out

    def _norm_q_k(self, layer: Attention, q: torch.Tensor, k: torch.Tensor) -> None:
        for x, weight in ((q, layer.q_norm), (k, layer.k_norm)):
            if weight is not None:
                self._record.rmsnorm(x, weight, self._config.norm_eps, x)

    def _mlp(self, mlp: DenseMLP, x: torch.Tensor) -> torch.Tensor:
        """See `DenseMLP.__call__`."""
        self._record.linear(x, _packed(mlp.gate_up), mlp.gate_up_bias, self._gate_up)
        self._record.gated(self._gate_up, mlp.activation, self._inner)
        self._record.linear(self._inner, _packed(mlp.down), mlp.down_bias, self._out)
        return self._out

    def _buffer(self, width: int) -> torch.Tensor:
        """Its pages are taken from the system when rows are first written."""
        return torch.empty(self.capacity, width, dtype=self._dtype)

    def _rope_tables(self) -> list[torch.Tensor]:
        return [table.cos for table in self._ropes if table is not None]


def _packed(weight: Weight) -> PackedWeight:
    assert isinstance(weight, PackedWeight)
    return weight


def _addresses(batch: Batch) -> tuple[int, int, int]:
    """Of what the operations find through pointers that are recorded."""
    return (
        batch.input_ids.data_ptr(),
        batch.positions.data_ptr(),
        batch.slot_mapping.data_ptr(),
    )
