"""Checks and measures the GPU path: see scripts/gpu_check. Itself needs nothing but Python."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import Any

from benchmarks.gpu.judge import H200, Ceilings, notes, rows
from benchmarks.gpu.running import (
    BUDGET_S,
    LEAST_S,
    LIMITS_S,
    REHEARSAL_S,
    ROOT,
    Outcome,
    run,
)
from benchmarks.gpu.shapes import FULL, REHEARSAL
from benchmarks.gpu.wheels import Missing, fetch, install

CODE = ("kernels", "scheduler", "runtime/inferd/engines", "benchmarks/gpu")
PACKAGES = ("torch", "triton", "transformers", "numpy")
NO_GPU = 2  # exit status


def main() -> int:
    options = _options()
    if options.fetch_wheels:
        return fetch(options.wheels)
    if not options.rehearse and not _has_gpu():
        print(f"{sys.executable} sees no GPU: nothing was checked or measured.", file=sys.stderr)
        return NO_GPU
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        try:
            environ = _environment(options.wheels, folder, rehearse=options.rehearse)
        except Missing as error:
            print(error, file=sys.stderr)
            return NO_GPU
        outcomes = _run_all(options.parts or list(LIMITS_S), folder, environ, options.rehearse)
    return _tell(outcomes, rehearse=options.rehearse, whole=not options.parts)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/gpu_check", description=__doc__)
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of {', '.join(LIMITS_S)}; or all"
    )
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes, on the CPU")
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="default: wheels")
    parser.add_argument("--fetch-wheels", action="store_true", help="fill that folder")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(LIMITS_S):
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    if options.wheels is None:
        options.wheels = ROOT / "wheels"
    elif not (options.fetch_wheels or options.wheels.is_dir()):
        parser.error(f"argument --wheels: there is no folder {options.wheels}")
    return options


def _has_gpu() -> bool:
    if find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()


def _environment(wheels: Path, folder: Path, *, rehearse: bool) -> dict[str, str]:
    """Of the parts' processes. Raises Missing."""
    paths = [str(ROOT / name) for name in ("runtime", "scheduler", "kernels", "proto", ".")]
    if install(wheels, folder / "site"):
        paths.insert(0, str(folder / "site"))
    paths += [path for path in (os.environ.get("PYTHONPATH"),) if path]
    environ = dict(os.environ) | {"PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1"}
    environ |= {"PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false"}
    if rehearse:
        environ |= {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
        environ["INFERD_CPU_KERNELS"] = "0"  # the GPU's weights lie as they come
    return environ


def _run_all(
    parts: list[str], folder: Path, environ: dict[str, str], rehearse: bool
) -> dict[str, Outcome]:
    """One after the other; where nothing is timed, two at once."""
    began = monotonic()

    def one(name: str) -> Outcome:
        left = BUDGET_S - (monotonic() - began)
        limit = REHEARSAL_S if rehearse else min(LIMITS_S[name], left)
        if limit < LEAST_S:
            return Outcome("skipped", failures={"time": "none was left"})
        print(f"{name}, at most {limit:.0f} s", flush=True)
        return run(name, folder, environ, limit, rehearse=rehearse)

    with ThreadPoolExecutor(2 if rehearse else 1) as pool:
        return dict(zip(parts, pool.map(one, parts), strict=True))


def _tell(outcomes: dict[str, Outcome], *, rehearse: bool, whole: bool) -> int:
    """Print the table; write the results unless this was a rehearsal, or not the whole."""
    figures = {name: outcome.figures for name, outcome in outcomes.items()}
    found = figures.get("ceilings", {}).get("ceilings")
    judged = rows(REHEARSAL if rehearse else FULL, figures, Ceilings(**found) if found else H200)
    if not rehearse:
        record = {"versions": _versions(), "gpu": _gpu(), "ceilings": found}
        record |= {"targets": [row.figures() for row in judged], "notes": notes(figures)}
        _write(record | _parts(outcomes), whole=whole)
    print()
    for row in judged:
        mark = {True: "met", False: "MISSED", None: "not measured"}[row.met]
        mark = "rehearsed" if rehearse else mark
        share = "" if row.share is None else f"{row.share:.3f}"
        print(f"{row.name:62} {row.measured or '-':>18} {share:>7}  {row.target:26} {mark}")
    print(*notes(figures), sep="\n")
    for name, each in outcomes.items():
        why = "; ".join(each.failures.values())[:150]
        print(f"{name:14} {each.status:8} {each.seconds:6.1f} s  {why}")
    return 1 if any(each.status != "ok" for each in outcomes.values()) else 0


def _parts(outcomes: dict[str, Outcome]) -> dict[str, Any]:
    """What became of each, and all that it found."""
    return {
        "parts": {
            name: {"status": each.status, "seconds": round(each.seconds, 1)}
            for name, each in outcomes.items()
        },
        "failures": {name: each.failures for name, each in outcomes.items() if each.failures},
        "figures": {name: each.figures for name, each in outcomes.items()},
    }


def _write(record: dict[str, Any], *, whole: bool) -> None:
    """To benchmarks/results/gpu.json if nothing was left out; to $OUT always, where it is set."""
    if whole:
        sys.path[:0] = [str(ROOT / "runtime")]
        from benchmarks.record import save

        path = save("gpu", record, CODE)
        print(f"written to {path}")
        if out := os.environ.get("OUT"):
            shutil.copy(path, Path(out) / "gpu.json")
    elif out := os.environ.get("OUT"):
        (Path(out) / "gpu.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


def _gpu() -> dict[str, Any]:
    import torch

    about = torch.cuda.get_device_properties(0)
    return {
        "name": about.name,
        "memory_bytes": about.total_memory,
        "multiprocessors": about.multi_processor_count,
        "cuda": torch.version.cuda,
    }


if __name__ == "__main__":
    sys.exit(main())
