"""Draw README's tables of speeds from the result files: python -m benchmarks.table [--check].

The GPU's is drawn where the README has a place for it.
"""

from __future__ import annotations

import argparse
import json
import sys

from benchmarks.record import RESULTS
from benchmarks.table.draw import table
from benchmarks.table.gpu import gpu_table
from benchmarks.table.readme import GPU_BEGIN, GPU_END, between, replaced

README = RESULTS.parents[1] / "README.md"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if it would")
    check: bool = parser.parse_args().check
    figures = json.loads((RESULTS / "peers.json").read_text())
    before = README.read_text()
    after = replaced(before, table(figures))
    if GPU_BEGIN in after:
        measured = RESULTS / "gpu.json"
        record = json.loads(measured.read_text()) if measured.exists() else None
        after = between(after, gpu_table(record), GPU_BEGIN, GPU_END)
    if check and after != before:
        sys.exit("README.md is not what benchmarks/results say: run python -m benchmarks.table")
    if not check:
        README.write_text(after)


main()
