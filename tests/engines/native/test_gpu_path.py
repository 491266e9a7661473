"""The whole native engine on the GPU's path: its kernels, batches and tables on the device,
recorded steps, a step ahead. It says what the plain engine says.

Without a GPU in Triton's interpreter, with one by its own kernels and CUDA's graphs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from benchmarks.verify_numbers.drive import Transcript, drive
from inferd.engines.native import decoder as decoder_module
from inferd.engines.native.capturing import CudaCapture, Recording
from inferd.engines.native.core import NativeCore
from inferd.engines.native.decoder import Decoder, load_decoder
from inferd.messages import AdapterInfo, LoadAdapter, Sampling, Submit
from inferd_kernels.dispatch import only, prefer_invariant
from inferd_scheduler import SchedulerConfig
from tests.engines.native.adapters.made import write_adapter
from tests.engines.native.recording import RecordingCapture
from tests.kernels.gpu_device import DEVICE, NATIVE

SMALL: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 64,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
MOE = {"num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "dense": ("Llama", {}),
    "sparse": ("Qwen3Moe", {**MOE, "decoder_sparse_step": 2}),
}
CONFIG = SchedulerConfig(
    max_batch_size=2,
    max_batch_tokens=8,
    num_blocks=24,
    block_size=4,
    max_model_len=40,
    max_adapters=1,
)


def write(name: str, path: Path) -> Path:
    kind, changes = MODELS[name]
    config = getattr(transformers, f"{kind}Config")(**SMALL | changes)
    torch.manual_seed(3)
    model: Any = transformers.AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    model.save_pretrained(path)
    return path


def load(folder: Path, device: torch.device) -> Decoder:
    """With plain tensors as weights, as a GPU has them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoder_module, "library", lambda: None)
        return load_decoder(folder, dtype=torch.float32, device=device, on_progress=lambda *_: None)


def ask(name: str, prompt: tuple[int, ...], count: int, adapter: str = "", **how: Any) -> Submit:
    return Submit(name, prompt, count, Sampling(**{"temperature": 0.0} | how), adapter=adapter)


class CountingCapture(CudaCapture):
    """CUDA's graphs, counted as `RecordingCapture` counts its recordings."""

    def __init__(self) -> None:
        super().__init__(DEVICE)
        self.made = self.replays = 0

    def __call__(self, run: Callable[[], torch.Tensor]) -> Recording:
        recording = super().__call__(run)
        self.made += 1

        def replay() -> None:
            self.replays += 1
            recording.replay()

        return Recording(recording.output, replay)


def replayed(
    model: Decoder, first: list[Submit], then: list[Submit], adapters: dict[str, Path]
) -> tuple[dict[str, Transcript], RecordingCapture | CountingCapture]:
    """What an engine of the GPU's kind says: to the first requests as steps are, then by graphs."""
    capture = CountingCapture() if NATIVE else RecordingCapture()
    with only("gpu"):
        core = NativeCore(model, CONFIG, ahead=True, capture=capture)
        hold(core, adapters)
        found = drive(core, first)
        assert capture.made == 0, "the first answers wait for no recording"
        while core.rest():
            pass
        found |= drive(core, then)
        core.close()
    return found, capture


def plain(
    model: Decoder, submits: list[Submit], adapters: dict[str, Path]
) -> dict[str, Transcript]:
    with only("reference"):
        core = NativeCore(model, CONFIG)
        hold(core, adapters)
        found = drive(core, submits)
        core.close()
    return found


def hold(core: NativeCore, adapters: dict[str, Path]) -> None:
    for name, folder in adapters.items():
        core.load_adapter(LoadAdapter(name, str(folder)))
    drive(core, ())
    assert [type(news) for news in core.adapter_news()] == [AdapterInfo] * len(adapters)


@pytest.mark.parametrize("name", MODELS)
def test_it_says_what_the_plain_engine_says(name: str, tmp_path: Path) -> None:
    folder = write(name, tmp_path)
    first = [ask("greedy", (*range(5, 16),), 3, logprobs=2)]
    then = [
        ask("drawn", (9, 4), 4, temperature=0.8, top_p=0.9, seed=5, logprobs=1),
        ask("late", (20,), 3, frequency_penalty=0.5, logprobs=0),
    ]
    expected = plain(load(folder, torch.device("cpu")), first + then, {})
    found, capture = replayed(load(folder, DEVICE), first, then, {})
    assert capture.made == 2
    assert capture.replays >= 3
    same(found, expected)


def test_adapters_in_recorded_steps(tmp_path: Path) -> None:
    folder = write("dense", tmp_path / "model")
    adapter = write_adapter(
        folder, tmp_path / "one", std=0.3, r=3, target_modules=["q_proj", "o_proj", "down_proj"]
    )
    first = [ask("alone", (5, 6, 7), 3, "one")]
    then = [ask("with", (5, 6, 8), 4, "one"), ask("bare", (5, 6, 8), 3)]
    expected = plain(load(folder, torch.device("cpu")), first + then, {"one": adapter})
    assert expected["with"].tokens[:3] != expected["bare"].tokens
    found, capture = replayed(load(folder, DEVICE), first, then, {"one": adapter})
    assert capture.replays >= 2
    same(found, expected)


def test_recorded_steps_serve_adapters_of_other_layers(tmp_path: Path) -> None:
    """Steps are recorded while slots hold nothing of the layers that the second one changes."""
    folder = write("dense", tmp_path / "model")
    adapters = {
        name: write_adapter(folder, tmp_path / name, std=0.3, r=3, target_modules=[module])
        for name, module in (("one", "q_proj"), ("two", "gate_proj"))
    }
    first, then = [ask("first", (5, 6, 7), 3, "one")], [ask("then", (5, 6, 8), 4, "two")]
    bare = plain(load(folder, torch.device("cpu")), [ask("then", (5, 6, 8), 4)], {})
    expected = plain(load(folder, torch.device("cpu")), first + then, adapters)
    assert expected["then"].tokens != bare["then"].tokens
    found, capture = replayed(load(folder, DEVICE), first, then, adapters)
    assert capture.replays >= 2
    same(found, expected)


def test_recorded_steps_change_no_bit_where_none_may_change(tmp_path: Path) -> None:
    """In deterministic mode: neither padding nor the bound of a recording makes a difference."""
    model = load(write("dense", tmp_path), DEVICE)
    asked = [ask("alone", (5, 6, 7), 3, logprobs=1)]
    prefer_invariant(True)
    try:
        with only("gpu"):
            eager = drive(NativeCore(model, CONFIG, ahead=True), asked)["alone"]
        again, other = ask("again", (5, 6, 7), 3, logprobs=1), ask("other", (9,), 3)
        found, capture = replayed(model, asked, [other, again], {})
    finally:
        prefer_invariant(False)
    assert capture.replays >= 2
    for name in ("alone", "again"):
        assert found[name].tokens == eager.tokens
        assert found[name].logprobs == eager.logprobs


def same(found: dict[str, Transcript], expected: dict[str, Transcript]) -> None:
    assert found.keys() == expected.keys()
    for name, other in expected.items():
        mine = found[name]
        assert mine.tokens == other.tokens
        assert mine.finish.reason == other.finish.reason
        for one, two in zip(mine.logprobs, other.logprobs, strict=True):
            assert one.token_id == two.token_id
            assert one.logprob == pytest.approx(two.logprob, abs=1e-4)
            assert [token for token, _ in one.top] == [token for token, _ in two.top]
