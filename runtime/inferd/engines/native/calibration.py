"""What int8 weights do to a model's logprobs, measured on a short text at the start.

The truth is the same decoder in float32, of the weights as the checkpoint holds them. It is never
in memory whole: its layers are read one after another, and its head in parts.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from logging import getLogger
from pathlib import Path

import torch

from inferd.engines.native.batching import Batcher, allocate_kv
from inferd.engines.native.checkpoint import Reader, load
from inferd.engines.native.compressed_tensors import contents
from inferd.engines.native.decoder import Decoder, finish_logits
from inferd.engines.native.decoder_config import DecoderConfig
from inferd.engines.native.decoder_weights import parameters
from inferd.engines.native.layers import Layer, build_layer, enter
from inferd.engines.native.model import Batch
from inferd.engines.native.parameters import read_headers
from inferd.engines.native.rope import RopeTable
from inferd.engines.native.stores import Parameters, Rows, TensorStore, floats
from inferd.messages import QuantizationLoss
from inferd_kernels.lora import LoraModule
from inferd_scheduler import Step, Work

TOKENS = 96
"""At most; their products with all weights take a second for each 1.5 billion weights."""
TEXT = """\
The harbour was quiet when the boat came in. Two men stood on the pier and counted the boxes: "Nine,
ten, eleven; one is missing," said the older one. In 1962 it would have cost them 40 dollars; now
nobody asked. def area(width, height): return width * height  # in square metres. Water boils at 100
degrees, and the moon is about 384,000 km away. Why do leaves turn red in autumn? Because the green
fades first, and what was hidden under it all summer can be seen.
"""
HEAD_ROWS = 8192  # outputs of the head that are float32 at a time

_log = getLogger("inferd.quantization")
_CPU = torch.device("cpu")
_BLOCK = 16  # tokens per block of the KV cache


def measure(decoder: Decoder, folder: Path) -> QuantizationLoss:
    """Compare `decoder` with what is in `folder`, and say what came of it in the log."""
    started = time.monotonic()
    ids = text_ids(folder, decoder.vocab_size)[: min(TOKENS, decoder.max_position)]
    with torch.inference_mode():
        found = decoder.logits(decoder.forward(_batch(decoder, ids, decoder.dtype)))
        own = _scores(found, ids)
        truth = _Truth(decoder.config, folder).logits(_batch(decoder, ids, torch.float32))
        true = _scores(truth, ids)
    change = (own[0] - true[0]).abs()
    agreement = (own[1] == true[1]).float().mean()
    loss = QuantizationLoss(len(ids), float(change.mean()), float(change.max()), float(agreement))
    _log.info(
        "int8 weights change the logprobs of %d tokens by %.4f (mean) and %.4f (most) against"
        " float32; the likeliest token is the same after %.1f %% of them; measured in %.1f s",
        loss.tokens,
        loss.mean,
        loss.most,
        100 * loss.agreement,
        time.monotonic() - started,
    )
    return loss


def text_ids(folder: Path, vocab_size: int) -> list[int]:
    """A text's tokens; where the checkpoint has no tokenizer of ours, chance's, always the same."""
    file = folder / "tokenizer.json"
    if file.is_file():
        from tokenizers import Tokenizer

        ids = Tokenizer.from_file(str(file)).encode(TEXT, add_special_tokens=False).ids
        if len(ids) > 1 and max(ids) < vocab_size:
            return list(ids)
    generator = torch.Generator().manual_seed(0)
    return torch.randint(vocab_size, (TOKENS,), generator=generator).tolist()


def _scores(logits: torch.Tensor, ids: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logprobs of the tokens after the first, and the likeliest token after each."""
    following = torch.tensor(ids[1:])[:, None]
    logprobs = logits[:-1].gather(1, following)[:, 0] - logits[:-1].logsumexp(dim=-1)
    return logprobs, logits.argmax(dim=-1)


def _batch(decoder: Decoder, ids: Sequence[int], dtype: torch.dtype) -> Batch:
    """One sequence, over a cache of its own."""
    blocks = -(-len(ids) // _BLOCK)
    cache = allocate_kv(decoder.kv_specs, blocks, _BLOCK, dtype, _CPU)
    work = Work(
        request_id="calibration",
        row=0,
        start=0,
        tokens=tuple(ids),
        new_blocks=tuple(range(blocks)),
        samples=True,
        first=True,
    )
    step = Step(number=1, works=[work], num_tokens=len(ids))
    return Batcher(cache, _BLOCK, 1, blocks, len(ids)).build(step)


class _Truth:
    """A checkpoint's decoder in float32, of which a layer is in memory at a time."""

    def __init__(self, config: DecoderConfig, folder: Path) -> None:
        self._config = config
        self._headers = read_headers(folder)
        self._reader = Reader(contents(self._headers))
        self._params = {param.key: param for param in parameters(config)}

    def logits(self, batch: Batch) -> torch.Tensor:
        """[T, vocab], of every token."""
        config, x = self._config, None
        residual = floats(self._rows("embedding")[batch.input_ids]).float()
        residual = residual * config.embedding_scale
        for i, cache in enumerate(batch.kv_cache):
            x = self._layer(i, int(batch.max_seqlen_k))(x, residual, batch, cache)
        norm = self._load("norm").vector("norm")
        assert norm is not None
        hidden = enter(config, x, residual, norm)
        head = self._rows("embedding" if config.tied else "head")
        parts = (head[row : row + HEAD_ROWS] for row in range(0, config.vocab_size, HEAD_ROWS))
        logits = torch.cat([hidden @ floats(part).float().t() for part in parts], dim=1)
        return finish_logits(config, logits)

    def _layer(self, i: int, length: int) -> Layer:
        spec, rope = self._config.layers[i], None
        if spec.rope is not None:
            rope = RopeTable(spec.rope, _CPU)
            rope.reserve(length)
        kept = self._load(f"{i}.")
        return build_layer(self._config, spec, rope, kept.of_layer(i), lambda key: LoraModule())

    def _load(self, prefix: str) -> Parameters:
        return load(
            self._headers,
            [param for key, param in self._params.items() if key.startswith(prefix)],
            store=TensorStore(torch.float32, _CPU),
            ignored=lambda name: True,
            on_progress=lambda done, total: None,
        )

    def _rows(self, key: str) -> Rows:
        param = self._params[key]
        return self._reader.rows(param.layouts[0][0].name, param.columns)
