"""What counts as computing the same model."""

from __future__ import annotations

import math

import pytest

from benchmarks.peers.guard import Error, error, verdicts

WEIGHTS = {"ours": "bf16", "ours_fp32": "fp32", "ours_int8": "int8", "tf": "bf16", "llama": "bf16"}
GOOD: dict[str, Error] = {
    "ours_fp32": {"rms": 1e-6, "max": 9e-5},
    "ours": {"rms": 0.01, "max": 0.05},
    "ours_decode": {"rms": 0.0, "max": 0.0},
    "ours_int8": {"rms": 0.1, "max": 0.4},
    "tf": {"rms": 0.02, "max": 0.03},
    "llama": {"rms": 0.03, "max": 0.1},
}


def test_the_last_scores_of_each_sequence_are_compared() -> None:
    found = error([[-1.0, -2.0], [-5.0]], [[-9.0, -1.0, -2.5], [-5.0]])
    assert found["max"] == 0.5
    assert found["rms"] == pytest.approx(math.sqrt(0.25 / 3))


def test_what_is_within_the_bounds_passes() -> None:
    assert verdicts(GOOD, WEIGHTS, "tf") == {}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("ours_fp32", Error(rms=1e-5, max=1.1e-4)),
        ("ours", Error(rms=0.021, max=0.03)),
        ("ours_decode", Error(rms=0.021, max=0.03)),
        ("ours_int8", Error(rms=1.0, max=2.0)),
        ("llama", Error(rms=1.5, max=3.0)),
        ("llama", Error(rms=math.nan, max=math.nan)),
    ],
)
def test_what_is_beyond_them_is_named(name: str, found: Error) -> None:
    assert verdicts({**GOOD, name: found}, WEIGHTS, "tf").keys() == {name}
