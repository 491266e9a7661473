"""What a model will take, and what it then takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from inferd import demo
from inferd.engines.base import EngineSpec
from inferd.engines.gpus import Gpu
from inferd.engines.memory_use import process_bytes
from inferd.errors import StartError
from inferd.estimate import (
    CONTEXT_BYTES,
    GPU_HOST_BYTES,
    PROCESS_BYTES,
    budgets_of,
    estimate,
    pick_device,
)
from inferd.ledger import HOST
from inferd.measurements import Measured, Measurements
from inferd.messages import MemoryUse
from inferd.store import Store
from inferd_kernels.cpu.available import available
from tests.engines.native import tiny

GIB = 1 << 30
HOST_ONLY = {HOST: 8 * GIB}
KNOWN = Measured(160 << 20)
WITH_GPU = {HOST: 8 * GIB, "cuda:0": 40 * GIB}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_checkpoint("llama", tmp_path_factory.mktemp("llama"))


def demo_spec(**options: object) -> EngineSpec:
    return EngineSpec(model=str(demo.path()), **options)  # type: ignore[arg-type]


def test_the_engine_allocates_what_was_estimated() -> None:
    from inferd.engines.native.core import create

    planned = estimate(demo_spec(kv_cache_bytes=20_000_000, max_adapters=2), HOST_ONLY).fitting()
    core = create(planned.spec, lambda progress: None)
    try:
        assert core.info.memory.weights == planned.need.weights
        assert core.info.memory.kv_cache == planned.need.kv_cache <= 20_000_000
        assert core.info.num_blocks == planned.num_blocks
        assert core.info.max_model_len == planned.max_model_len
        assert core.info.dtype == planned.shape.dtype.name if planned.shape else False
    finally:
        core.close()


@pytest.mark.parametrize("options", [{}, {"max_model_len": 100}, {"kv_cache_bytes": 100_000}])
def test_what_is_chosen_by_default_is_allocated_too(folder: Path, options: dict[str, int]) -> None:
    from inferd.engines.native.start import start

    spec = EngineSpec(model=str(folder), device="cpu", max_batch_size=4, **options)  # type: ignore[arg-type]
    planned = estimate(spec, HOST_ONLY).fitting()
    _, config = start(planned.spec, lambda progress: None)
    assert (planned.num_blocks, planned.max_model_len) == (config.num_blocks, config.max_model_len)


def test_parts_of_the_demo() -> None:
    need = estimate(demo_spec(dtype="float32"), HOST_ONLY).need
    assert need.weights == 23_085_056
    assert estimate(demo_spec(dtype="bfloat16"), HOST_ONLY).need.weights == 11_550_720
    assert 500_000_000 < need.kv_cache <= 512 << 20
    assert need.adapters == 8 * 64 * 116_736
    assert need.process == PROCESS_BYTES
    assert need.host == 0


def test_what_was_measured_before_is_used() -> None:
    found = estimate(demo_spec(), HOST_ONLY, measured=Measured(process=5_000_000))
    assert found.need.process == 5_000_000
    assert found.measured


def test_a_gpu_takes_what_is_free_and_keeps_of_the_host() -> None:
    alone = estimate(demo_spec(), WITH_GPU, free=WITH_GPU)
    assert alone.device == alone.spec.device == "cuda:0"
    assert alone.need.process == CONTEXT_BYTES
    assert alone.need.host == GPU_HOST_BYTES + alone.need.adapters
    assert alone.concurrent == 64
    beside = estimate(demo_spec(), WITH_GPU, free={HOST: 8 * GIB, "cuda:0": 1 * GIB})
    assert beside.need.total <= 1 * GIB
    evicting = estimate(demo_spec(), WITH_GPU, free={HOST: 8 * GIB, "cuda:0": 0})
    assert evicting.need == alone.need


@pytest.mark.parametrize(
    ("options", "budget", "hint"),
    [
        ({}, 250 << 20, "--max-adapters 4"),
        ({"max_adapters": 0}, 212 << 20, "--max-batch-tokens 1024"),
        ({"max_adapters": 0, "max_batch_tokens": 256}, 180 << 20, "--dtype bfloat16"),
        ({"max_adapters": 0, "dtype": "bfloat16"}, 150 << 20, "--memory-budget 214MiB"),
        ({"kv_cache_bytes": GIB}, 700 << 20, "--kv-cache-bytes 448774144"),
        ({"kv_cache_bytes": 1 << 20, "max_model_len": 1024}, GIB, "--kv-cache-bytes 6291456"),
        ({"max_model_len": 8192}, 290 << 20, "--max-model-len 3056"),
    ],
)
def test_the_smallest_change_that_fits(options: dict[str, object], budget: int, hint: str) -> None:
    options = {"dtype": "float32", **options}
    refusal = estimate(demo_spec(device="cpu", **options), {HOST: budget}, measured=KNOWN).refusal
    assert refusal is not None
    assert refusal.code == "out_of_memory"
    assert refusal.hint == hint
    name, value = hint.removeprefix("--").replace("-", "_").split()
    if name == "memory_budget":
        changed, budget = options, int(value.removesuffix("MiB")) << 20
    else:
        changed = options | {name: int(value) if value.isdecimal() else value}
    assert (
        estimate(demo_spec(device="cpu", **changed), {HOST: budget}, measured=KNOWN).refusal is None
    )


@pytest.mark.skipif(not available(), reason="int8 needs the kernels")
def test_int8_where_nothing_milder_fits() -> None:
    small = {"dtype": "bfloat16", "max_adapters": 0, "max_batch_tokens": 64, "max_model_len": 64}

    def refusal(budget: int, **changes: object) -> StartError | None:
        spec = demo_spec(device="cpu", **small | changes)
        return estimate(spec, {HOST: budget}, measured=KNOWN).refusal

    told = refusal(100 << 20)
    assert told is not None
    budget = int(told.hint.removeprefix("--memory-budget ").removesuffix("MiB")) - 3 << 20
    told = refusal(budget)
    assert told is not None
    assert told.hint == "--quantization int8"
    assert refusal(budget, quantization="int8") is None


def test_an_option_out_of_range_is_told_as_such() -> None:
    with pytest.raises(StartError) as refused:
        estimate(demo_spec(device="cpu", max_model_len=9000), HOST_ONLY)
    assert (refused.value.code, refused.value.hint) == ("bad_option", "--max-model-len 8192")


def test_a_model_that_no_option_makes_fit() -> None:
    refusal = estimate(demo_spec(device="cuda:0"), {HOST: GIB, "cuda:0": 1 << 20}).refusal
    assert refusal is not None
    assert refusal.hint == "Choose a smaller model"


def test_fitting_raises_the_refusal() -> None:
    with pytest.raises(StartError, match="beside its KV cache"):
        estimate(demo_spec(), {HOST: 1 << 20}).fitting()


def test_a_cache_whose_tokens_are_unknown_has_a_size_nevertheless(tmp_path: Path) -> None:
    from tests.engines.native import tiny_fallback

    folder = tiny_fallback.write_checkpoint("gpt2", tmp_path)
    tiny.edit_config(folder, n_head=None, num_attention_heads=None)
    found = estimate(EngineSpec(model=str(folder), device="cpu"), HOST_ONLY)
    assert found.need.kv_cache == found.spec.kv_cache_bytes == 512 << 20
    assert found.num_blocks == 0
    assert found.need.adapters == 0


def test_an_engine_without_a_model() -> None:
    echo = EngineSpec(engine="echo", model="echo", device="cpu", kv_cache_bytes=1000)
    found = estimate(echo, HOST_ONLY)
    assert found.need.kv_cache == 1000
    assert found.shape is None
    assert estimate(echo, {HOST: 10}).refusal is not None


def test_budgets() -> None:
    gpus = [Gpu("cuda:0", "H200", 100, 70)]
    found = budgets_of(gpus, memory_budget=None, memory_fraction=0.5, available=lambda: 60)
    assert found == {"cpu": 30, "cuda:0": 50}
    found = budgets_of([], memory_budget=7, memory_fraction=0.5, available=lambda: 60)
    assert found == {"cpu": 7}


@pytest.mark.parametrize(
    ("name", "budgets", "device"),
    [
        ("auto", HOST_ONLY, "cpu"),
        ("auto", WITH_GPU, "cuda:0"),
        ("cuda", WITH_GPU, "cuda:0"),
        ("cpu", WITH_GPU, "cpu"),
    ],
)
def test_devices(name: str, budgets: dict[str, int], device: str) -> None:
    assert pick_device(name, budgets) == device


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(StartError, match="'cuda:1' is not one of this machine's: cpu, cuda:0"):
        pick_device("cuda:1", WITH_GPU)


@pytest.fixture
def measurements(tmp_path: Path) -> Iterator[Measurements]:
    store = Store(f"sqlite:///{tmp_path / 'state.db'}")
    try:
        yield Measurements(store.table("measured", Measured))
    finally:
        store.close()


def test_measurements_are_kept_per_model_and_options(measurements: Measurements) -> None:
    spec = demo_spec(device="cpu")
    assert measurements.recall(spec) is None
    measurements.note(spec, MemoryUse(process=0))  # the system did not tell
    assert measurements.recall(spec) is None
    measurements.note(spec, MemoryUse(process=170 << 20))
    assert measurements.recall(spec) == Measured(172 << 20)
    assert measurements.recall(demo_spec(device="cpu", kv_cache_bytes=1)) == Measured(172 << 20)
    assert measurements.recall(demo_spec(device="cuda:0")) is None


def test_own_memory_is_measured() -> None:
    before = process_bytes()
    block = bytearray(64 << 20)
    block[:: 1 << 12] = b"x" * len(block[:: 1 << 12])
    assert process_bytes() - before == pytest.approx(len(block), rel=0.1)


def test_where_the_system_does_not_tell(tmp_path: Path) -> None:
    assert process_bytes(proc=tmp_path) == 0
