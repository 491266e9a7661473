"""Starting a native engine from a folder: choices, sizes and structured failures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks.verify_numbers.drive import drive
from inferd.engines.base import EngineSpec, Progress
from inferd.engines.native import memory, start
from inferd.engines.native.core import NativeCore, create
from inferd.engines.native.fallback import load_fallback
from inferd.errors import StartError
from inferd.messages import Sampling, Submit
from inferd_kernels.cpu.library import library
from inferd_kernels.cpu.library import set_threads as library_threads
from inferd_scheduler import SchedulerConfig
from tests.engines.native import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_checkpoint("qwen3", tmp_path_factory.mktemp("qwen3"))


def spec(folder: Path, **changes: object) -> EngineSpec:
    return EngineSpec(**{"model": str(folder), "device": "cpu"} | changes)  # type: ignore[arg-type]


def ignore(_progress: Progress) -> None:
    pass


@pytest.fixture
def usual_threads() -> Iterator[int]:
    """torch's, of more than one; the kernels' are these too afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    start._usual_threads.cache_clear()
    yield 3
    torch.set_num_threads(before)
    start._usual_threads.cache_clear()
    loaded = library()
    assert loaded is not None, "the tests need a C++ compiler"
    library_threads(loaded, before)


def test_the_kernels_have_the_threads_that_torch_had(
    usual_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second engine of the process too, whatever the first one was told."""
    given: list[int] = []
    monkeypatch.setattr(start, "library_threads", lambda loaded, count: given.append(count))
    for count in (2, None, None):
        start.set_threads(count, kernels=True)
        assert torch.get_num_threads() == 1
    assert given == [2, usual_threads, usual_threads]
    start.set_threads(None, kernels=False)
    assert torch.get_num_threads() == usual_threads
    start.set_threads(2, kernels=False)
    assert torch.get_num_threads() == 2


def test_an_engine_that_chooses_everything(folder: Path) -> None:
    progress: list[Progress] = []
    core = create(spec(folder), progress.append)
    info = core.info
    assert (info.runner, info.architecture) == ("native", "Qwen3ForCausalLM")
    assert (info.dtype, info.device) == ("float32", "cpu")
    assert (info.max_model_len, info.num_blocks) == (128, 64 * 128 // 16)
    assert info.kv_cache_bytes == info.num_blocks * 16 * 3 * 3 * 16 * 2 * 4
    assert info.load_s > 0
    stages = [one.stage for one in progress]
    assert stages == ["weights"] * (len(stages) - 2) + ["warmup"] * 2
    weights = [one for one in progress if one.stage == "weights"]
    assert weights[-1].done == weights[-1].total == memory.weight_bytes(folder, None)
    got = drive(core, [Submit("a", (1, 2, 3), 4, Sampling(temperature=0.0))])
    assert len(got["a"].tokens) == 4


def test_options_reach_the_engine(folder: Path) -> None:
    options = {"max_model_len": 50, "block_size": 8, "max_batch_size": 3, "dtype": "bfloat16"}
    info = create(spec(folder, kv_cache_bytes=10 * 8 * 3 * 3 * 16 * 2 * 2, **options), ignore).info
    assert (info.max_model_len, info.block_size, info.max_batch_size) == (50, 8, 3)
    assert (info.num_blocks, info.dtype) == (10, "bfloat16")


@pytest.mark.parametrize(
    ("changes", "code", "word"),
    [
        ({"model": "/nowhere"}, "not_found", "config.json"),
        ({"dtype": "float8"}, "bad_option", "float8"),
        ({"device": "quantum"}, "bad_option", "quantum"),
        ({"device": "mps"}, "bad_option", "mps"),
        ({"device": "cuda:99"}, "bad_option", "cuda:99"),
        ({"max_model_len": 129}, "bad_option", "128"),
        ({"max_batch_tokens": 8}, "bad_option", "max_batch_tokens"),
        ({"block_size": 0}, "bad_option", "block_size"),
        ({"kv_cache_bytes": 1 << 60}, "out_of_memory", "kv_cache_bytes"),
        ({"kv_cache_bytes": 1000, "max_model_len": 128}, "out_of_memory", "KV cache"),
    ],
)
def test_failures_say_what_and_why(
    folder: Path, changes: dict[str, object], code: str, word: str
) -> None:
    with pytest.raises(StartError) as caught:
        create(spec(folder, **changes), ignore)
    assert caught.value.code == code
    assert word in caught.value.message


def test_a_context_beyond_the_models_is_refused_before_the_weights_load(folder: Path) -> None:
    seen: list[Progress] = []
    with pytest.raises(StartError) as caught:
        create(spec(folder, max_model_len=129), seen.append)
    assert (caught.value.code, caught.value.hint) == ("bad_option", "--max-model-len 128")
    assert seen == []


def test_too_few_batch_tokens_are_refused_with_what_would_do(folder: Path) -> None:
    with pytest.raises(StartError) as caught:
        create(spec(folder, max_batch_size=4096), ignore)
    assert (caught.value.code, caught.value.hint) == ("bad_option", "--max-batch-tokens 4096")


def test_weights_that_do_not_fit_are_refused_with_advice(folder: Path) -> None:
    whole = memory.weight_bytes(folder, None)
    with pytest.raises(StartError) as caught:
        memory.check_weights(folder, None, whole - 1)
    error = caught.value
    assert (error.code, error.hint) == ("out_of_memory", "--dtype bfloat16")
    assert (error.bytes_needed, error.bytes_free) == (whole, whole - 1)
    memory.check_weights(folder, torch.bfloat16, whole - 1)


def test_weights_of_nan_are_noticed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"].fill_(torch.nan)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StartError) as caught:
        create(spec(tmp_path), ignore)
    assert caught.value.code == "bad_weights"


def test_the_fallback_can_run_what_the_decoder_runs(folder: Path) -> None:
    """The same requests, the same greedy tokens."""
    config = SchedulerConfig(
        max_batch_size=4, max_batch_tokens=16, num_blocks=50, block_size=4, max_model_len=64
    )
    native = create(spec(folder), ignore)
    model = load_fallback(folder, dtype=None, device=torch.device("cpu"), on_progress=ignore)
    other = NativeCore(model, config)
    asked = [
        Submit(str(n), tuple(range(1, 3 + 9 * n)), 8, Sampling(temperature=0.0)) for n in range(4)
    ]
    tokens = [
        {name: got.tokens for name, got in drive(core, asked).items()} for core in (native, other)
    ]
    assert tokens[0] == tokens[1]
