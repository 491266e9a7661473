"""Prints the table of logprob differences against transformers; exits 1 if one is too large.

    python -m benchmarks.verify_numbers [CASE…]

Every figure is the largest |Δ logprob| over prompt and output tokens, chosen and top 3, float32
on the CPU. `greedy` says whether 32 greedy sequences come out the same alone and as one batch.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from transformers.utils import logging

from benchmarks.verify_numbers import subjects
from benchmarks.verify_numbers.trials import TOLERANCE, TRIALS, Subject, greedy_is_the_same


def main(wanted: list[str]) -> int:
    silence: Any = logging
    silence.set_verbosity_error()
    silence.disable_progress_bar()
    torch.set_num_threads(1)
    print(f"largest |Δ logprob| (prompt, output) against transformers; allowed: {TOLERANCE:g}")
    print(f"{'model':24}{'runner':14}" + "".join(f"{name:>18}" for name in TRIALS) + "  greedy")
    good = True
    for case in subjects.NATIVE:
        if not wanted or case in wanted:
            good &= row(case, subjects.native)
    for case in subjects.FALLBACK:
        if not wanted or case in wanted:
            good &= row(case, subjects.fallback)
    print("all within tolerance" if good else "FAILED: see the marked figures")
    return 0 if good else 1


def row(case: str, build: Callable[[str, Path], Subject]) -> bool:
    """Run all trials of one model and print its line; whether all is well."""
    with tempfile.TemporaryDirectory() as folder:
        subject = build(case, Path(folder))
    good, line = True, f"{case:24}{subject.model.runner:14}"
    for trial in TRIALS.values():
        difference = trial(subject)
        within = difference.worst <= TOLERANCE
        good &= within
        prompt = "-" if difference.prompt != difference.prompt else f"{difference.prompt:.0e}"
        mark = "" if within else " !"
        line += f"{prompt} {difference.output:.0e}{mark}".rjust(18)
    same = greedy_is_the_same(subject)
    print(line + ("  same" if same else "  DIFFERS"), flush=True)
    return good and same


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
