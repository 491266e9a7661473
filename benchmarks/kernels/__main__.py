"""Measure operations: `python -m benchmarks.kernels [OPERATION…]`; all that have cases by default.

An operation's tests, as they are committed, run first; where one fails there are no figures. Each
operation's go to benchmarks/results/kernels/NAME.json.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from benchmarks.kernels import ceilings
from benchmarks.kernels.measure import measure
from benchmarks.record import save
from inferd_kernels.cpu.isa import choose
from inferd_kernels.cpu.library import library

CASES = Path(__file__).parent / "cases"
ROOT = Path(__file__).parents[2]


def main(names: Sequence[str]) -> int:
    known = sorted(file.stem for file in CASES.glob("[!_]*.py"))
    if unknown := set(names) - set(known):
        print(f"no cases of {', '.join(sorted(unknown))}; there are {', '.join(known)}")
        return 2
    if library() is None:
        return 2
    modules = {name: _module(name) for name in names or known}
    red = {name for name, module in modules.items() if not _green(module.TESTS)}
    peaks = ceilings.measure()
    print("ceilings: " + ", ".join(f"{name} {rate:.1f}" for name, rate in peaks.items()))
    for name, module in modules.items():
        if name in red:
            print(f"\n{name}: its tests fail or were changed; no figures")
            continue
        print(f"\n{name}")
        figures = [_shown(measure(case, peaks)) for case in module.cases()]
        save(f"kernels/{name}", _record(figures, peaks), ["kernels"])
    return 1 if red else 0


def _module(name: str) -> ModuleType:
    return import_module(f"benchmarks.kernels.cases.{name}")


def _green(tests: Iterable[str]) -> bool:
    """Whether these files are as committed, and all of it passes."""
    changed = subprocess.run(
        ["git", "status", "--porcelain", "--", *tests, "tests/kernels/conftest.py"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    if changed.stdout:
        return False
    return subprocess.run([sys.executable, "-m", "pytest", "-q", *tests], cwd=ROOT).returncode == 0


def _shown(figures: dict[str, Any]) -> dict[str, Any]:
    shown = (f"{key} {value}" for key, value in figures.items() if key != "case")
    print(f"  {figures['case']:32} {', '.join(shown)}", flush=True)
    return figures


def _record(figures: list[dict[str, Any]], peaks: dict[str, float]) -> dict[str, Any]:
    isa = choose()
    return {
        "isa": isa.name if isa else None,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "ceilings": {name: round(rate, 1) for name, rate in peaks.items()},
        "cases": figures,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
