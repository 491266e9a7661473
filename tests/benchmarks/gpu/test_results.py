"""What a check on a GPU leaves behind, without the GPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import benchmarks.gpu.__main__ as check
from benchmarks import record
from benchmarks.gpu.running import Outcome
from benchmarks.table.gpu import gpu_table

DECODED = {"batch": 1, "context": 1088, "step_s": 4e-3, "tokens_per_s": 250.0}
OUTCOMES = {
    "ceilings": Outcome("ok", 3.0, {"ceilings": {"bytes_per_s": 4e12, "flop_per_s": 7e14}}),
    "llama": Outcome("ok", 60.0, {"decode_1": DECODED}),
    "numbers": Outcome("failed", 30.0, {}, {"llama": "ArithmeticError: far"}),
}


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where they go; $OUT lies below."""
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    monkeypatch.setattr(check, "_gpu", lambda: {"name": "A GPU", "cuda": "13.0"})
    monkeypatch.setenv("OUT", str(tmp_path / "out"))
    (tmp_path / "out").mkdir()
    return tmp_path


def test_figures_are_kept_with_what_they_belong_to(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INFERD_COMMIT", "abc123")
    monkeypatch.setenv("GIT_DIR", str(results))  # as where there is no repository
    assert check._tell(OUTCOMES, rehearse=False, whole=True) == 1
    found = json.loads((results / "gpu.json").read_text())
    assert found == json.loads((results / "out" / "gpu.json").read_text())
    assert found["commit"] == "abc123"
    assert found["parts"]["llama"] == {"status": "ok", "seconds": 60.0}
    assert found["versions"].keys() == {"torch", "triton", "transformers", "numpy"}
    share = 15_151_000_000 / 4e12 / 4e-3
    assert found["targets"][0]["share"] == pytest.approx(share, rel=1e-3)
    table = gpu_table(found)
    assert "one A GPU (CUDA 13.0" in table
    assert "| 250 tokens/s (95%) | met |" in table
    assert table.endswith("- numbers, llama: failed: ArithmeticError: far")
    assert "ArithmeticError: far" in capsys.readouterr().out.splitlines()[-1]


def test_some_parts_alone_are_no_result(results: Path) -> None:
    alone = {"llama": OUTCOMES["llama"]}
    assert check._tell(alone, rehearse=False, whole=False) == 0
    assert not (results / "gpu.json").exists()
    assert (results / "out" / "gpu.json").exists()


def test_a_rehearsal_is_no_result(results: Path) -> None:
    assert check._tell(OUTCOMES, rehearse=True, whole=True) == 1
    assert sorted(results.rglob("*.json")) == []
