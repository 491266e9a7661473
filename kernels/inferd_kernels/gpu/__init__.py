"""What the Triton kernels share. Triton itself is imported by the modules that hold kernels."""

from __future__ import annotations

import logging
import os
from functools import cache
from importlib import import_module
from importlib.util import find_spec

# A product and the sum it goes into are rounded once, as cuBLAS and torch's own kernels do it. Said
# here because Triton's default changes with its version, and a kernel's numbers should not.
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")

_log = logging.getLogger("inferd.kernels")


@cache
def present() -> bool:
    """Whether there is a Triton to compile the kernels; where not, the log says so once."""
    if find_spec("triton") is not None:
        return True
    _log.warning("Triton is not installed: GPUs run plain torch, more slowly")
    return False


def description() -> str:
    """What runs on GPUs: Triton and its version, or plain torch and why."""
    if not present():
        return "reference (Triton is not installed)"
    return f"triton {import_module('triton').__version__}"
