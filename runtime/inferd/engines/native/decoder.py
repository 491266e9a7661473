"""The native decoder: one config-driven model for the Llama family, behind `Model`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from inferd.engines.native.adapters.base import EMBEDDING, HEAD, Adaptable
from inferd.engines.native.adapters.sites import sites
from inferd.engines.native.architectures import parse_config
from inferd.engines.native.checkpoint import OnProgress, load
from inferd.engines.native.compressed_tensors import contents
from inferd.engines.native.decoder_config import DecoderConfig, RopeSpec
from inferd.engines.native.decoder_weights import is_ignored, parameters
from inferd.engines.native.layers import DenseMLP, build_layer, enter
from inferd.engines.native.model import Batch, KVSpec
from inferd.engines.native.parameters import read_config, read_headers
from inferd.engines.native.quantization import INT8, NO_KERNELS, WHY_NO_KERNELS, int8_groups
from inferd.engines.native.rope import RopeTable
from inferd.engines.native.stores import PackedStore, Parameters, Store, TensorStore
from inferd.errors import StartError
from inferd.messages import QuantizationLoss
from inferd_kernels.cpu.library import library
from inferd_kernels.elementwise import scale
from inferd_kernels.embedding import embedding
from inferd_kernels.linear import LINEAR, linear_f32
from inferd_kernels.linear.weight import PackedWeight
from inferd_kernels.lora import LoraModule, LoraSegments, lora, lora_embedding

if TYPE_CHECKING:
    from inferd.engines.native.step_program import StepProgram

DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
"""What weights and KV cache may be kept in."""


class Decoder:
    """A decoder with its weights on its device. Implements `Model`."""

    runner = "native"

    def __init__(
        self,
        config: DecoderConfig,
        parameters: Parameters,
        *,
        dtype: torch.dtype,
        device: torch.device,
        max_batch_tokens: int = 1,
    ) -> None:
        """
        Args:
            parameters: by key, as `decoder_weights.parameters` names them.
            max_batch_tokens: rows that buffers are made for; more make them anew.
        """
        self.config = config
        self.dtype = dtype
        self.device = device
        self.architecture = config.architecture
        self.vocab_size = config.vocab_size
        self.max_position = config.max_position
        self.kv_specs: tuple[KVSpec, ...] = config.kv_specs
        self.weights: Sequence[torch.Tensor] = parameters.tensors
        self.weight_bytes = sum(tensor.nbytes for tensor in self.weights)
        self.quantization = ""
        self.quantization_loss: QuantizationLoss | None = None
        found = sites(config)
        self._lora = {site.key: LoraModule() for site in found.values()}
        specs = {layer.rope for layer in config.layers if layer.rope is not None}
        self._ropes = {spec: RopeTable(spec, device) for spec in specs}
        self._embedding = parameters.matrix("embedding")
        self._head = self._embedding if config.tied else parameters.matrix("head")
        self.adaptable: Adaptable | None = Adaptable(found, self._lora, self._embedding, self._head)
        norm = parameters.vector("norm")
        assert norm is not None
        self._norm = norm
        self._embedding_scale = _embedding_scale(config, dtype)
        self._layers = [
            build_layer(
                config,
                layer,
                self._rope(layer.rope),
                parameters.of_layer(i),
                partial(_of_layer, self._lora, i),
            )
            for i, layer in enumerate(config.layers)
        ]
        self.recorded = isinstance(self._embedding, PackedWeight) and all(
            isinstance(layer.mlp, DenseMLP) for layer in self._layers
        )  # whether steps without adapters run as a program
        self._max_batch_tokens = max_batch_tokens
        self._program: StepProgram | None = None
        self._logits = torch.empty(0, self.vocab_size)

    def reserve(self, length: int) -> None:
        """Prepare for contexts of `length` tokens, so that no step has to grow a table."""
        for table in self._ropes.values():
            table.reserve(length)

    def places(self) -> tuple[int, ...]:
        """See `Capturable`."""
        return (self._norm.data_ptr(), *(table.cos.data_ptr() for table in self._ropes.values()))

    @torch.inference_mode()
    def forward(self, batch: Batch) -> torch.Tensor:
        """Write the new tokens' KV; return their final hidden states [T, hidden], normed."""
        self.reserve(batch.max_seqlen_k)
        if batch.segments is None and self.recorded and LINEAR.choice(self.device.type) == "cpu":
            return self.program(batch).run(batch)
        residual = self._embed(batch)
        x: torch.Tensor | None = None
        for layer, cache in zip(self._layers, batch.kv_cache, strict=True):
            x = layer(x, residual, batch, cache)
        return enter(self.config, x, residual, self._norm)

    def program(self, batch: Batch) -> StepProgram:
        """What runs this batch in one call; recorded anew where the last one was for another
        cache, or for index tensors that lie elsewhere."""
        from inferd.engines.native.step_program import StepProgram  # needs the CPU's kernels

        if self._program is None or not self._program.fits(batch):
            self._program = None  # its buffers go before others come
            capacity = max(self._max_batch_tokens, len(batch.input_ids))
            self._program = StepProgram(
                self.config,
                self._embedding,
                self._embedding_scale,
                self._layers,
                self._norm,
                batch,
                capacity,
            )
        return self._program

    @torch.inference_mode()
    def logits(self, hidden: torch.Tensor, segments: LoraSegments | None = None) -> torch.Tensor:
        """[N, hidden] → float32 [N, vocab_size], soft cap and scale applied; on a CPU it holds
        until the next call.

        `segments`: which rows of `hidden` use which adapter.
        """
        logits = linear_f32(hidden, self._head, self._logits_place(len(hidden)))
        if segments is not None:
            lora(logits, hidden, self._lora[HEAD], segments)
        return finish_logits(self.config, logits)

    def _logits_place(self, rows: int) -> torch.Tensor | None:
        """On a CPU, one for all calls: pages that come fresh from the system take a millisecond
        for some 10 MB."""
        if self.device.type != "cpu":
            return None
        if rows > len(self._logits):
            self._logits = torch.empty(rows, self.vocab_size)
        return self._logits[:rows]

    def _embed(self, batch: Batch) -> torch.Tensor:
        if batch.segments is None:
            return embedding(batch.input_ids, self._embedding, self._embedding_scale)
        residual = embedding(batch.input_ids, self._embedding)
        lora_embedding(residual, batch.input_ids, self._lora[EMBEDDING], batch.segments)
        if self._embedding_scale != 1.0:
            scale(residual, self._embedding_scale)
        return residual

    def _rope(self, spec: RopeSpec | None) -> RopeTable | None:
        return None if spec is None else self._ropes[spec]


def finish_logits(config: DecoderConfig, logits: torch.Tensor) -> torch.Tensor:
    """Scale and soft cap, in place."""
    if config.logit_scale != 1.0:
        logits.mul_(config.logit_scale)
    if cap := config.logit_softcap:
        logits.div_(cap).tanh_().mul_(cap)
    return logits


def load_decoder(
    folder: Path,
    *,
    dtype: torch.dtype | None,
    device: torch.device,
    on_progress: OnProgress,
    max_model_len: int | None = None,
    max_batch_tokens: int = 1,
    quantization: str = "auto",
) -> Decoder:
    """Load a checkpoint: config.json and safetensors.

    Args:
        folder: the model's folder.
        dtype: float32, float16 or bfloat16; None: what config.json says, or else
            float32.
        on_progress: called with (bytes read, bytes in all) after each tensor.
        max_model_len: the longest context that will be served, in tokens; see `parse_config`.
        max_batch_tokens: see `Decoder`.
        quantization: as `EngineSpec.quantization`; whether it can be had is the caller's question.

    Raises: StartError: `unsupported`, `not_found` or `bad_weights`, all but unreadable files
        before any weight is read.
    """
    config = parse_config(read_config(folder), max_model_len)
    dtype = dtype or checkpoint_dtype(config)
    headers, params = read_headers(folder), parameters(config)
    groups = int8_groups(params, contents(headers).stored, quantization)
    kept = load(
        headers,
        params,
        store=pick_store(dtype, device, groups),
        ignored=is_ignored,
        on_progress=on_progress,
    )
    decoder = Decoder(config, kept, dtype=dtype, device=device, max_batch_tokens=max_batch_tokens)
    decoder.quantization = INT8 if groups else ""
    if max_model_len is not None:
        decoder.reserve(max_model_len)
    return decoder


def pick_store(dtype: torch.dtype, device: torch.device, groups: Mapping[str, int]) -> Store:
    """Packed weights where the CPU's kernels run, those of `groups` in int8."""
    kernels = device.type == "cpu" and library() is not None
    if groups:
        if not kernels:
            raise StartError("unsupported", NO_KERNELS, hint=WHY_NO_KERNELS)
        from inferd.engines.native.int8_store import Int8Store

        return Int8Store(dtype, groups)
    if kernels:
        return PackedStore(dtype)
    return TensorStore(dtype, device)


def checkpoint_dtype(config: DecoderConfig) -> torch.dtype:
    """The dtype that config.json says the checkpoint is in."""
    name = (config.dtype or "float32").removeprefix("torch.")
    if name not in DTYPES:
        raise StartError("unsupported", f"config.json: dtype = {name!r} is not supported")
    return DTYPES[name]


def _of_layer(modules: Mapping[str, LoraModule], layer: int, key: str) -> LoraModule:
    return modules[f"{layer}.{key}"]


def _embedding_scale(config: DecoderConfig, dtype: torch.dtype) -> float:
    if config.round_embedding_scale:
        return torch.tensor(config.embedding_scale, dtype=dtype).item()
    return config.embedding_scale
