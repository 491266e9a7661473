"""The native decoder gives transformers' numbers, however its work is cut into steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from inferd.engines.native.decoder import Decoder, load_decoder
from tests.engines.native import tiny

TOLERANCE = 5e-5  # in log-softmax, float32
CPU = torch.device("cpu")


class Pair:
    """A decoder and transformers on the same checkpoint."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.ours = load(folder, **options)
        self.theirs = tiny.reference(folder)

    @torch.inference_mode()
    def expected(self, tokens: list[int]) -> torch.Tensor:
        logits = self.theirs(torch.tensor([tokens])).logits[0]
        return torch.log_softmax(logits.float(), dim=-1)

    @torch.inference_mode()
    def step(self, cache: tiny.PagedCache, tokens: dict[int, list[int]]) -> list[torch.Tensor]:
        """Run one step; log-softmax per sequence, [new tokens, vocab]."""
        logits = self.ours.logits(self.ours.forward(cache.batch(tokens)))
        sizes = [len(new) for new in tokens.values()]
        return list(torch.split(torch.log_softmax(logits, dim=-1), sizes))


def load(folder: Path, dtype: torch.dtype | None = None, **options: Any) -> Decoder:
    return load_decoder(folder, dtype=dtype, device=CPU, on_progress=lambda d, t: None, **options)


def tokens(count: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(tiny.VOCAB, (count,), generator=generator).tolist()


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0)


@pytest.fixture(scope="module", params=[c for c in tiny.CASES if c != "phi3-longrope"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tiny.write_checkpoint(request.param, tmp_path_factory.mktemp(request.param))
    return Pair(folder)


def test_a_whole_prompt(pair: Pair) -> None:
    prompt = tokens(41, seed=1)
    [ours] = pair.step(tiny.PagedCache(pair.ours), {0: prompt})
    close(ours, pair.expected(prompt))


def test_chunks_of_odd_sizes_then_single_tokens(pair: Pair) -> None:
    text = tokens(43, seed=2)
    cache, parts, start = tiny.PagedCache(pair.ours), [], 0
    for size in (1, 13, 2, 7, 11, 3, 1, 1, 1, 1, 1, 1):
        parts += pair.step(cache, {0: text[start : start + size]})
        start += size
    assert start == len(text)
    close(torch.cat(parts), pair.expected(text))


def test_sequences_of_mixed_lengths_in_one_batch(pair: Pair) -> None:
    texts = {name: tokens(count, seed=name) for name, count in enumerate((19, 1, 33, 8, 26))}
    cache = tiny.PagedCache(pair.ours, num_blocks=40, block_size=3)
    pair.step(cache, {0: texts[0][:10], 2: texts[2][:32], 4: texts[4][:5]})
    got = pair.step(  # prefill from nothing, decode, and prefill after context, together
        cache, {2: texts[2][32:], 1: texts[1], 0: texts[0][10:], 3: texts[3], 4: texts[4][5:]}
    )
    starts = {2: 32, 1: 0, 0: 10, 3: 0, 4: 5}
    for ours, (name, start) in zip(got, starts.items(), strict=True):
        close(ours, pair.expected(texts[name])[start:])


def test_decoding_in_a_batch(pair: Pair) -> None:
    texts = {name: tokens(count, seed=9 + name) for name, count in enumerate((30, 9, 21))}
    cache = tiny.PagedCache(pair.ours)
    pair.step(cache, {name: text[:-2] for name, text in texts.items()})
    first = pair.step(cache, {name: text[-2:-1] for name, text in texts.items()})
    second = pair.step(cache, {name: text[-1:] for name, text in reversed(texts.items())})
    for name, text in texts.items():
        close(torch.cat([first[name], second[2 - name]]), pair.expected(text)[-2:])


@torch.inference_mode()
def test_narrow_dtypes_stay_close(pair: Pair) -> None:
    prompt = tokens(29, seed=5)
    expected = pair.expected(prompt)
    for dtype, tolerance in ((torch.bfloat16, 0.1), (torch.float16, 0.015)):
        ours = load(pair.folder, dtype)
        hidden = ours.forward(tiny.PagedCache(ours).batch({0: prompt}))
        assert hidden.dtype == dtype
        logits = ours.logits(hidden)
        assert logits.dtype == torch.float32
        error = (torch.log_softmax(logits, dim=-1) - expected).abs().mean()
        assert error < tolerance, dtype


@pytest.mark.parametrize(("served", "length"), [(32, 32), (None, 45)])
def test_longrope(tmp_path: Path, served: int | None, length: int) -> None:
    """Below the original context transformers uses the short factors, beyond it the long ones."""
    pair = Pair(tiny.write_checkpoint("phi3-longrope", tmp_path), max_model_len=served)
    prompt = tokens(length, seed=3)
    [ours] = pair.step(tiny.PagedCache(pair.ours), {0: prompt})
    close(ours, pair.expected(prompt))


def test_contexts_longer_than_a_rope_table(tmp_path: Path) -> None:
    pair = Pair(tiny.write_checkpoint("qwen3", tmp_path))
    tiny.edit_config(tmp_path, max_position_embeddings=4096)
    text = tokens(1500, seed=4)
    cache = tiny.PagedCache(pair.ours, num_blocks=100, block_size=16)
    parts = [*pair.step(cache, {0: text[:1000]}), *pair.step(cache, {0: text[1000:]})]
    close(torch.cat(parts), pair.expected(text))
