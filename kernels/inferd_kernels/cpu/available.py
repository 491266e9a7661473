"""Whether this machine has the compiled kernels, for those who do without torch."""

from __future__ import annotations

import os
from functools import cache

from inferd_kernels.cpu.build import BuildError, ensure
from inferd_kernels.cpu.isa import choose


@cache
def available() -> bool:
    """Whether `library.library()` has them, in this process and in those that it starts.

    Compiles them where nobody has yet, so that the answer is what will be.
    """
    if os.environ.get("INFERD_CPU_KERNELS", "1") == "0":
        return False
    try:
        isa = choose()
        return isa is not None and bool(ensure(isa))
    except (BuildError, OSError, ValueError):
        return False
