"""Measure inferd beside its peers: python -m benchmarks.peers [--quick] [--save]."""

from __future__ import annotations

import argparse
import signal
import sys
from typing import Any

from benchmarks.models.shapes import QWEN3, SHAPES
from benchmarks.peers.environments import ROOT, place
from benchmarks.peers.launch import Launcher
from benchmarks.peers.measures import MEASURES
from benchmarks.peers.report import assemble, draw
from benchmarks.peers.rounds import Plan
from benchmarks.peers.run import Red, run
from benchmarks.record import save

CODE = ("runtime", "scheduler", "kernels", "benchmarks")


def main() -> None:
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # runners too
    options = _options()
    shape = SHAPES[options.shape]
    plan = Plan((3,), 2.0, MEASURES) if options.quick else Plan((5, 3), 4.0, MEASURES)
    launcher = Launcher(place(shape), shape, _say)
    try:
        outcome = run(launcher, plan)
    except Red as red:
        sys.exit(f"No speed is measured: {red}")
    figures: dict[str, Any] = assemble(launcher, plan, outcome, quick=options.quick)
    print(draw(figures))
    if options.save:
        print(save("peers", figures, CODE).relative_to(ROOT))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench_peers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about 5 minutes rather than 20")
    parser.add_argument("--shape", choices=SHAPES, default=QWEN3.name)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/peers.json")
    return parser.parse_args()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
