"""The benchmark of the front runs, and measures what it says."""

from __future__ import annotations

import argparse
import os
import time

from benchmarks.front.__main__ import run
from inferd.bench.daemon import cpu_seconds


def test_processor_time_of_a_process() -> None:
    before, ours = cpu_seconds(os.getpid()), time.process_time()
    sum(range(100_000))
    assert cpu_seconds(os.getpid()) - before > 0
    assert before <= ours


def test_a_round_of_every_subject() -> None:
    asked = argparse.Namespace(streams=2, tokens=8, rounds=1, delay=0.001, api="all")
    said: list[str] = []
    found = run(asked, said.append)
    assert list(found) == ["bare", "completions", "chat"]
    assert len(said) == 3
    for figures in found.values():
        assert figures["tokens_per_cpu_s"] > 0
        assert figures["events_per_cpu_s"] <= figures["tokens_per_cpu_s"]
    assert found["bare"]["times_bare"] == 1.0
