"""Where --deterministic is refused, and what it says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from inferd.engines.base import EngineSpec, Progress
from inferd.engines.native.core import create
from inferd.engines.native.deterministic import prefer
from inferd.engines.native.promise import check_promise
from inferd.errors import StartError
from inferd.estimate import estimate
from inferd_kernels import gpu
from inferd_kernels.attention import ATTENTION
from inferd_kernels.dispatch import prefer_invariant
from inferd_kernels.linear import LINEAR
from inferd_kernels.lora import LORA
from inferd_kernels.rmsnorm import RMSNORM
from tests.engines.native import tiny, tiny_fallback

GIB = 1 << 30


@pytest.fixture(autouse=True)
def usual() -> Iterator[None]:
    yield
    prefer_invariant(False)


def ignore(_progress: Progress) -> None:
    pass


def spec(folder: Path, **changes: object) -> EngineSpec:
    options = {"model": str(folder), "device": "cpu", "deterministic": True, "max_batch_size": 4}
    return EngineSpec(**options | changes)  # type: ignore[arg-type]


def test_an_engine_tells_what_it_promised(tmp_path: Path) -> None:
    folder = tiny.write_checkpoint("llama", tmp_path)
    for asked in (True, False):
        core = create(spec(folder, deterministic=asked, kv_cache_bytes=1 << 20), ignore)
        assert core.info.deterministic is asked
        core.close()


def test_it_is_refused_without_the_compiled_kernels(tmp_path: Path) -> None:
    folder = tiny.write_checkpoint("llama", tmp_path)
    with pytest.raises(StartError, match=r"^--deterministic cannot be kept") as refused:
        create(spec(folder, cpu_kernels=False), ignore)
    assert refused.value.code == "unsupported"
    assert "inferd check" in refused.value.hint


def test_it_is_refused_for_transformers_code_before_anything_loads(tmp_path: Path) -> None:
    case = next(iter(tiny_fallback.CASES))
    folder = tiny_fallback.write_checkpoint(case, tmp_path)
    with pytest.raises(StartError, match="transformers' code runs the model"):
        create(spec(folder), ignore)
    with pytest.raises(StartError, match="transformers' code runs the model"):
        estimate(spec(folder), {"cpu": 8 * GIB})


def test_a_gpu_needs_our_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    check_promise(why_not_native="", on_cpu=False, kernels=False)
    monkeypatch.setattr(gpu, "present", lambda: False)
    with pytest.raises(StartError, match="no Triton") as refused:
        check_promise(why_not_native="", on_cpu=False, kernels=False)
    assert "Install triton" in refused.value.hint
    with pytest.raises(StartError, match=r"attention.*linear.*rmsnorm.* would depend on the batch"):
        prefer(True, "cuda")
    prefer(False, "cuda")


def test_a_gpu_is_given_kernels_that_keep_it() -> None:
    prefer(True, "cuda")
    assert ATTENTION.choice("cuda") == LINEAR.choice("cuda") == "gpu_invariant"
    assert LORA.choice("cuda") == RMSNORM.choice("cuda") == "gpu"
    prefer(False, "cuda")
    assert ATTENTION.choice("cuda") == LINEAR.choice("cuda") == "gpu"
