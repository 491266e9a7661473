"""Prints the table of logprob differences against transformers; exits 1 if one is too large.

    python -m benchmarks.verify_numbers [--device DEVICE] [--save] [CASE…]

`--save` writes the table to benchmarks/results/verify_numbers.json as well, of a GPU to
verify_numbers_cuda.json.

Every figure is the largest |Δ logprob| over prompt and output tokens, chosen and top 3, float32,
both on the same device. `greedy` says whether 32 greedy sequences come out the same alone and as
one batch.
Lines `bfloat16`: mean |Δ logprob| from float32 on the same weights, ours and transformers'.
Rows `+8 adapters`: 32 sequences over eight adapters and the bare model, against peft; `chunked` and
`preempted` have fewer slots than adapters.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import isnan
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from transformers.utils import logging

from benchmarks.record import save
from benchmarks.verify_numbers import narrow, subjects
from benchmarks.verify_numbers.trials import (
    TOLERANCE,
    TRIALS,
    Difference,
    Subject,
    greedy_is_the_same,
)
from inferd.engines.native.start import pick_device
from inferd.errors import StartError

CODE = ("kernels", "scheduler", "runtime/inferd/engines", "benchmarks/verify_numbers")
KINDS = (
    (subjects.NATIVE, subjects.native),
    (subjects.FALLBACK, subjects.fallback),
    (subjects.ADAPTED, subjects.adapted),
)


@dataclass(frozen=True, slots=True)
class Row:
    """What was found of one model."""

    case: str
    runner: str
    trials: dict[str, Difference]
    greedy_is_the_same: bool

    @property
    def good(self) -> bool:
        within = all(one.worst <= TOLERANCE for one in self.trials.values())
        return within and self.greedy_is_the_same

    def __str__(self) -> str:
        line = f"{self.case:30}{self.runner:14}"
        for one in self.trials.values():
            prompt = "-" if isnan(one.prompt) else f"{one.prompt:.0e}"
            mark = "" if one.worst <= TOLERANCE else " !"
            line += f"{prompt} {one.output:.0e}{mark}".rjust(18)
        return line + ("  same" if self.greedy_is_the_same else "  DIFFERS")

    def figures(self) -> dict[str, Any]:
        """For JSON, which has no NaN."""
        trials = {
            name: {"prompt": None if isnan(one.prompt) else one.prompt, "output": one.output}
            for name, one in self.trials.items()
        }
        return {
            "case": self.case,
            "runner": self.runner,
            "trials": trials,
            "greedy_is_the_same": self.greedy_is_the_same,
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("cases", nargs="*", metavar="CASE", help="these models alone")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/…json too")
    parser.add_argument("--device", type=present, default="cpu", help="cpu, cuda or cuda:N")
    options = parser.parse_args()
    names = {case for cases, _ in KINDS for case in cases} | set(narrow.CASES)
    if unknown := set(options.cases) - names:
        parser.error(f"there is no case {', '.join(sorted(unknown))}")
    silence: Any = logging
    silence.set_verbosity_error()
    silence.disable_progress_bar()
    torch.set_num_threads(1)
    print(f"largest |Δ logprob| (prompt, output) against transformers; allowed: {TOLERANCE:g}")
    print(f"{'model':30}{'runner':14}" + "".join(f"{name:>18}" for name in TRIALS) + "  greedy")
    rows = []
    for cases, build in KINDS:
        for case in cases:
            if not options.cases or case in options.cases:
                rows.append(measure(case, build, options.device))
                print(rows[-1], flush=True)
    chosen = [case for case in narrow.CASES if not options.cases or case in options.cases]
    distances = {case: measure_narrow(case, options.device) for case in chosen}
    good = all(row.good for row in rows) and all(one.good for one in distances.values())
    print("all within tolerance" if good else "FAILED: see the marked figures")
    if options.save:
        table = {"tolerance": TOLERANCE, "good": good, "rows": [row.figures() for row in rows]}
        table["bfloat16"] = {case: asdict(one) for case, one in distances.items()}
        name = "verify_numbers" + ("" if options.device.type == "cpu" else "_cuda")
        print("written to", save(name, table, CODE))
    return 0 if good else 1


def present(name: str) -> torch.device:
    """One that is here. Raises argparse.ArgumentTypeError."""
    try:
        return pick_device(name)
    except StartError as error:
        raise argparse.ArgumentTypeError(error.message) from None


def measure(
    case: str, build: Callable[[str, Path, torch.device], Subject], device: torch.device
) -> Row:
    """All trials of one model."""
    with tempfile.TemporaryDirectory() as folder:
        subject = build(case, Path(folder), device)
        trials = {name: trial(subject) for name, trial in TRIALS.items()}
        name = f"{case} +{len(subject.adapters)} adapters" if subject.adapters else case
        return Row(name, subject.model.runner, trials, greedy_is_the_same(subject))


def measure_narrow(case: str, device: torch.device) -> narrow.Distances:
    """A case in bfloat16."""
    with tempfile.TemporaryDirectory() as folder:
        found = narrow.distances(case, Path(folder), device)
    mark = "" if found.good else " !"
    print(f"{case:30}{'bfloat16':14}{found.ours:.1e} (transformers {found.theirs:.1e}){mark}")
    return found


if __name__ == "__main__":
    sys.exit(main())
