"""Prints where the time of a decoding step goes, in milliseconds.

    python -m benchmarks.profile [--save NAME] [--rows 1 8 32] [MODEL]

MODEL is a folder; without one, the demo. `--save` writes benchmarks/results/profile_NAME.json too.
The forward pass is told by operation too: it is run a second time for that.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from benchmarks.profile.parts import Profile, profile
from benchmarks.record import save
from inferd import demo
from inferd.engines.base import EngineSpec

CODE = ("kernels", "scheduler", "runtime/inferd/engines", "benchmarks/profile")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile")
    parser.add_argument("model", nargs="?", type=Path, default=demo.path())
    parser.add_argument("--rows", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--save", metavar="NAME")
    options = parser.parse_args()
    spec = EngineSpec(
        model=str(options.model),
        device="cpu",
        num_threads=options.threads,
        max_model_len=1024,
        kv_cache_bytes=256 << 20,
        prefix_cache=False,
    )
    found = []
    for rows in options.rows:
        found.append(profile(spec, rows, options.steps))
        show(found[-1])
    if options.save:
        table = {"steps": options.steps, "milliseconds": [asdict(one) for one in found]}
        print("written to", save(f"profile_{options.save}", table, CODE))


def show(one: Profile) -> None:
    print(f"{one.rows} rows: a step {one.step:.3f} ms, {1000 * one.rows / one.step:.0f} tokens/s")
    for title, times in (("parts", one.parts), ("operations", one.operations)):
        line = ", ".join(f"{name} {value:.3f}" for name, value in times.items())
        print(f"  {title}: {line}")


main()
