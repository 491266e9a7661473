"""The transformers fallback: what it runs, what it refuses and why, and its guard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks.verify_numbers.drive import drive
from inferd.engines.base import EngineSpec, Progress
from inferd.engines.native import fallback_checks
from inferd.engines.native.core import create
from inferd.engines.native.decoder import load_decoder
from inferd.engines.native.fallback import (
    TransformersModel,
    empty_model,
    load_fallback,
    read_config,
)
from inferd.engines.native.fallback_attention import forward_pass
from inferd.errors import StartError
from inferd.messages import Sampling, Submit
from tests.engines.native import tiny, tiny_fallback

CPU = torch.device("cpu")


def load(folder: Path, dtype: torch.dtype | None = None) -> TransformersModel:
    return load_fallback(folder, dtype=dtype, device=CPU, on_progress=lambda progress: None)


@pytest.mark.parametrize("case", tiny_fallback.CASES)
def test_architectures_that_run(case: str, tmp_path: Path) -> None:
    """Loading compares the paged run with the model's own attention, see `self_check`."""
    model = load(tiny_fallback.write_checkpoint(case, tmp_path))
    assert model.runner == "transformers"
    assert model.max_position == 128
    assert model.vocab_size == tiny.VOCAB
    assert model.weight_bytes > 4 * tiny.VOCAB * 60


@pytest.mark.parametrize("case", tiny_fallback.REFUSED)
def test_architectures_that_are_refused_before_weights_are_read(case: str, tmp_path: Path) -> None:
    """There are no weights in the folder at all."""
    config, word = tiny_fallback.REFUSED[case]
    with pytest.raises(StartError) as caught:
        load(tiny_fallback.write_config(config, tmp_path))
    assert caught.value.code == "unsupported"
    assert word in caught.value.message


def test_code_in_the_checkpoint_is_not_run(tmp_path: Path) -> None:
    config = {
        "model_type": "own",
        "architectures": ["OwnForCausalLM"],
        "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.Own"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "own.py").write_text("raise SystemExit('ran')")
    with pytest.raises(StartError) as caught:
        load(tmp_path)
    assert caught.value.code == "unsupported"
    assert "code of its own" in caught.value.message


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    tiny_fallback.write_checkpoint("gpt2", tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(StartError, match="pickle"):
        load(tmp_path)


@pytest.mark.parametrize("fault", ["missing", "misshapen"])
def test_wrong_weights_are_an_error(fault: str, tmp_path: Path) -> None:
    tiny_fallback.write_checkpoint("gpt-neox", tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    name = next(name for name in tensors if "dense_h_to_4h.weight" in name)
    tensor = tensors.pop(name)
    if fault == "misshapen":
        tensors[name] = tensor[:7].clone()
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StartError) as caught:
        load(tmp_path)
    assert caught.value.code == "bad_weights"


def test_the_probe_catches_code_that_is_wrong_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the model took its positions from elsewhere than `position_ids`."""
    folder = tiny_fallback.write_checkpoint("gpt2", tmp_path)

    def forward(self: TransformersModel, batch: Any) -> torch.Tensor:
        counted = torch.arange(len(batch.positions))
        with forward_pass(batch):
            output = self._layers(input_ids=batch.input_ids[None], position_ids=counted[None])
        states: torch.Tensor = output[0][0]
        return states

    load(folder)
    monkeypatch.setattr(TransformersModel, "forward", forward)
    with pytest.raises(StartError, match="logprobs differ"):
        load(folder)


def test_attention_outside_the_engine_is_an_error(tmp_path: Path) -> None:
    model = load(tiny.write_checkpoint("llama", tmp_path))
    with pytest.raises(RuntimeError, match="inside the engine"):
        model._layers(input_ids=torch.tensor([[1, 2]]))


def test_windows_follow_the_layer_types(tmp_path: Path) -> None:
    folder = tiny_fallback.write_checkpoint("cohere2", tmp_path)
    config = read_config(folder)
    calls = fallback_checks.dry_run(empty_model(config))
    assert [call.window for call in calls] == [5, 0, 5]
    fallback_checks.check_calls(config, calls)
    with pytest.raises(StartError, match="asks for a window of 0"):
        fallback_checks.check_calls(config, [calls[1]] * 3)


def test_both_runners_agree_on_llama(tmp_path: Path) -> None:
    folder = tiny.write_checkpoint("llama", tmp_path)
    ours = load_decoder(folder, dtype=None, device=CPU, on_progress=lambda done, total: None)
    theirs = load(folder)
    for model in (ours, theirs):
        assert model.kv_specs == ours.kv_specs
    tokens = {0: [5, 6, 7, 8, 9], 1: [10, 11]}
    results = []
    for model in (ours, theirs):
        cache = tiny.PagedCache(model)
        with torch.inference_mode():
            results.append(model.logits(model.forward(cache.batch(tokens))))
    torch.testing.assert_close(*results, atol=1e-4, rtol=0)


def test_an_engine_on_the_fallback_in_bfloat16(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny_fallback.write_checkpoint("stablelm", tmp_path)
    capsys.readouterr()
    progress: list[Progress] = []
    core = create(EngineSpec(model=str(folder), dtype="bfloat16", device="cpu"), progress.append)
    assert (core.info.runner, core.info.dtype) == ("transformers", "bfloat16")
    assert [p.done for p in progress if p.stage == "weights"] == [0, core.info.weight_bytes]
    assert not capsys.readouterr().err  # transformers' own progress bars are off
    sampling = Sampling(temperature=0.0)
    got = drive(core, [Submit("a", (1, 2, 3), 5, sampling), Submit("b", (4,), 5, sampling)])
    assert all(len(one.tokens) == 5 for one in got.values())
