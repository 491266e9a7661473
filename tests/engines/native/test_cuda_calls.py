"""What the engine asks of CUDA, against a stand-in: streams, pools, memory. No kernel runs here."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from inferd.engines.base import EngineSpec
from inferd.engines.native import start as start_module
from inferd.engines.native.capturing import CudaCapture
from inferd.engines.native.decoder import load_decoder
from inferd.engines.native.memory import SPARE_BYTES
from inferd.engines.native.staging import Staging
from inferd.engines.native.start import graph_bytes, slot_bytes
from tests.engines.native.fake_cuda import FakeCuda
from tests.engines.native.hash_model import HashModel
from tests.engines.native.tiny import write_checkpoint

DEVICE = torch.device("cuda", 0)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return FakeCuda().install(monkeypatch)


def test_a_capture_runs_first_and_shares_a_pool(cuda: FakeCuda) -> None:
    capture = CudaCapture(DEVICE)
    streams: list[object] = []

    def run() -> torch.Tensor:
        streams.append(cuda.current)
        return torch.ones(1)

    one, _ = capture(run), capture(run)
    first, second = cuda.captures
    assert streams == [first["stream"]] * 4, "each runs on the side, then is captured there"
    assert first["stream"] is second["stream"] is not cuda.main
    assert first["stream"].waited == [cuda.main] * 2
    assert cuda.main.waited == [first["stream"]] * 2
    assert first["pool"] == second["pool"]
    assert first["capture_error_mode"] == "thread_local"
    one.replay()
    assert (first["graph"].replays, second["graph"].replays) == (1, 0)
    capture.clear()
    capture(run)
    assert cuda.captures[2]["pool"] != first["pool"]


def test_a_capture_that_fails_leaves_the_stream_as_it_was(cuda: FakeCuda) -> None:
    capture = CudaCapture(DEVICE)

    def run() -> torch.Tensor:
        if cuda.captures:
            raise RuntimeError("operation not permitted when stream is capturing")
        return torch.ones(1)

    with pytest.raises(RuntimeError, match="not permitted"):
        capture(run)
    assert cuda.current is cuda.main
    assert capture.room() == cuda.total - cuda.used


def test_what_fails_before_it_is_captured_leaves_nothing_behind(cuda: FakeCuda) -> None:
    capture = CudaCapture(DEVICE)

    def run() -> torch.Tensor:
        raise torch.OutOfMemoryError("no memory")

    with pytest.raises(torch.OutOfMemoryError):
        capture(run)
    assert (cuda.captures, cuda.current) == ([], cuda.main)
    assert capture.room() == cuda.total - cuda.used


def test_staging_waits_for_the_copy_before_the_last(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = torch.empty

    def on_host(*shape: int, dtype: torch.dtype, **_: object) -> torch.Tensor:
        return empty(*shape, dtype=dtype)

    monkeypatch.setattr(torch, "empty", on_host)
    staging = Staging(8, DEVICE)
    cuda.noted.clear()
    for number in range(4):
        staging.take(3)[:] = number
        assert staging.send().tolist() == [number] * 3
    assert cuda.noted == ["record", "record", "wait", "record", "wait", "record"]
    cuda.noted.clear()
    staging.take(9)[:] = 7
    assert staging.send().tolist() == [7] * 9
    assert cuda.noted == ["synchronize", "record"], "larger memory: nobody reads the old"


def test_what_is_left_beside_the_largest_step_is_for_kv(
    cuda: FakeCuda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = torch.device("cpu")
    folder = write_checkpoint("llama", tmp_path)
    model = load_decoder(folder, dtype=None, device=host, on_progress=lambda *_: None)
    monkeypatch.setattr(start_module, "held_by_others", lambda _index: 7 << 30)
    spec = EngineSpec(max_batch_tokens=16, max_batch_size=4)
    with torch.inference_mode():
        budget = start_module._cuda_budget(spec, model)
    cache = sum(2 * 5 * 16 * kv.num_kv_heads * kv.head_dim * 4 for kv in model.kv_specs)
    beside = 2 * (cuda.peak - cache) + slot_bytes(spec, model)
    beside += SPARE_BYTES + graph_bytes(spec, 128)
    assert budget.bytes == int(0.9 * cuda.total) - cuda.used - beside
    assert budget.bytes_free == cuda.total - cuda.used - beside
    assert budget.others == 7 << 30
    assert model._ropes.popitem()[1].cos.shape[0] >= 128, "no step moves a table"
    eager = EngineSpec(max_batch_tokens=16, max_batch_size=4, enforce_eager=True)
    with torch.inference_mode():
        assert start_module._cuda_budget(eager, model).bytes > budget.bytes
        start_module._cuda_budget(spec, HashModel())
