"""Deterministic mode with the GPU's kernels and steps: natively, or interpreted on the CPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from benchmarks.gpu.model import make as make_model
from benchmarks.gpu.shapes import TINY_LLAMA
from benchmarks.verify_numbers.drive import Transcript, drive
from inferd.engines.native.core import NativeCore
from inferd.engines.native.decoder import Decoder
from inferd.messages import Sampling, Submit
from inferd_kernels.dispatch import prefer_invariant
from inferd_scheduler import SchedulerConfig
from tests.engines.native.same_bits import alone, differing, renamed

pytestmark = pytest.mark.usefixtures("invariant", "gpu", "matrix_units")

LIMIT = 24  # tokens
ASKED = [
    Submit("greedy", (5, 6, 7), 2, Sampling(temperature=0.0, logprobs=2)),
    Submit("sampled", (9, 1, 2, 3, 4, 8, 11), 3, Sampling(temperature=0.9, seed=3, logprobs=1)),
]


@pytest.fixture
def invariant() -> Iterator[None]:
    prefer_invariant(True)
    yield
    prefer_invariant(False)


@pytest.fixture
def model(gpu: torch.device) -> Decoder:
    return make_model(TINY_LLAMA, gpu, max_model_len=LIMIT, max_batch_tokens=32)


@pytest.fixture
def expected(model: Decoder) -> dict[str, Transcript]:
    """What each says alone."""
    return alone(core(model, prefix_cache=False), ASKED)


def core(model: Decoder, *, num_blocks: int = 24, prefix_cache: bool = True) -> NativeCore:
    config = SchedulerConfig(
        max_batch_size=4,
        max_batch_tokens=5,
        num_blocks=num_blocks,
        block_size=4,
        max_model_len=LIMIT,
        prefix_cache=prefix_cache,
        max_adapters=0,
    )
    return NativeCore(model, config, ahead=True)


def test_neighbours_and_chunks_change_nothing(
    model: Decoder, expected: dict[str, Transcript]
) -> None:
    more = renamed(ASKED, prompt=(9, 1, 2, 50))
    assert differing(drive(core(model), [*more, *ASKED]), expected) == []


def test_the_prefix_cache_and_preemption_change_nothing(
    model: Decoder, expected: dict[str, Transcript]
) -> None:
    tight = core(model, num_blocks=6)
    drive(tight, renamed(ASKED[1:], prompt=(*ASKED[1].prompt, 7), max_tokens=1))
    others = renamed(ASKED[1:], prompt=(3,) * 11, max_tokens=7)
    got = drive(tight, [*others, ASKED[1], ASKED[0]])
    assert got["sampled"].cached_tokens > 0
    assert sum(one.finish.preemptions for one in got.values()) > 0
    assert differing(got, expected) == []
