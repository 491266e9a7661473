"""How a KV cache is sized: what fits, what is reduced, what is refused and with which advice."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from inferd.engines.base import EngineSpec
from inferd.engines.memory_use import process_bytes
from inferd.engines.native import memory
from inferd.engines.native.batching import allocate_kv, touch
from inferd.engines.native.decoder import load_decoder
from inferd.engines.native.memory import Budget, KVPlan, plan_kv
from inferd.engines.native.model import KVSpec
from inferd.engines.native.report import MemoryGauge
from inferd.engines.native.start import graph_bytes, slot_bytes
from inferd.errors import StartError
from tests.engines.native import tiny
from tests.engines.native.hash_model import HashModel

LAYERS = (KVSpec(2, 8),) * 3
TOKEN = 3 * 2 * 16 * 4  # bytes: layers · heads · (key + value) · float32
GIB = 1 << 30


def plan(spec: EngineSpec, tokens: int, max_position: int = 1000) -> KVPlan:
    """The plan where the budget is `tokens` tokens' worth."""
    budget = Budget(tokens * TOKEN, tokens * TOKEN)
    return plan_kv(spec, LAYERS, torch.float32, max_position, budget)


def spec(**changes: object) -> EngineSpec:
    return EngineSpec(**{"max_batch_size": 4, "block_size": 16} | changes)  # type: ignore[arg-type]


def test_room_for_a_full_batch_is_all_that_is_taken() -> None:
    assert plan(spec(), 10**6) == KVPlan(4 * 63, 1000)


def test_less_room_means_fewer_blocks() -> None:
    assert plan(spec(), 2000) == KVPlan(125, 1000)
    assert plan(spec(), 1008) == KVPlan(63, 1000)


def test_a_context_nobody_asked_for_is_reduced() -> None:
    assert plan(spec(), 1007) == KVPlan(62, 992)
    assert plan(spec(), 128) == KVPlan(8, 128)


def test_a_context_that_was_asked_for_is_not() -> None:
    with pytest.raises(StartError) as caught:
        plan(spec(max_model_len=1000), 1007)
    error = caught.value
    assert (error.code, error.hint) == ("out_of_memory", "--max-model-len 992")
    assert (error.bytes_needed, error.bytes_free) == (1008 * TOKEN, 1007 * TOKEN)
    assert plan(spec(max_model_len=992), 1007) == KVPlan(62, 992)  # the hint helps


def test_no_context_is_reduced_to_nothing() -> None:
    with pytest.raises(StartError) as caught:
        plan(spec(), 127)
    assert caught.value.code == "out_of_memory"
    assert "smaller model" in caught.value.hint
    assert plan(spec(), 48, max_position=40) == KVPlan(3, 40)


def test_a_given_cache_size_that_is_too_small_is_the_hint() -> None:
    asked = spec(kv_cache_bytes=200 * TOKEN, max_model_len=300)
    with pytest.raises(StartError) as caught:
        plan_kv(asked, LAYERS, torch.float32, 1000, Budget(200 * TOKEN, 304 * TOKEN))
    assert caught.value.hint == f"--kv-cache-bytes {304 * TOKEN}"
    with pytest.raises(StartError) as caught:
        plan_kv(asked, LAYERS, torch.float32, 1000, Budget(200 * TOKEN, 303 * TOKEN))
    assert caught.value.hint == "--max-model-len 192"


def test_a_cache_that_is_small_by_our_choice_may_grow() -> None:
    """A tiny model whose longest context takes more than we would take unasked."""
    budget = memory.cpu_budget(spec(), 6 * GIB, weights=1)
    tokens = 2 * budget.bytes // TOKEN // 16 * 16
    asked = spec(max_model_len=tokens)
    with pytest.raises(StartError) as caught:
        plan_kv(asked, LAYERS, torch.float32, tokens, budget)
    assert caught.value.hint == f"--kv-cache-bytes {tokens * TOKEN}"
    given = memory.cpu_budget(spec(kv_cache_bytes=tokens * TOKEN), 6 * GIB, weights=1)
    assert plan_kv(asked, LAYERS, torch.float32, tokens, given).max_model_len == tokens


@pytest.mark.parametrize("length", [1, 1001])
def test_a_context_the_model_has_not(length: int) -> None:
    with pytest.raises(StartError) as caught:
        plan(spec(max_model_len=length), 10**6)
    assert (caught.value.code, caught.value.hint) == ("bad_option", "--max-model-len 1000")


def test_the_cpus_budget() -> None:
    assert memory.cpu_budget(spec(memory_fraction=0.5), 6 * GIB, GIB).bytes == 3 * GIB
    assert memory.cpu_budget(spec(), 100 * GIB, 8 * GIB).bytes == 4 * GIB
    assert memory.cpu_budget(spec(), 100 * GIB, GIB // 4).bytes == GIB
    assert memory.cpu_budget(spec(), 100 * GIB, 1).bytes == GIB // 2
    assert memory.cpu_budget(spec(kv_cache_bytes=9 * GIB), 100 * GIB, 1).bytes == 9 * GIB


def test_the_gpus_budget() -> None:
    """0.9 of 80 is 72; 30 are in use, a step takes 2 more."""
    got = memory.cuda_budget(spec(), 50 * GIB, 80 * GIB, 2 * GIB)
    assert got.bytes == 40 * GIB
    assert memory.cuda_budget(spec(), 5 * GIB, 80 * GIB, 2 * GIB).bytes == 0
    given = memory.cuda_budget(spec(kv_cache_bytes=GIB), 50 * GIB, 80 * GIB, 2 * GIB)
    assert given.bytes == GIB


def test_who_else_holds_the_gpu_is_told() -> None:
    budget = memory.cuda_budget(spec(), GIB, 80 * GIB, GIB, others=70 * GIB)
    with pytest.raises(StartError) as caught:
        plan_kv(spec(), LAYERS, torch.float32, 1000, budget)
    assert caught.value.hint == "Other processes hold 70.0 GiB of the GPU: end some of them"


def test_graphs_have_room_set_aside() -> None:
    """Of 1, 2, 4, 8 and 12 rows; of two lengths of context; with and without adapters."""
    assert graph_bytes(spec(max_batch_size=12), 4096) == 5 * 2 * 2 * memory.GRAPH_BYTES
    assert graph_bytes(spec(max_batch_size=1, max_adapters=0), 2048) == memory.GRAPH_BYTES


def test_more_than_is_free_is_refused() -> None:
    with pytest.raises(StartError) as caught:
        memory.cpu_budget(spec(kv_cache_bytes=9 * GIB), 8 * GIB, 1)
    assert (caught.value.code, caught.value.hint) == (
        "out_of_memory",
        f"--kv-cache-bytes {8 * GIB}",
    )


def write_files(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_available_memory_respects_a_cgroup(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:   16 kB\nMemAvailable:       8000 kB\n")
    assert memory.available_bytes(meminfo, tmp_path) == 8000 * 1024
    write_files(
        tmp_path, memory__max="5000000", memory__current="2000000", memory__stat="inactive_file 400"
    )
    assert memory.available_bytes(meminfo, tmp_path) == 3000400
    write_files(tmp_path, memory__max="max\n")
    assert memory.available_bytes(meminfo, tmp_path) == 8000 * 1024
    (tmp_path / "memory").mkdir()
    write_files(
        tmp_path / "memory",
        memory__limit_in_bytes="900",
        memory__usage_in_bytes="1000",
    )
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("900")
    (tmp_path / "memory" / "memory.usage_in_bytes").write_text("1000")
    assert memory.available_bytes(meminfo, tmp_path) == 0


def test_no_meminfo(tmp_path: Path) -> None:
    assert memory.available_bytes(tmp_path / "none", tmp_path) == 4 * GIB


def test_a_gpus_slots_are_set_aside(tmp_path: Path) -> None:
    """q, k, v, o and the MLP of three layers, at the largest rank, in each slot."""
    folder = tiny.write_checkpoint("llama", tmp_path)
    device = torch.device("cpu")
    model = load_decoder(folder, dtype=None, device=device, on_progress=lambda done, total: None)
    per_layer = 2 * (60 + 60) + 2 * (60 + 30) + 3 * (60 + 88)
    assert slot_bytes(spec(max_adapters=5, max_adapter_rank=16), model) == (
        5 * 16 * 3 * per_layer * 4
    )
    assert slot_bytes(spec(max_adapters=0), model) == 0
    assert slot_bytes(spec(), HashModel()) == 0


def test_what_is_not_told_apart_is_the_process() -> None:
    times = iter([0.0, 1.0, 2.0])
    gauge = MemoryGauge(torch.device("cpu"), clock=lambda: next(times))
    use = gauge.read(weights=1000, kv_cache=200, adapters=30, beside=False, fresh=True)
    assert use.measured > 10_000_000  # this process with torch
    assert use.weights + use.kv_cache + use.adapters + use.process == use.measured
    later = gauge.read(weights=1000, kv_cache=0, adapters=30, beside=False, fresh=False)
    assert later.measured == use.measured  # not measured again so soon
    asleep = gauge.read(weights=1000, kv_cache=0, adapters=30, beside=True, fresh=False)
    assert asleep.process == asleep.measured


def test_a_touched_cache_is_there() -> None:
    """The system has given its pages: they count as the process's."""
    before = process_bytes()
    cache = allocate_kv((KVSpec(4, 64),), 4096, 16, torch.float32, torch.device("cpu"))
    touch(cache)
    taken = process_bytes() - before
    assert taken >= 0.99 * sum(tensor.nbytes for pair in cache for tensor in pair)
