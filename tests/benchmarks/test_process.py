"""Runners in processes of their own: asked, stopped between questions, and ended."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.peers.measures import MEASURES
from benchmarks.peers.process import Runner, RunnerFailed

COMMAND = [sys.executable, "-m", "tests.benchmarks.counting"]


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    runner = Runner([*COMMAND, "one"], {}, tmp_path / "log")
    yield runner
    runner.close()


def state(pid: int) -> str:
    """One letter: see proc(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_it_is_ready_with_its_first_token_and_prints_elsewhere(
    runner: Runner, tmp_path: Path
) -> None:
    assert runner.ready["settings"] == {"arguments": ["one"]}
    assert 0 < runner.ready["first_token_s"] < runner.started_s
    assert (tmp_path / "log").read_text() == "what a library prints\n"


def test_it_measures_what_it_is_asked(runner: Runner) -> None:
    assert runner.ask(MEASURES[1].command(seconds=5.0, seed=1)) == {"tokens": 40, "seconds": 5.0}
    reply = runner.ask(MEASURES[4].command(seconds=0.0, seed=1))
    assert reply["tokens"] == 1024
    assert runner.ask({"do": "score", "sequences": [[1, 2, 3]]}) == {"logprobs": [[-2.0, -3.0]]}


def test_it_is_stopped_while_others_are_measured(runner: Runner) -> None:
    assert state(runner.pid) == "T"
    runner.ask({"do": "score", "sequences": []})
    assert state(runner.pid) == "T"
    assert runner.memory() > 1_000_000


def test_one_that_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(RunnerFailed, match="it cannot"):
        Runner([*COMMAND, "fail"], {}, tmp_path / "log")


def test_one_that_has_ended_cannot_be_asked(runner: Runner) -> None:
    runner.close()
    with pytest.raises(RunnerFailed):
        runner.ask({"do": "score", "sequences": []})
