"""The compiled kernels, loaded once per process; or the reason why there are none."""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from inferd_kernels.cpu.build import BuildError, ensure
from inferd_kernels.cpu.isa import Isa, choose

_log = logging.getLogger("inferd.kernels")

DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
"""As `dtypes.h` numbers them."""


@dataclass(frozen=True, slots=True)
class Found:
    """The kernels for this processor, or why there are none.

    Attributes:
        level: the name of their instructions' level; "" where there are none.
        reason: in a line; "" where there are some.
    """

    library: ctypes.CDLL | None
    level: str = ""
    reason: str = ""


@cache
def found() -> Found:
    """What this process uses, decided once, with one line in the log.

    INFERD_CPU_KERNELS=0 turns the kernels off.
    """
    try:
        if os.environ.get("INFERD_CPU_KERNELS", "1") == "0":
            raise BuildError("INFERD_CPU_KERNELS=0 turns them off")
        isa = choose()
        if isa is None:
            raise BuildError("there are none for this processor")
        loaded = load(isa)
    except (BuildError, OSError, ValueError) as error:
        _log.warning("no C++ kernels: %s; the CPU runs plain torch, more slowly", error)
        return Found(None, reason=str(error))
    _log.info("C++ kernels for %s", isa.name)
    return Found(loaded, isa.name)


def library() -> ctypes.CDLL | None:
    """The kernels in use; None where there are none."""
    return found().library if _instead is None else _instead


@cache
def load(isa: Isa) -> ctypes.CDLL:
    """The library for one level. Raises BuildError or OSError."""
    path = ensure(isa)
    loaded = ctypes.CDLL(str(path))
    try:
        set_threads(loaded, torch.get_num_threads())
    except AttributeError:
        raise BuildError(f"{path} holds something else") from None
    return loaded


def set_threads(loaded: ctypes.CDLL, count: int) -> None:
    """Let operations use so many threads, the caller's among them."""
    loaded.inferd_set_threads(ctypes.c_int32(count))


class Args(ctypes.Structure):
    """Base of the arguments of operations; subclasses mirror the structs of the `cpu.h` files."""


class Operation:
    """The C function `inferd_<name>(args, rows)`, looked for when it is first called."""

    def __init__(self, name: str, args: type[Args]) -> None:
        self._name = name
        self._args = args
        self._function: Any = None
        _operations.append(self)

    def bind(self) -> None:
        """Find the function in the library that is in use now."""
        loaded = library()
        size = getattr(loaded, f"inferd_{self._name}_size")()
        expected = ctypes.sizeof(self._args)
        assert size == expected, f"{self._name}: {size} bytes in C++, {expected} here"
        self._function = getattr(loaded, f"inferd_{self._name}")
        self._function.restype = None
        self._function.argtypes = [ctypes.POINTER(self._args), ctypes.c_int64]

    def forget(self) -> None:
        self._function = None

    def __call__(self, args: Args, rows: int) -> None:
        if self._function is None:
            self.bind()
        self._function(ctypes.byref(args), rows)


def operation(name: str, args: type[Args]) -> Operation | None:
    """An operation of the library; None where there are no kernels."""
    if library() is None:
        return None
    made = Operation(name, args)
    made.bind()
    return made


_instead: ctypes.CDLL | None = None  # what `using` asked for
_operations: list[Operation] = []


@contextmanager
def using(isa: Isa) -> Iterator[None]:
    """Within it the operations run this level's instructions, to test them. Raises BuildError.

    Only where the processor's best level is in use outside.
    """
    global _instead
    before, _instead = _instead, load(isa)
    try:
        for each in _operations:
            each.forget()
        yield
    finally:
        _instead = before
        for each in _operations:
            each.forget()
