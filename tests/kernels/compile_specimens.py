"""The process behind `compiled`: reads specimens from stdin, compiles what they would launch.

A line of stdin is JSON: module, function, arguments, capability. The answer is a line of JSON: the
kernels' reports, or a string: the trace of what went wrong. Triton is given a driver that only
tells its target; each capability is a device to it, so that neither is given the other's kernels.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
from contextlib import redirect_stdout
from importlib import import_module
from traceback import format_exc
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from inferd_kernels.dispatch import only

_USED = re.compile(r"Used (\d+) registers")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_run = JITFunction.run


class Driver:
    """Of a GPU that is not there."""

    capability = 90

    def is_active(self) -> bool:
        return True

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self) -> int:
        return self.capability

    def get_current_stream(self, device: int = 0) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")


class Reports:
    """What was compiled so far, and by the specimen at hand."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, Any]] = {}
        self.found: dict[str, dict[str, Any]] = {}

    def launch(self, function: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        """In place of a launch: compile."""
        with redirect_stdout(io.StringIO()) as log:
            kernel = _run(function, *args, grid=grid, warmup=True, **options)
        if kernel.hash not in self._known:
            self._known[kernel.hash] = _report(function.__name__, kernel, log.getvalue())
        self.found[kernel.hash] = self._known[kernel.hash]
        return kernel


def _report(name: str, kernel: Any, log: str) -> dict[str, Any]:
    used, stack = _USED.search(log), _STACK.search(log)
    assert used is not None, f"ptxas said: {log!r}"
    assert stack is not None, f"ptxas said: {log!r}"
    frame, stores, loads = (int(each) for each in stack.groups())
    return {
        "name": name,
        "capability": kernel.metadata.target.arch,
        "registers": int(used[1]),
        "spills": stores + loads,
        "stack": frame,
        "shared": kernel.metadata.shared,
        "warps": kernel.metadata.num_warps,
        "serialized": "are serialized" in log,
        "ptx": kernel.asm["ptx"],
    }


def _answer(line: str, device: Driver, reports: Reports) -> object:
    module, name, args, device.capability = json.loads(line)
    reports.found = {}
    try:
        specimen: Any = import_module(module)
        for part in name.split("."):
            specimen = getattr(specimen, part)
        with only("gpu"), torch.inference_mode():
            specimen(*args)
    except Exception:
        return format_exc()
    return list(reports.found.values())


def main() -> None:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what else is printed
    device, reports = Driver(), Reports()
    driver.set_active(device)
    triton.knobs.nvidia.dump_ptxas_log = True

    def run(function: Any, *args: Any, **options: Any) -> Any:
        return reports.launch(function, *args, **options)

    JITFunction.run = run
    for line in sys.stdin:
        print(json.dumps(_answer(line, device, reports)), file=answers, flush=True)


if __name__ == "__main__":
    main()
