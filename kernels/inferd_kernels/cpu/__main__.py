"""Compile the kernels ahead: `python -m inferd_kernels.cpu [LEVEL…]`; at once if they are kept.

Without a level, for this processor's best one, or what INFERD_CPU_ISA names. `--levels` only lists
those that it has, best first. Exits with 1, after a line that says why, where there are none.
"""

from __future__ import annotations

import logging
import sys
from time import perf_counter

from inferd_kernels.cpu.build import BuildError, ensure
from inferd_kernels.cpu.isa import Isa, choose, named, supported


def main(arguments: list[str]) -> int:
    if arguments == ["--levels"]:
        sys.stdout.writelines(f"{level.name}\n" for level in supported())
        return 0
    try:
        for level in _levels(arguments):
            begin = perf_counter()
            library = ensure(level)
            seconds = perf_counter() - begin
            sys.stdout.write(f"C++ kernels for {level.name}: {library} ({seconds:.1f} s)\n")
    except (BuildError, ValueError) as error:
        sys.stderr.write(f"No C++ kernels: {error}. The CPU will run plain torch, more slowly.\n")
        return 1
    return 0


def _levels(arguments: list[str]) -> tuple[Isa, ...]:
    if arguments:
        return tuple(map(named, arguments))
    best = choose()
    if best is None:
        raise BuildError("there are none for this processor")
    return (best,)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.exit(main(sys.argv[1:]))
