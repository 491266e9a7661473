"""Write a checkpoint of random weights and print its folder: python -m benchmarks.models SHAPE."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.models.shapes import QWEN3, SHAPES
from benchmarks.models.write import SEED, checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description=__doc__)
    parser.add_argument("shape", nargs="?", choices=SHAPES, default=QWEN3.name)
    parser.add_argument("--folder", type=Path, help="default: below $XDG_CACHE_HOME/inferd")
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    print(checkpoint(SHAPES[options.shape], options.folder, seed=options.seed))


main()
