"""Sizes by config and headers are those of the loaded model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from inferd.engines.base import EngineSpec
from inferd.engines.native.kv_spec import NUMBER_TYPES
from inferd.engines.native.parameters import read_config, read_headers
from inferd.engines.native.sizes import Shape, pick_dtype, read_shape
from inferd.engines.native.start import slot_bytes, start
from inferd.errors import StartError
from tests.engines.native import tiny, tiny_fallback

NAMED_AS_USUAL = ("stablelm", "olmo", "cohere", "starcoder2", "phi")


def shape_of(folder: Path, dtype: str = "auto", *, on_cpu: bool = True) -> Shape:
    return read_shape(read_config(folder), read_headers(folder), dtype=dtype, on_cpu=on_cpu)


@pytest.mark.parametrize("name", tiny.CASES)
def test_a_native_model_is_exactly_as_large_as_its_config_says(name: str, tmp_path: Path) -> None:
    folder = tiny.write_checkpoint(name, tmp_path)
    for dtype in ("float32", "bfloat16"):
        shape = shape_of(folder, dtype)
        spec = EngineSpec(model=str(folder), device="cpu", dtype=dtype, kv_cache_bytes=1 << 20)
        model, _ = start(spec, lambda progress: None)
        assert shape.runner == model.runner == "native"
        assert shape.architecture == model.architecture
        assert shape.weight_bytes == model.weight_bytes
        assert shape.kv_specs == model.kv_specs
        assert getattr(torch, shape.dtype.name) == model.dtype
        assert shape.max_position == model.max_position
        assert shape.vocab_size == model.vocab_size
        slots = spec.max_adapters * spec.max_adapter_rank
        assert shape.adapter_bytes * slots == slot_bytes(spec, model)


@pytest.mark.parametrize("name", NAMED_AS_USUAL)
def test_what_transformers_runs_is_nearly_as_large(name: str, tmp_path: Path) -> None:
    folder = tiny_fallback.write_checkpoint(name, tmp_path)
    shape = shape_of(folder)
    spec = EngineSpec(model=str(folder), device="cpu", kv_cache_bytes=1 << 20)
    model, _ = start(spec, lambda progress: None)
    assert shape.runner == model.runner == "transformers"
    assert shape.why_not_native
    assert shape.weight_bytes == pytest.approx(model.weight_bytes, rel=0.05)
    assert shape.kv_specs == model.kv_specs
    assert shape.max_position == model.max_position


def test_a_config_that_tells_nothing_of_its_cache(tmp_path: Path) -> None:
    folder = tiny_fallback.write_checkpoint("gpt2", tmp_path)
    config = {k: v for k, v in read_config(folder).items() if k != "n_head"}
    assert read_shape(config, {}, dtype="auto", on_cpu=True).kv_specs == ()


@pytest.mark.parametrize(
    ("asked", "stored", "widens", "served"),
    [
        ("auto", "bfloat16", True, "float32"),
        ("auto", "torch.bfloat16", False, "bfloat16"),
        ("auto", None, False, "float32"),
        ("float16", "bfloat16", True, "float16"),
    ],
)
def test_number_types(asked: str, stored: str | None, widens: bool, served: str) -> None:
    assert pick_dtype(asked, stored, widens=widens) == NUMBER_TYPES[served]


@pytest.mark.parametrize(("asked", "stored"), [("float8", None), ("auto", "float8_e4m3fn")])
def test_other_number_types_are_refused(asked: str, stored: str | None) -> None:
    with pytest.raises(StartError, match="float8"):
        pick_dtype(asked, stored, widens=False)


def test_number_types_are_torchs() -> None:
    for name, dtype in NUMBER_TYPES.items():
        assert getattr(torch, name).itemsize == dtype.itemsize


def test_torch_is_not_needed() -> None:
    code = """
import sys
from inferd import demo
from inferd.engines.base import EngineSpec
from inferd.estimate import estimate
assert estimate(EngineSpec(model=str(demo.path())), {"cpu": 2**33}).need.weights
assert not {"torch", "transformers"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True)
