"""Checks of numbers that need no GPU to run: here on the CPU's kernels."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.gpu import numbers
from benchmarks.verify_numbers import subjects
from tests.engines.native import tiny

CPU = torch.device("cpu")


def test_promises_are_found_kept(tmp_path: Path) -> None:
    tiny.write_checkpoint("llama", tmp_path)
    model = subjects.load(tmp_path, torch.float32, CPU, numbers.LIMIT)
    assert numbers.broken(model) == {}


def test_a_broken_promise_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.write_checkpoint("llama", tmp_path)
    model = subjects.load(tmp_path, torch.float32, CPU, numbers.LIMIT)
    usual = model.logits
    monkeypatch.setattr(
        model, "logits", lambda hidden, segments=None: usual(hidden, segments) + 1e-3 * len(hidden)
    )
    assert "neighbours" in numbers.broken(model)


def test_graphs_and_adapters(tmp_path: Path) -> None:
    subject = subjects.adapted("llama", tmp_path, CPU)
    assert numbers.broken_by_adapters(subject) == []
    assert numbers.graphs(subject).worst < 1e-4
