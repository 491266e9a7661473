"""Whether targets are met, of figures that are made up."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.gpu import counting
from benchmarks.gpu.judge import H200, Row, notes, rows
from benchmarks.gpu.shapes import FULL, LLAMA_8B

STEP_S = counting.decode_bytes(LLAMA_8B, 64, 1088) / H200.bytes_per_s
PREFILL_S = counting.prefill_operations(LLAMA_8B, 8192) / H200.flop_per_s


def decoded(batch: int, step_s: float) -> dict[str, Any]:
    rate = batch / step_s
    about = {"batch": batch, "context": 1088, "step_s": step_s, "tokens_per_s": rate}
    return about | {"served_tokens_per_s": 3000.0}


def judged(slower: float = 1.0, **changes: dict[str, Any]) -> dict[str, Row]:
    """All targets where each step takes `slower` times what its bytes would."""
    one = counting.decode_bytes(LLAMA_8B, 1, 1088) / H200.bytes_per_s
    usual = {
        "decode_1": decoded(1, one * slower),
        "decode_batch": decoded(64, STEP_S * slower),
        "prefill": {"seconds": PREFILL_S * slower},
    }
    figures: dict[str, Any] = {
        "llama": usual | {"adapters": decoded(64, STEP_S * slower * 1.08)},
        "deterministic": usual,
        "qwen": {"host": decoded(256, 2e-3) | {"host_share": 0.05}},
        "theirs": {"theirs": {"served_tokens_per_s": 900.0}},
    }
    return {row.name: row for row in rows(FULL, figures | changes, H200)}


def test_everything_can_be_met() -> None:
    assert all(row.met for row in judged(1.1).values())
    assert judged(1.1)["8B, decode, 1 sequence"].share == pytest.approx(1 / 1.1)


def test_what_takes_too_long_is_missed() -> None:
    found = judged(1.2)
    missed = [name for name, row in found.items() if row.met is False]
    assert missed == ["8B, decode, 1 sequence", "8B, decode, 64 sequences at 1024"]
    assert judged(1.6)["8B, prefill of 8192 tokens"].met is False


def test_modes_are_compared_with_the_usual_one() -> None:
    kept = {"decode_1": decoded(1, 1.0), "prefill": {"seconds": PREFILL_S * 1.14}}
    found = judged(deterministic=kept)
    assert found["8B, deterministic mode: decode, 1 sequence"].met is False
    assert found["8B, deterministic mode: decode, batch"].met is None
    assert found["8B, deterministic mode: prefill"].met is True
    assert found["8B, deterministic mode: prefill"].measured == "+14.0%"


def test_a_little_beyond_a_target_is_missed() -> None:
    usual = {"decode_batch": decoded(64, STEP_S), "prefill": {"seconds": PREFILL_S}}
    found = judged(
        llama=usual | {"adapters": decoded(64, STEP_S * 1.11)},
        deterministic={"decode_batch": decoded(64, STEP_S * 1.16)},
        qwen={"host": decoded(256, 2e-3) | {"host_share": 0.101}},
        theirs={"theirs": {"served_tokens_per_s": 1010.0}},
    )
    missed = {name for name, row in found.items() if row.met is False}
    assert missed == {
        "8B, 16 adapters of rank 16 in a batch of 64",
        "8B, deterministic mode: decode, batch",
        "0.6B, 256 sequences at 256: host's share of a step",
        "8B, 64 sequences, to transformers' continuous batching",
    }


def test_what_has_no_target_is_noted() -> None:
    linear = {"rows": 4, "bytes": 9, "cublas_us": 5.0, "invariant_us": 7.0, "skinny_us": 4.5}
    figures = {
        "llama": {"decode_1": {"step_s": 2.0}, "prefill": {"seconds": 1.0}},
        "eager": {"decode_1": {"step_s": 3.0}},
        "linears": {"linear_down_4": linear},
    }
    assert notes(figures) == [
        "decode, 1 sequence: graphs make a step 1.50 × as fast",
        "linear down 4 rows, microseconds: cublas 5.0, skinny 4.5, invariant 7.0",
    ]


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    found = rows(FULL, {}, H200)
    assert len(found) == 9
    assert {(row.measured, row.share, row.met) for row in found} == {(None, None, None)}
    assert all(row.counted and row.limit and row.target for row in found)
