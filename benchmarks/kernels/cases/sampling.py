"""A step's choice of tokens: health, adjustments, draws and logprobs, in one call.

Logits lie where the operation before has left them: in the last cache, up to about 20 MB. They are
normal with a standard deviation of 3, of which softmax spreads most of its mass over 1500 tokens:
more than language models do as a rule, so filters that keep few are faster on theirs. On a GPU
a call ends when its results are on the host.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from benchmarks.kernels.case import ON_CPU, Case, Place
from inferd_kernels.sampling import Adjustment, Draw, Row, Want, choose

TESTS = ("tests/kernels/test_sampling.py", "tests/kernels/test_sampling_cpu.py")
GPU_TESTS = ("tests/kernels/test_sampling_gpu.py",)
VOCABULARIES = (4096, 32_000)
"""Beside the model's, on a CPU."""

MOST = 6_000_000
MOST_SORTED = 300_000
"""Logits: of more, the reference takes too long, and of fewer yet where it sorts them."""

KINDS: dict[str, tuple[Draw, Want | None]] = {
    "greedy": (Draw(temperature=0.0), None),
    "greedy, logprobs 5": (Draw(temperature=0.0), Want(5)),
    "temperature": (Draw(temperature=0.7), None),
    "top_p 0.9": (Draw(temperature=0.7, top_p=0.9), None),
    "top_p 0.9, logprobs 5": (Draw(temperature=0.7, top_p=0.9), Want(5)),
    "top_k 50": (Draw(temperature=0.7, top_k=50), None),
    "top_k 20, top_p 0.95": (Draw(temperature=0.6, top_k=20, top_p=0.95), None),
    "grammar": (Draw(temperature=0.0), None),
    "penalties": (Draw(temperature=0.7, top_k=50), None),
}


def cases(place: Place) -> Iterator[Case]:
    for vocab in (*(VOCABULARIES if place is ON_CPU else ()), place.shape.vocabulary):
        for rows in place.few:
            generator = torch.Generator().manual_seed(1)
            logits = torch.randn(rows, vocab, generator=generator).to(place.device) * 3
            for kind in KINDS:
                yield _case(logits, kind)


def _case(logits: torch.Tensor, kind: str) -> Case:
    count, vocab = logits.shape
    draw, want = KINDS[kind]
    change = CHANGES[kind](vocab) if kind in CHANGES else None
    rows = [
        Row(
            Draw(draw.temperature, draw.top_k, draw.top_p, draw.min_p, seed=n, position=100),
            want,
            change,
        )
        for n in range(count)
    ]
    by_torch = {
        "greedy": lambda: logits.argmax(-1),
        "temperature": lambda: torch.multinomial((logits / 0.7).softmax(-1), 1),
    }
    return Case(
        f"{count} x {vocab} {kind}",
        lambda: choose(logits, rows),
        bytes=logits.nbytes,
        torch=by_torch.get(kind),
        reference=logits.numel() <= (MOST if draw.top_p == 1 else MOST_SORTED),
    )


def _penalties(vocab: int) -> Adjustment:
    """Of a thousand tokens seen."""
    seen = np.random.default_rng(0).permutation(vocab)[:1000].astype(np.int64)
    return Adjustment(
        seen_ids=seen, seen_counts=np.ones(len(seen), np.int64), repetition=1.1, presence=0.5
    )


def _grammar(vocab: int) -> Adjustment:
    """That allows every third token."""
    bits = np.arange(-(-vocab // 32) * 32) % 3 == 0
    return Adjustment(allowed=np.packbits(bits, bitorder="little").view(np.int32))


CHANGES = {"penalties": _penalties, "grammar": _grammar}
