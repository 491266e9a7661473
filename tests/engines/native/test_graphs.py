"""Decode steps are replayed, padded, where a recording is there, and run as they are elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from inferd.engines.native import decoder as decoder_module
from inferd.engines.native import graphs as graphs_module
from inferd.engines.native.batching import allocate_kv
from inferd.engines.native.decoder import Decoder, load_decoder
from inferd.engines.native.device_batching import SCRATCH_BLOCKS, DeviceBatcher
from inferd.engines.native.graphs import HOT_STEPS, StepGraphs, bounds, sizes
from inferd.engines.native.rope import SMALLEST
from inferd_kernels.dispatch import only
from inferd_scheduler import Step, Work
from tests.engines.native.recording import RecordingCapture
from tests.engines.native.tiny import VOCAB, write_checkpoint

CPU = torch.device("cpu")
BLOCKS, SIZE, LENGTH = 30, 4, 40


@pytest.fixture(scope="module", params=["llama", "gemma2"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Decoder:
    folder = write_checkpoint(request.param, tmp_path_factory.mktemp("model"))
    return load(folder)


def load(folder: Path) -> Decoder:
    """With plain tensors as weights, as a GPU has them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoder_module, "library", lambda: None)
        return load_decoder(
            folder, dtype=torch.float32, device=CPU, on_progress=lambda *_: None, max_model_len=64
        )


@pytest.fixture(autouse=True)
def plain_torch() -> Iterator[None]:
    """The references: the same launches as a GPU's kernels, as far as a recording is concerned."""
    with only("reference"):
        yield


class Engine:
    """A batcher with a few sequences, and graphs."""

    def __init__(self, model: Decoder, rows: int = 5) -> None:
        self.model = model
        cache = allocate_kv(model.kv_specs, BLOCKS + SCRATCH_BLOCKS, SIZE, model.dtype, CPU)
        for tensor in (tensor for pair in cache for tensor in pair):
            tensor.fill_(torch.nan)
        self.batcher = DeviceBatcher(cache, SIZE, rows, LENGTH // SIZE, 64)
        self.capture = RecordingCapture()
        self.graphs = StepGraphs(model, self.batcher, self.capture, LENGTH)
        self.lengths: dict[int, int] = {}
        self.free = list(range(BLOCKS))

    def step(self, sizes: dict[int, int]) -> Step:
        """Rows with so many new tokens each."""
        works = []
        for row, size in sizes.items():
            start = self.lengths.get(row, 0)
            tokens = tuple((7 * row + 3 * (start + i) + 1) % VOCAB for i in range(size))
            need = -(-(start + size) // SIZE) - -(-start // SIZE)
            new = tuple(self.free.pop() for _ in range(need))
            works.append(Work(str(row), row, start, tokens, new, True, row not in self.lengths))
            self.lengths[row] = start + size
        return Step(1, works, sum(sizes.values()))

    def run(self, sizes: dict[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        """The hidden states by the graphs, and without any."""
        with torch.inference_mode():
            self.batcher._inputs.block_tables.fill_(10**6)  # nobody reads what a step has not
            batch = self.batcher.build(self.step(sizes))
            plain = self.model.forward(batch).clone()
            return self.graphs.run(batch).clone(), plain


def test_sizes_and_bounds() -> None:
    assert sizes(1) == (1,)
    assert sizes(3) == (1, 2, 3)
    assert sizes(64) == (1, 2, 4, 8, 16, 24, 32, 40, 48, 56, 64)
    assert sizes(20) == (1, 2, 4, 8, 16, 20)
    assert bounds(100) == (100,)
    assert bounds(2048) == (2048,)
    assert bounds(131072) == (2048, 16384, 131072)


def test_replays_are_what_the_model_would_do(model: Decoder) -> None:
    engine = Engine(model)
    engine.run({0: 5, 1: 3, 2: 9})
    engine.run({0: 1, 1: 1, 2: 1})
    while engine.graphs.rest():
        pass
    assert engine.capture.made == len(sizes(5)) == len(engine.graphs)
    for rows in ([0], [2, 1], [0, 1, 2], [3], [3, 0, 2, 1], [1], [4], [0, 1, 2, 3, 4]):
        before = engine.capture.replays
        prompt = {row: 2 for row in rows if row not in engine.lengths}
        if prompt:
            engine.run(prompt)
        found, plain = engine.run(dict.fromkeys(rows, 1))
        assert engine.capture.replays == before + 1
        assert found.shape == plain.shape
        torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-4)


def test_a_prompt_is_run_as_it_is(model: Decoder) -> None:
    engine = Engine(model)
    engine.run({0: 1})
    while engine.graphs.rest():
        pass
    engine.run({1: 3, 0: 1})
    assert engine.capture.replays == 0


def test_what_was_asked_for_most_comes_first(model: Decoder) -> None:
    engine = Engine(model)
    assert not engine.graphs.rest(), "nobody has asked for anything"
    for rows in ([0], [0, 1, 2, 3], [0, 1, 2, 3], [0, 1]):
        engine.run(dict.fromkeys(rows, 1))
    assert engine.graphs.rest(), "one at a time"
    assert engine.capture.made == 1
    engine.run(dict.fromkeys([0, 1, 2, 3], 1))
    assert engine.capture.replays == 1


def test_what_fails_to_be_recorded_is_told_once_and_runs_as_it_is(
    model: Decoder, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Engine(model)
    engine.capture.broken = True
    engine.run({0: 1})
    with caplog.at_level(logging.WARNING):
        while engine.graphs.rest():
            pass
        assert not engine.graphs.rest()
    assert len(caplog.records) == len(sizes(5))
    found, plain = engine.run({0: 1})
    torch.testing.assert_close(found, plain)
    engine.graphs.clear()
    engine.capture.broken = False
    assert engine.graphs.rest(), "a new try after a sleep"
    assert engine.capture.made == 1


def test_an_engine_that_is_never_idle_gets_its_graphs(
    model: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs_module, "HOT_STEPS", 4)
    assert HOT_STEPS > 4
    engine = Engine(model)
    for number in range(1, 12):
        found, plain = engine.run({0: 1})
        torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-4)
        assert engine.capture.made == (number >= 4)
    engine.run({0: 1, 1: 1})
    assert engine.capture.made == 1, "not another at once"


def test_without_memory_nothing_is_recorded(
    model: Decoder, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Engine(model)
    engine.capture.free = 1 << 20
    engine.run({0: 1})
    assert not engine.graphs.rest()
    assert (engine.capture.made, len(caplog.records)) == (0, 1)
    engine.capture.free = 1 << 40
    assert not engine.graphs.rest(), "what a step gave back for a moment is no room"
    engine.graphs.clear()
    assert engine.graphs.rest(), "a new try after a sleep"


def test_a_cache_that_moved_behind_our_back_is_our_bug(model: Decoder) -> None:
    engine = Engine(model)
    engine.run({0: 1})
    engine.graphs.rest()
    cache = engine.batcher.kv_cache
    engine.batcher.kv_cache = tuple((keys.clone(), values.clone()) for keys, values in cache)
    with pytest.raises(AssertionError):
        engine.run({0: 1})
    engine.graphs.clear()
    engine.run({0: 1})
    engine.graphs.rest()
    engine.run({0: 1})
    assert engine.capture.replays == 1


def test_a_table_that_moved_behind_our_back_is_our_bug(model: Decoder) -> None:
    engine = Engine(model)
    engine.run({0: 1})
    engine.graphs.rest()
    before = model.places()
    model.reserve(2 * SMALLEST)
    assert model.places() != before
    with pytest.raises(AssertionError):
        engine.run({0: 1})


def test_a_recording_serves_contexts_up_to_its_bound(
    model: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs_module, "SHORTEST_BOUND", 8)
    engine = Engine(model)
    engine.run({0: 6})
    engine.run({0: 1})
    engine.graphs.rest()
    assert engine.capture.made == 1
    engine.run({0: 1})
    assert engine.lengths[0] == 8
    assert engine.capture.replays == 1
    engine.run({0: 1})
    assert engine.capture.replays == 1, "a context that it is too short for"


def test_longer_contexts_have_recordings_of_their_own(
    model: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs_module, "SHORTEST_BOUND", 8)
    engine = Engine(model)
    engine.run({0: 8})
    engine.run({0: 1})
    engine.graphs.rest()
    assert engine.capture.made == 1
    found, plain = engine.run({1: 1})  # short: the longer one serves, until it has its own
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-4)
    assert engine.capture.replays == 1
    while engine.graphs.rest():
        pass
    assert engine.capture.made == 2 * len(sizes(5))


def test_a_forward_pass_that_waits_cannot_be_recorded() -> None:
    capture = RecordingCapture()
    mask = torch.tensor([True, False])

    def waits() -> torch.Tensor:
        return torch.ones(2)[mask]

    with pytest.raises(RuntimeError, match="waits"):
        capture(waits)
    with pytest.raises(RuntimeError, match="waits"):
        capture(lambda: torch.tensor([1.0]))
    with pytest.raises(RuntimeError, match="waits"):
        capture(lambda: mask * mask.tolist()[0])


def test_logits_wait_for_nothing(model: Decoder) -> None:
    hidden = torch.randn(2, model.config.hidden_size)
    recording = RecordingCapture()(lambda: model.logits(hidden))
    hidden.copy_(torch.randn(2, model.config.hidden_size))
    recording.replay()
    assert torch.equal(recording.output, model.logits(hidden))


def test_a_replay_sees_what_is_there_now() -> None:
    capture = RecordingCapture()
    static = torch.tensor([1.0, 2.0])
    host = {"factor": 2.0}
    recording = capture(lambda: (static * host["factor"]).sort(descending=True)[0] + 1)
    static.copy_(torch.tensor([5.0, 7.0]))
    host["factor"] = 100.0  # not seen, as on a GPU
    recording.replay()
    assert recording.output.tolist() == [15.0, 11.0]
