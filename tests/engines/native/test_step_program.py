"""A step as one program gives the bits of a step operation by operation."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from weakref import ref

import pytest
import torch

from inferd.engines.native.decoder import Decoder, load_decoder
from inferd.engines.native.model import Batch
from inferd_kernels.cpu.library import library, set_threads
from tests.engines.native import tiny

CPU = torch.device("cpu")

pytestmark = pytest.mark.skipif(
    os.environ.get("INFERD_CPU_KERNELS") == "0", reason="the kernels are turned off"
)
DENSE = [case for case in tiny.CASES if "moe" not in case and case != "mixtral"]
STEPS: tuple[Mapping[int, Sequence[int]], ...] = (
    {0: [5, 1, 77, 3, 198, 42, 9, 11, 2], 1: [4]},
    {1: [8], 0: [6], 2: [9, 9, 1, 5]},
    {0: [7], 1: [3], 2: [8]},
    {3: range(40), 0: [1]},
)


@contextmanager
def threads(count: int) -> Iterator[None]:
    loaded = library()
    assert loaded is not None
    set_threads(loaded, count)
    yield
    set_threads(loaded, torch.get_num_threads())


@pytest.fixture(scope="module", params=DENSE)
def dense(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_checkpoint(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_checkpoint("llama", tmp_path_factory.mktemp("llama"))


class Index:
    """Memory in which each batch's index tensors begin at the same addresses."""

    def __init__(self, size: int = 64) -> None:
        self._places = torch.zeros(3, size, dtype=torch.int64)

    def placed(self, batch: Batch) -> Batch:
        """The batch in this memory, until the next one comes."""
        places = self._places[:, : len(batch.input_ids)]
        places.copy_(torch.stack((batch.input_ids, batch.positions, batch.slot_mapping)))
        ids, positions, slots = places
        return replace(batch, input_ids=ids, positions=positions, slot_mapping=slots)


def load(folder: Path, dtype: torch.dtype = torch.float32) -> Decoder:
    return load_decoder(
        folder,
        dtype=dtype,
        device=CPU,
        max_batch_tokens=64,
        on_progress=lambda done, total: None,
    )


@torch.inference_mode()
def logits(decoder: Decoder) -> list[torch.Tensor]:
    """Of every step."""
    cache, index = tiny.PagedCache(decoder), Index()
    batches = (index.placed(cache.batch(step)) for step in STEPS)
    return [decoder.logits(decoder.forward(batch)).clone() for batch in batches]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_bits_are_the_same(dense: Path, dtype: torch.dtype) -> None:
    decoder = load(dense, dtype)
    assert decoder.recorded
    with threads(2):
        program = logits(decoder)
    decoder.recorded = False
    with threads(1):
        one_by_one = logits(decoder)
    for mine, other in zip(program, one_by_one, strict=True):
        assert bool(mine.isfinite().all())
        assert torch.equal(mine, other)


def test_it_is_recorded_once_for_a_cache(llama: Path) -> None:
    decoder, index = load(llama), Index()
    cache = tiny.PagedCache(decoder)
    first = decoder.program(index.placed(cache.batch(STEPS[0])))
    assert decoder.program(index.placed(cache.batch(STEPS[1]))) is first
    other = tiny.PagedCache(decoder)
    assert decoder.program(index.placed(other.batch(STEPS[0]))) is not first


def test_a_larger_step_or_a_longer_context_makes_it_anew(llama: Path) -> None:
    decoder, index = load(llama), Index(3000)
    cache = tiny.PagedCache(decoder, num_blocks=1000)
    first = decoder.program(index.placed(cache.batch({0: range(64)})))
    large = index.placed(cache.batch({0: range(65)}))
    second = decoder.program(large)
    assert second is not first
    assert second.fits(large)
    decoder.reserve(5000)  # the rope tables move
    assert not second.fits(large)


def test_a_program_keeps_no_cache(llama: Path) -> None:
    """A model that sleeps has given it back."""
    decoder = load(llama)
    cache = tiny.PagedCache(decoder)
    decoder.forward(cache.batch({0: [1, 2, 3]}))
    keys = ref(cache.layers[0][0])
    del cache
    assert keys() is None
