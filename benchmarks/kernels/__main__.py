"""Measure operations: `python -m benchmarks.kernels [--device cuda] [OPERATION…]`; all by default.

An operation's tests, as they are committed, run first; where one fails there are no figures. Each
operation's go to benchmarks/results/kernels/NAME.json, a GPU's to kernels/cuda/NAME.json.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from benchmarks.gpu import ceilings as gpu_ceilings
from benchmarks.gpu.shapes import FULL
from benchmarks.kernels import ceilings, on_gpu
from benchmarks.kernels.case import ON_CPU, ON_GPU
from benchmarks.kernels.measure import measure
from benchmarks.record import save
from inferd_kernels import gpu
from inferd_kernels.cpu.isa import choose
from inferd_kernels.cpu.library import library

CASES = Path(__file__).parent / "cases"
ROOT = Path(__file__).parents[2]


def main() -> int:
    known = sorted(file.stem for file in CASES.glob("[!_]*.py"))
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="OPERATION", help=f"of {', '.join(known)}")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    if unknown := set(options.names) - set(known):
        parser.error(f"no cases of {', '.join(sorted(unknown))}")
    modules = {name: _module(name) for name in options.names or known}
    if options.device == "cuda":
        return _on_gpu({name: module for name, module in modules.items() if module.GPU_TESTS})
    return 2 if library() is None else _on_cpu(modules)


def _on_cpu(modules: dict[str, ModuleType]) -> int:
    green = [name for name, module in modules.items() if _green(name, module.TESTS)]
    peaks = ceilings.measure()
    print("ceilings: " + ", ".join(f"{name} {rate:.1f}" for name, rate in peaks.items()))
    for name in green:
        print(f"\n{name}")
        figures = [_shown(measure(case, peaks)) for case in modules[name].cases(ON_CPU)]
        isa = choose()
        facts = {"isa": isa.name if isa else None, "threads": torch.get_num_threads()}
        save(f"kernels/{name}", _record(figures, peaks, facts), ["kernels"])
    return 0 if len(green) == len(modules) else 1


def _on_gpu(modules: dict[str, ModuleType]) -> int:
    if not torch.cuda.is_available():
        print("torch sees no GPU", file=sys.stderr)
        return 2
    green = [name for name, module in modules.items() if _green(name, module.GPU_TESTS)]
    sizes = {"num_bytes": FULL.copy_bytes, "side": FULL.matmul_side}
    peaks = gpu_ceilings.measure(ON_GPU.device, **sizes)
    print("ceilings: " + ", ".join(f"{name} {rate:.3g}" for name, rate in peaks.items()))
    facts = {"device": torch.cuda.get_device_name(), "kernels": gpu.description()}
    for name in green:
        print(f"\n{name}")
        figures = [_shown(found) for _, found in on_gpu.figures(ON_GPU, peaks, [name])]
        save(f"kernels/cuda/{name}", _record(figures, peaks, facts), ["kernels"])
    return 0 if len(green) == len(modules) else 1


def _module(name: str) -> ModuleType:
    return import_module(f"benchmarks.kernels.cases.{name}")


def _green(name: str, tests: Iterable[str]) -> bool:
    """Whether these files are as committed, and all of it passes."""
    changed = subprocess.run(
        ["git", "status", "--porcelain", "--", *tests, "tests/kernels/conftest.py"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    command = [sys.executable, "-m", "pytest", "-q", *tests]
    if not changed.stdout and subprocess.run(command, cwd=ROOT).returncode == 0:
        return True
    print(f"\n{name}: its tests fail or were changed; no figures")
    return False


def _shown(figures: dict[str, Any]) -> dict[str, Any]:
    shown = (f"{key} {value}" for key, value in figures.items() if key != "case")
    print(f"  {figures['case']:32} {', '.join(shown)}", flush=True)
    return figures


def _record(
    figures: list[dict[str, Any]], peaks: dict[str, float], facts: dict[str, Any]
) -> dict[str, Any]:
    return {
        **facts,
        "torch": torch.__version__,
        "ceilings": {name: round(rate, 1) for name, rate in peaks.items()},
        "cases": figures,
    }


if __name__ == "__main__":
    sys.exit(main())
