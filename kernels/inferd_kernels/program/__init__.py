"""Many operations recorded once, and run again and again in one call.

A model's step is some hundreds of operations on the same buffers and weights. Called one by one
from Python, each costs more than many of them compute for a few rows, and the team's threads go to
sleep in between.
"""

from __future__ import annotations

import ctypes
from typing import Any

from inferd_kernels.cpu.library import Args, library


class _Instruction(ctypes.Structure):
    """See cpu.h."""

    _fields_ = (
        ("run", ctypes.c_void_p),
        ("args", ctypes.c_void_p),
        ("counted", ctypes.c_int64),
    )


class Program:
    """Operations in order, as one.

    What `run` does is what calling them in the order of `add` would do, to the bit. Arguments are
    read when it runs: whoever changes a tensor, or a struct that the arguments point to, between
    two runs changes what the second one computes.

    Args:
        num_counts: `run` takes so many counts of rows.

    Only for the CPU's kernels: `cpu.library.library()` is not None.
    """

    def __init__(self, num_counts: int = 1) -> None:
        loaded = library()
        assert loaded is not None, "there are no kernels"
        assert loaded.inferd_program_size() == ctypes.sizeof(_Instruction)
        self._library = loaded
        self._run: Any = loaded.inferd_program_run
        self._run.restype = None
        self._run.argtypes = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)
        self._counts = (ctypes.c_int64 * num_counts)()
        self._names: list[str] = []
        self._kept: list[object] = []
        self._instructions: list[_Instruction] = []
        self._list: Any = None  # the instructions side by side; None: one has been added since

    def __len__(self) -> int:
        return len(self._names)

    def add(self, name: str, args: Args, *keep: object, counted: int = 0) -> None:
        """Append an operation.

        Args:
            name: the operation's; `inferd_<name>_in` is called.
            args: kept, as the program reads them when it runs.
            keep: what else the arguments point to: tensors, structs.
            counted: which of the counts of rows it works on.
        """
        assert getattr(self._library, f"inferd_{name}_size")() == ctypes.sizeof(args), name
        function = getattr(self._library, f"inferd_{name}_in")
        address = ctypes.cast(function, ctypes.c_void_p)
        self._instructions.append(_Instruction(address, ctypes.addressof(args), counted))
        self._names.append(name)
        self._kept += [args, *keep]
        self._list = None

    def run(self, *counts: int) -> None:
        """Run it all over the first rows of the buffers, as many as `counts` say."""
        self._call(counts, None)

    def run_timed(self, *counts: int) -> list[tuple[str, float]]:
        """Run it; each operation's name and seconds."""
        taken = (ctypes.c_int64 * len(self._names))()
        self._call(counts, taken)
        return [(name, ns / 1e9) for name, ns in zip(self._names, taken, strict=True)]

    def _call(self, counts: tuple[int, ...], nanoseconds: Any) -> None:
        if self._list is None:
            self._list = (_Instruction * len(self._instructions))(*self._instructions)
        self._counts[:] = list(counts)
        self._run(self._list, len(self._names), self._counts, nanoseconds)
