"""`inferd plan`: what fits, by which code, or why not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from inferd.cli import main
from tests.engines.native import tiny, tiny_fallback

KV_PER_TOKEN = 3 * 2 * 3 * 10 * 4  # layers, keys and values, heads, width, bytes of float32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_checkpoint("llama", tmp_path_factory.mktemp("llama"))


def plan(folder: Path, *args: str, exit_code: int = 0) -> str:
    result = CliRunner().invoke(main, ["plan", str(folder), "--device", "cpu", *args])
    assert result.exit_code == exit_code, result.output
    return result.output


def test_says_what_fits(folder: Path) -> None:
    size = 40 * 16 * KV_PER_TOKEN
    output = plan(folder, "--kv-cache-bytes", str(size), "--max-batch-size", "9")
    assert re.search(r"architecture +LlamaForCausalLM", output)
    assert re.search(r"runner +native", output)
    assert re.search(r"weights .* served as float32", output)
    assert re.search(r"KV per token +720 B", output)
    assert re.search(r"640 tokens in 40 blocks of 16", output)
    assert re.search(r"max length +128 tokens\n", output)
    assert "5 sequences of that length, or up to 9 shorter ones" in output


def test_agrees_with_the_engine(folder: Path) -> None:
    from inferd.engines.base import EngineSpec
    from inferd.engines.native.plan import plan as engine_plan
    from inferd.engines.native.start import start

    spec = EngineSpec(model=str(folder), device="cpu", kv_cache_bytes=200_000, max_batch_size=4)
    planned = engine_plan(spec)
    model, config = start(spec, lambda progress: None)
    assert planned.refusal is None
    assert (planned.num_blocks, planned.max_model_len) == (config.num_blocks, config.max_model_len)
    assert planned.shape.kv_specs == model.kv_specs
    assert planned.shape.dtype == model.dtype
    assert planned.weight_bytes == pytest.approx(model.weight_bytes, rel=0.05)


def test_says_the_smallest_change_that_fits(folder: Path) -> None:
    size = 5 * 16 * KV_PER_TOKEN
    output = plan(folder, "--kv-cache-bytes", str(size), "--max-model-len", "128", exit_code=1)
    assert "Error: A sequence of 128 tokens needs" in output
    assert f"--kv-cache-bytes {8 * 16 * KV_PER_TOKEN}" in output
    assert "runner" in output


def test_names_the_fallback_and_why_it_is_needed(tmp_path: Path) -> None:
    output = plan(tiny_fallback.write_checkpoint("gpt-neox", tmp_path))
    assert re.search(r"runner +transformers\n +The architecture GPTNeoXForCausalLM", output)
    assert re.search(rf"KV per token +{3 * 2 * 60 * 4 / 1024:.1f} KiB", output)


def test_a_model_that_nothing_runs_is_refused_with_the_reason(tmp_path: Path) -> None:
    folder = tiny.write_checkpoint("llama", tmp_path)
    tiny.edit_config(folder, architectures=["NobodyForCausalLM"], model_type="nobody")
    output = plan(folder, exit_code=1)
    assert "Error: " in output
    assert "nobody" in output.lower()


def test_a_missing_model_is_said_plainly(tmp_path: Path) -> None:
    assert "Error: " in plan(tmp_path / "none" / "of" / "these", exit_code=1)
