"""Compiles the GPU's kernels where there is no GPU, and says what the compilers made of them.

def decode_8b(batch: int) -> None:              # a specimen: a module's function, calls operations
    attention(torch.empty(batch, 32, 128, dtype=torch.bfloat16), …)

@pytest.mark.parametrize("capability", CAPABILITIES)
def test_compiled(compiled: Compile, capability: int) -> None:
    for kernel in compiled(decode_8b, 64, capability=capability):
        assert not kernel.spills

A specimen runs in a process without Triton's interpreter, where the GPU's implementations are
chosen for the CPU's tensors and a launch only compiles. Nothing is read or written by a kernel, so
tensors of production's shapes cost no memory (`torch.empty`, never `randn`).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

ROOT = Path(__file__).parents[2]
CAPABILITIES = (80, 90)
"""What kernels must compile for: A100; H100 and H200."""

SHARED_BYTES = {80: 163 << 10, 90: 227 << 10}
"""A program's most shared memory."""

_BITS = re.compile(r"\.(?:v(?P<count>\d)\.)?[bfsu](?P<bits>\d+)\s")


@dataclass(frozen=True, slots=True)
class Compiled:
    """One kernel, for one combination of constants and argument types.

    Attributes:
        name: the kernel function's.
        capability: what it was compiled for; 90: sm_90a.
        registers: of a thread, at most 255.
        spills: bytes that a thread stores to and loads from its stack for want of registers.
        stack: bytes of a thread's stack; not 0 without spills: an array is indexed at run time.
        shared: bytes of a program's shared memory.
        warps: of a program.
        serialized: whether each `wgmma` waits for the one before, which `ptxas` warns of.
        ptx: the code, before `ptxas`.
    """

    name: str
    capability: int
    registers: int
    spills: int
    stack: int
    shared: int
    warps: int
    serialized: bool
    ptx: str

    def widths(self, instruction: str) -> list[int]:
        """Bytes per thread of each instruction of this name: `ld.global`, `st.global`."""
        found = []
        for line in self.ptx.splitlines():
            place = line.find(f"{instruction}.")
            if place >= 0 and (match := _BITS.search(line, place)):
                found.append(int(match["count"] or 1) * int(match["bits"]) // 8)
        return found

    def has(self, instruction: str) -> bool:
        """Whether the code has an instruction whose name begins so: `wgmma.mma_async`."""
        return re.search(rf"(?:^|\s){re.escape(instruction)}", self.ptx) is not None


class Compile(Protocol):
    """The fixture `compiled`."""

    def __call__(
        self, specimen: Callable[..., object], *args: str | float | None, capability: int = 90
    ) -> list[Compiled]:
        """Each kernel that `specimen(*args)` would launch, once, in order.

        Raises: AssertionError with the trace, when it raises or a kernel does not compile.
        """


@contextmanager
def compiler(cache: Path) -> Iterator[Compile]:
    """A process that compiles; `cache`: an empty folder for what Triton keeps. Not for threads."""
    environment = {
        **os.environ,
        "TRITON_INTERPRET": "0",
        "TRITON_CACHE_DIR": str(cache),
        "CUDA_VISIBLE_DEVICES": "",
    }
    command = [sys.executable, "-m", "tests.kernels.compile_specimens"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=-1, stdout=-1, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def compiled(
            specimen: Callable[..., object], *args: str | float | None, capability: int = 90
        ) -> list[Compiled]:
            wanted = (specimen.__module__, specimen.__qualname__, args, capability)
            print(json.dumps(wanted), file=process.stdin, flush=True)
            assert process.stdout is not None
            answer = process.stdout.readline()
            assert answer, "the process that compiles has ended"
            found = json.loads(answer)
            assert not isinstance(found, str), found
            return [Compiled(**each) for each in found]

        try:
            yield compiled
        finally:
            process.terminate()  # it may be at work, where a test was timed out
