"""A start's phases, and what the page cache holds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from inferd.bench import page_cache
from inferd.bench.startup import MARKS, Start, split, summary
from inferd.cli.terminal import STAGES

LINES = [
    (1.5, "12:00:00 info    inferd.state: deployments are kept"),
    (4.0, "12:00:01 info    inferd.serve: Loading weights: 1 MiB of 4 MiB"),
    (4.5, "12:00:01 info    inferd.serve: Loading weights: 4 MiB of 4 MiB"),
    (5.0, "12:00:02 info    inferd.serve: Warming up"),
    (7.0, "inferd is ready on http://127.0.0.1:1234"),
]


def test_phases_follow_what_the_daemon_says() -> None:
    phases = split(LINES, 1.0, 7.0, 7.25)
    assert phases == {
        "daemon": 0.5,
        "engine": 2.5,
        "weights": 1.0,
        "warm-up": 2.0,
        "first token": 0.25,
    }
    assert sum(phases.values()) == 6.25
    assert list(phases) == ["daemon", "engine", "weights", "warm-up", "first token"]


def test_a_phase_that_is_not_told_is_part_of_the_next() -> None:
    phases = split([LINES[0], LINES[3]], 1.0, 7.0, 7.25)
    assert phases == {"daemon": 0.5, "weights": 3.5, "warm-up": 2.0, "first token": 0.25}


def test_the_daemon_says_what_is_looked_for() -> None:
    assert list(MARKS.values()) == [STAGES["weights"], STAGES["warmup"]]


def test_several_starts() -> None:
    starts = [
        Start({"daemon": 1.0, "weights": 3.0}, 4.0, 4.5, None),
        Start({"daemon": 2.0}, 6.0, 6.5, 1.0),
    ]
    found = summary(starts)
    assert (found.ready_s.mean, found.first_token_s.mean) == (5.0, 5.5)
    assert {phase: each.count for phase, each in found.phases.items()} == {
        "daemon": 2,
        "weights": 1,
    }


@pytest.mark.skipif(sys.platform != "linux", reason="mincore and fadvise as on Linux")
def test_the_page_cache_is_told(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"x" * 300_000)
    assert page_cache.resident_fraction([file]) == 1.0
    page_cache.drop([file])  # some file systems live in memory and keep it
    assert page_cache.resident_fraction([file]) in (0.0, 1.0)
    assert page_cache.resident_fraction([]) is None
