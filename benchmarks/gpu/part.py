"""One part of the check, in a process of its own: python -m benchmarks.gpu.part NAME REPORT."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path

import torch

from benchmarks.gpu import ceilings, measures
from benchmarks.gpu.report import Report
from benchmarks.gpu.shapes import FULL, REHEARSAL, Sizes
from inferd.engines.native.deterministic import prefer
from inferd_kernels.dispatch import only

ROOT = Path(__file__).resolve().parents[2]


def tests(report: Report, sizes: Sizes, device: torch.device) -> None:
    """The kernels' own, on this device, and the engine's of small models."""
    folder = ROOT / "tests/kernels"
    files = sorted(map(str, folder.glob("test_*_gpu*.py")))
    engine = str(ROOT / "tests/engines/native/test_gpu_path.py")
    if sizes is REHEARSAL:
        files = [str(folder / "test_rmsnorm_gpu.py") + "::test_rows_at_a_distance"]
        engine += "::test_adapters_in_recorded_steps"
    many = (os.cpu_count() or 1) >= 8 and find_spec("xdist") is not None
    spread = ["-n", "8"] if device.type == "cuda" and many else []  # compiling takes cores
    # What is compiled for other GPUs has no use of this one.
    _pytest(report, "kernel tests", [*spread, *files, "-k", "not compiled"], device)
    # Other tests of engines share a conftest that needs what a daemon does.
    _pytest(report, "engine tests", ["--noconftest", engine], device)


def _pytest(report: Report, name: str, options: list[str], device: torch.device) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-W", "default", *options]
    # Where the driver's files have other names, the tests would take it for no GPU.
    environ = dict(os.environ) | {"TRITON_INTERPRET": "1" if device.type == "cpu" else "0"}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    print(done.stdout[-6000:], done.stderr[-2000:], flush=True)
    lines = done.stdout.strip().splitlines()
    report.figure(name, lines[-1].strip("= ") if lines else "nothing")
    if done.returncode:
        failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
        report.fail(name, "; ".join(failed[:8]) or f"pytest ended with {done.returncode}")


def peaks(report: Report, sizes: Sizes, device: torch.device) -> None:
    found = ceilings.measure(device, num_bytes=sizes.copy_bytes, side=sizes.matmul_side)
    report.figure("ceilings", found)


def checks(report: Report, sizes: Sizes, device: torch.device) -> None:
    from benchmarks.gpu import numbers  # imports transformers, which is slow

    numbers.compare(report, device, rehearsal=sizes is REHEARSAL)
    if device.type == "cuda":
        numbers.promises(report, device)


def llama(report: Report, sizes: Sizes, device: torch.device) -> None:
    model = measures.model_of(sizes.llama, sizes, device)
    measures.decoding(report, model, sizes)
    measures.prefill(report, model, sizes)
    measures.adapters(report, model, sizes)


def eager(report: Report, sizes: Sizes, device: torch.device) -> None:
    model = measures.model_of(sizes.llama, sizes, device)
    measures.decoding(report, model, sizes, eager=True)


def deterministic(report: Report, sizes: Sizes, device: torch.device) -> None:
    prefer(True, device.type)
    model = measures.model_of(sizes.llama, sizes, device)
    measures.decoding(report, model, sizes)
    measures.prefill(report, model, sizes)


def qwen(report: Report, sizes: Sizes, device: torch.device) -> None:
    model = measures.model_of(sizes.qwen, sizes, device)
    measures.host_share(report, model, sizes)


def theirs(report: Report, sizes: Sizes, device: torch.device) -> None:
    from benchmarks.gpu.theirs import measure  # transformers is slow to import

    measure(report, sizes, device)


def linears(report: Report, sizes: Sizes, device: torch.device) -> None:
    from benchmarks.gpu.linears import measure  # imports Triton

    measure(report, sizes, device)


def kernels(report: Report, sizes: Sizes, device: torch.device) -> None:
    """Every operation's cases beside torch's own."""
    from benchmarks.kernels.case import ON_GPU
    from benchmarks.kernels.case import REHEARSAL as TINY
    from benchmarks.kernels.on_gpu import NAMES, figures

    rehearsed = sizes is REHEARSAL
    found = ceilings.measure(device, num_bytes=sizes.copy_bytes, side=sizes.matmul_side)
    for name in ("rmsnorm",) if rehearsed else NAMES:
        with report.attempt(name):
            for _, case in figures(TINY if rehearsed else ON_GPU, found, (name,)):
                report.figure(f"{name}: {case['case']}", case)


Run = Callable[[Report, Sizes, torch.device], None]

PARTS: dict[str, Run] = {
    "tests": tests,
    "ceilings": peaks,
    "numbers": checks,
    "llama": llama,
    "theirs": theirs,
    "deterministic": deterministic,
    "eager": eager,
    "qwen": qwen,
    "linears": linears,
    "kernels": kernels,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.part", description=__doc__)
    parser.add_argument("name", choices=PARTS)
    parser.add_argument("report", type=Path)
    parser.add_argument("--rehearse", action="store_true")
    options = parser.parse_args()
    report = Report(options.report)
    device = torch.device("cpu" if options.rehearse else "cuda:0")
    sizes = REHEARSAL if options.rehearse else FULL
    with only("gpu") if options.rehearse else nullcontext():  # through Triton's interpreter
        PARTS[options.name](report, sizes, device)
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
