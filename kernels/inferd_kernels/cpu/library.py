"""The compiled kernels, loaded once per process; or the reason why there are none."""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from inferd_kernels.cpu.build import BuildError, ensure
from inferd_kernels.cpu.isa import choose

_log = logging.getLogger("inferd.kernels")

DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
"""As `dtypes.h` numbers them."""


@cache
def library() -> ctypes.CDLL | None:
    """The kernels for this processor; None, after one line in the log, where they cannot be had.

    INFERD_CPU_KERNELS=0 turns them off.
    """
    if os.environ.get("INFERD_CPU_KERNELS", "1") == "0":
        _log.warning("INFERD_CPU_KERNELS=0: the CPU runs plain torch")
        return None
    try:
        isa = choose()
        if isa is None:
            raise BuildError("there are none for this processor")
        loaded = ctypes.CDLL(str(ensure(isa)))
    except (BuildError, OSError, ValueError) as error:
        _log.warning("no C++ kernels: %s; the CPU runs plain torch, more slowly", error)
        return None
    set_threads(loaded, torch.get_num_threads())
    _log.info("C++ kernels for %s", isa.name)
    return loaded


def set_threads(loaded: ctypes.CDLL, count: int) -> None:
    """Let operations use so many threads, the caller's among them."""
    loaded.inferd_set_threads(ctypes.c_int32(count))


class Args(ctypes.Structure):
    """Base of the arguments of operations; subclasses mirror the structs of the `cpu.h` files."""


def operation(name: str, args: type[Args]) -> Callable[[Args, int], None] | None:
    """The C function `inferd_<name>(args, rows)`; None where there are no kernels."""
    loaded = library()
    if loaded is None:
        return None
    size = getattr(loaded, f"inferd_{name}_size")()
    assert size == ctypes.sizeof(args), f"{name}: {size} bytes in C++, {ctypes.sizeof(args)} here"
    function: Any = getattr(loaded, f"inferd_{name}")
    function.restype = None
    function.argtypes = [ctypes.POINTER(args), ctypes.c_int64]

    def call(arguments: Args, rows: int) -> None:
        function(ctypes.byref(arguments), rows)

    return call
