"""An engine of the device's kind, on a CPU: steps that do not fit, sleep, and what comes first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.verify_numbers.drive import drive
from inferd.engines.native import decoder as decoder_module
from inferd.engines.native import warming
from inferd.engines.native.core import NativeCore
from inferd.engines.native.decoder import Decoder, load_decoder
from inferd.engines.native.device_batching import DeviceBatcher
from inferd.engines.native.model import Batch
from inferd.engines.native.stepping import Stepping, capture_for
from inferd.errors import StartError
from inferd.messages import Fail, Sampling, Submit
from inferd_kernels.dispatch import only
from inferd_scheduler import SchedulerConfig
from tests.engines.native.hash_model import HashModel, SmallModel, greedy
from tests.engines.native.recording import RecordingCapture
from tests.engines.native.tiny import write_checkpoint

CONFIG = SchedulerConfig(
    max_batch_size=4, max_batch_tokens=24, num_blocks=60, block_size=4, max_model_len=60
)
CPU = torch.device("cpu")


def ask(name: str, *prompt: int, count: int = 6) -> Submit:
    return Submit(name, prompt, count, Sampling(temperature=0.0))


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("fits", [1, 3, 8])
def test_an_engine_with_little_memory_says_the_same(fits: int, ahead: bool) -> None:
    model = SmallModel(fits)
    core = NativeCore(model, CONFIG, ahead=ahead)
    prompts = {"a": range(1, 15), "b": range(5, 8), "c": range(20, 40), "d": range(9, 10)}
    found = drive(core, [ask(name, *prompt) for name, prompt in prompts.items()])
    assert model.refused
    for name, prompt in prompts.items():
        assert found[name].tokens == greedy(list(prompt), 6)


@pytest.mark.parametrize("ahead", [False, True])
def test_only_who_does_not_fit_fails(ahead: bool) -> None:
    core = NativeCore(SmallModel(4, cursed=45), CONFIG, ahead=ahead)
    found = drive(core, [ask("a", 1, 2, 3, 4, 5, 6), ask("b", 7, 45, 8), ask("c", 9)])
    end = found["b"].end
    assert isinstance(end, Fail)
    assert "OutOfMemoryError" in end.log
    assert found["a"].tokens == greedy([1, 2, 3, 4, 5, 6], 6)
    assert found["c"].tokens == greedy([9], 6)
    again = drive(core, [ask("d", 7, 8)])
    assert again["d"].tokens == greedy([7, 8], 6), "the engine lives"


@pytest.mark.parametrize("ahead", [False, True])
def test_where_nothing_fits_all_fail_and_the_engine_lives(ahead: bool) -> None:
    model = SmallModel(0)
    core = NativeCore(model, CONFIG, ahead=ahead)
    found = drive(core, [ask("a", 1, 2, 3), ask("b", 7)])
    assert all(isinstance(one.end, Fail) for one in found.values())
    model.fits = 5
    assert drive(core, [ask("c", 7, 8)])["c"].tokens == greedy([7, 8], 6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint("llama", tmp_path_factory.mktemp("model"))


@pytest.fixture
def model(folder: Path) -> Iterator[Decoder]:
    with pytest.MonkeyPatch.context() as patch, only("reference"):
        patch.setattr(decoder_module, "library", lambda: None)
        yield load_decoder(folder, dtype=None, device=CPU, on_progress=lambda *_: None)


def rested(core: NativeCore) -> NativeCore:
    while core.rest():
        pass
    return core


def test_a_sleep_forgets_the_graphs_and_an_idle_moment_makes_them_anew(model: Decoder) -> None:
    capture = RecordingCapture()
    core = NativeCore(model, CONFIG, ahead=True, capture=capture)
    before = drive(core, [ask("a", 1, 2, 3)])["a"].tokens
    rested(core)
    made = capture.made
    assert made == 3
    core.sleep()
    assert capture.cleared == 1
    assert not core.rest(), "asleep"
    core.wake()
    assert drive(core, [ask("b", 1, 2, 3)])["b"].tokens == before
    assert capture.replays == 0
    rested(core)
    assert drive(core, [ask("c", 1, 2, 3)])["c"].tokens == before
    assert (capture.made, capture.replays > 0) == (2 * made, True)


def test_an_idle_moment_after_a_step_that_outgrew_the_staging_memory(model: Decoder) -> None:
    """Long prefixes that are cached make a step's description long."""
    config = replace(CONFIG, max_batch_size=1, max_batch_tokens=4, block_size=1)
    capture = RecordingCapture()
    core = NativeCore(model, config, ahead=True, capture=capture)
    expected = drive(core, [ask("a", *range(40))])["a"].tokens
    again = drive(core, [ask("b", *range(40))])["b"]
    assert again.cached_tokens == 39  # so many blocks, in a step of one token
    rested(core)
    assert drive(core, [ask("c", *range(40))])["c"].tokens == again.tokens == expected
    assert (capture.made, capture.replays > 0) == (1, True)


def test_whose_forward_pass_cannot_be_captured_has_no_graphs() -> None:
    capture = RecordingCapture()
    core = NativeCore(HashModel(), CONFIG, ahead=True, capture=capture)
    assert drive(core, [ask("a", 1, 2, 3)])["a"].tokens == greedy([1, 2, 3], 6)
    assert not core.rest()
    assert capture.made == 0


def test_a_cpu_has_neither_graphs_nor_scratch_blocks(model: Decoder) -> None:
    assert capture_for(model, enforce_eager=False) is None
    stepping = Stepping(model, CONFIG, on_device=False, capture=None)
    assert len(stepping.batcher.kv_cache[0][0]) == CONFIG.num_blocks
    assert not stepping.rest()


def test_the_first_steps_run_what_serving_needs(
    model: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a device: prompts, decodes of all rows and of one, and with the longest bound; both
    kinds at once; then ever more tokens."""
    seen: list[tuple[int, int, int]] = []
    forward = model.forward

    def noted(batch: Batch) -> torch.Tensor:
        seen.append((len(batch.seq_lens), batch.max_seqlen_q, batch.max_seqlen_k))
        return forward(batch)

    def on_device(_device: torch.device, *options: Any) -> DeviceBatcher:
        return DeviceBatcher(*options)

    monkeypatch.setattr(warming, "batcher_for", on_device)
    monkeypatch.setattr(model, "forward", noted)
    with torch.inference_mode():
        held = warming.warm_up(model, 20, 4, 4, 60)
    decodes = [(4, 1, 5), (4, 1, 60), (1, 1, 5), (1, 1, 60)]
    assert seen[:6] == [(4, 5, 5), *decodes, (2, 2, 60)]
    assert seen[6:] == [
        *[(1, n, n) for n in range(1, 6)],
        *[(-(-total // 5), 5, 5) for total in (6, 8, 10, 13, 17)],
    ]
    assert held == 3 * 2 * 9 * 4 * 3 * 10 * 4


def test_first_logits_that_are_no_numbers_are_refused(model: Decoder) -> None:
    model.weights[0].fill_(torch.nan)
    with pytest.raises(StartError) as caught, torch.inference_mode():
        warming.warm_up(model, 8, 2, 4, 8)
    assert caught.value.code == "bad_weights"
