"""Compile the kernels ahead: `python -m inferd_kernels.cpu [LEVEL…|all]`; at once if they are kept.

Without a level, for this processor's best one, or what INFERD_CPU_ISA names. Exits with 1, after a
line that says why, where they cannot be had.
"""

from __future__ import annotations

import sys
from time import perf_counter

from inferd_kernels.cpu.build import BuildError, ensure
from inferd_kernels.cpu.isa import Isa, choose, named, supported


def main(arguments: list[str]) -> int:
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
    if arguments == ["all"]:
        return supported()
    if arguments:
        return tuple(map(named, arguments))
    best = choose()
    if best is None:
        raise BuildError("there are none for this processor")
    return (best,)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
