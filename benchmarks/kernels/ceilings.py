"""This machine's ceilings: memory bandwidth and multiplications on all threads, torch's sgemm."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from inferd_kernels.cpu.build import FLAGS, SOURCES, find_compiler
from inferd_kernels.cpu.isa import choose

MEMORY_FLOATS = 64 << 20  # per thread's array: 256 MiB
STEPS = 1 << 23
REPEATS = 5


def measure() -> dict[str, float]:
    """GB/s (`read`, `copy`: read and written) and GFLOP/s (`fma`, `sgemm`, …; an int8
    multiplication counts as a FLOP), the best of a few short runs."""
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(threads) as pool:
        library = _compile(Path(folder))

        def best(work: Callable[[int], float]) -> float:
            """Units that all threads do in a second; `work` returns one thread's."""
            rates = []
            for _ in range(REPEATS):
                begin = perf_counter()
                done = sum(pool.map(work, range(threads)))
                rates.append(done / (perf_counter() - begin))
            return max(rates)

        found = _bandwidth(library, threads, best)
        names = {"fma": "multiply_add", "bf16": "multiply_add_bf16", "int8": "multiply_add_int8"}
        for name, function in names.items():
            if hasattr(library, function):
                found[name] = best(_multiplier(getattr(library, function))) / 1e9
    return {**found, "sgemm": _sgemm()}


def _compile(folder: Path) -> ctypes.CDLL:
    isa = choose()
    assert isa is not None, "there are no kernels for this processor"
    source, library = Path(__file__).with_suffix(".cpp"), folder / "ceilings.so"
    command = [find_compiler().path, *FLAGS, *isa.flags, f"-I{SOURCES}", "-shared"]
    subprocess.run([*command, str(source), "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


def _bandwidth(
    library: ctypes.CDLL, threads: int, best: Callable[[Callable[[int], float]], float]
) -> dict[str, float]:
    arrays = [torch.ones(2, MEMORY_FLOATS) for _ in range(threads)]
    count, once = ctypes.c_int64(MEMORY_FLOATS), ctypes.c_int64(1)
    num_bytes = MEMORY_FLOATS * 4.0

    def read(thread: int) -> float:
        library.read_memory(ctypes.c_void_p(arrays[thread].data_ptr()), count, once)
        return num_bytes

    def copy(thread: int) -> float:
        to, source = (ctypes.c_void_p(row.data_ptr()) for row in arrays[thread])
        library.copy_memory(to, source, count, once)
        return 2 * num_bytes

    return {"read": best(read) / 1e9, "copy": best(copy) / 1e9}


def _multiplier(function: Any) -> Callable[[int], float]:
    function.restype = ctypes.c_int64

    def multiply(thread: int) -> float:
        out = ctypes.c_float()
        lanes: int = function(ctypes.c_int64(STEPS), ctypes.byref(out))
        return 2.0 * STEPS * lanes

    return multiply


def _sgemm(size: int = 2048) -> float:
    a, b = torch.randn(2, size, size)
    out = torch.empty(size, size)
    seconds = []
    for _ in range(REPEATS):
        begin = perf_counter()
        torch.mm(a, b, out=out)
        seconds.append(perf_counter() - begin)
    return 2 * size**3 / min(seconds) / 1e9
