"""`inferd plan`: what fits, by which code, or why not."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

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
    assert re.search(r"process +168.0 MiB until it is measured", output)
    assert re.search(r"in all +[\d.]+ MiB of cpu\n", output)
    assert "5 sequences of that length, or up to 9 shorter ones" in output


def test_says_the_smallest_change_that_fits(folder: Path) -> None:
    size = 5 * 16 * KV_PER_TOKEN
    output = plan(folder, "--kv-cache-bytes", str(size), "--max-model-len", "128", exit_code=1)
    assert "Error: A sequence of 128 tokens needs" in output
    assert f"--kv-cache-bytes {8 * 16 * KV_PER_TOKEN}" in output
    assert "runner" in output


def test_a_budget_that_is_too_small(folder: Path) -> None:
    output = plan(folder, "--memory-budget", "150MiB", exit_code=1)
    assert "Error: The model needs" in output
    assert re.search(r"--memory-budget 1\d\dMiB", output)


def test_adapters_by_their_number(folder: Path) -> None:
    few, many = (plan(folder, "--adapters", count) for count in ("1", "16"))
    each = 3 * (3 * 60 + 60 + 2 * 30 + 60 + 60 + 3 * (60 + 88)) * 4 * 64
    assert f"{each / 1024:.1f} KiB: 1 at once, of rank 64" in few
    assert f"{16 * each / 1024**2:.1f} MiB: 16 at once, of rank 64" in many
    assert "at once, of rank" not in plan(folder, "--adapters", "0")


def test_adapters_by_their_folders(folder: Path, tmp_path: Path) -> None:
    import numpy

    config = {"r": 4, "rank_pattern": {"o_proj": 12}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    save_file({"a": numpy.zeros((3, 100), "float16")}, tmp_path / "adapter_model.safetensors")
    output = plan(folder, "--adapters", str(tmp_path), "--adapters", str(tmp_path))
    assert re.search(r"adapters +2.3 KiB: 2 at once, of rank 12\n", output)
    assert f"{tmp_path}: rank 12, 1.2 KiB" in output


def test_names_the_fallback_and_why_it_is_needed(tmp_path: Path) -> None:
    output = plan(tiny_fallback.write_checkpoint("gpt-neox", tmp_path))
    assert re.search(r"runner +transformers\n +The architecture GPTNeoXForCausalLM", output)
    assert re.search(rf"KV per token +{3 * 2 * 60 * 4 / 1024:.1f} KiB", output)
    assert re.search(r"weights +about ", output)


def test_a_model_that_nothing_runs_is_refused_with_the_reason(tmp_path: Path) -> None:
    folder = tiny.write_checkpoint("llama", tmp_path)
    tiny.edit_config(folder, architectures=["NobodyForCausalLM"], model_type="nobody")
    output = plan(folder, exit_code=1)
    assert "Error: " in output
    assert "nobody" in output.lower()


def test_a_missing_model_is_said_plainly(tmp_path: Path) -> None:
    assert "Error: " in plan(tmp_path / "none" / "of" / "these", exit_code=1)
