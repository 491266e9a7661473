"""The GPUs of this machine, as NVIDIA's driver tells of them (nvidia-ml-py); without CUDA."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pynvml


@dataclass(frozen=True, slots=True)
class Gpu:
    """Bytes; `device` is CUDA's name of it: `cuda:0` is the first that this process may see."""

    device: str
    name: str
    total: int
    free: int


def torch_takes_gpus() -> bool:
    """Whether the torch that is installed was built with CUDA; without importing it."""
    found = find_spec("torch")
    if found is None or found.origin is None:
        return False
    version = Path(found.origin).with_name("version.py")
    return re.search(r"^cuda\b.*= *['\"]", version.read_text(), re.MULTILINE) is not None


def list_gpus(
    nvml: Any = pynvml,
    environ: Mapping[str, str] = os.environ,
    built: Callable[[], bool] = torch_takes_gpus,
) -> tuple[Gpu, ...]:
    """Every GPU that models can use and CUDA_VISIBLE_DEVICES lets this process see.

    There are none without a driver, or where torch was not `built` for them.

    CUDA numbers them as the driver does if CUDA_DEVICE_ORDER is PCI_BUS_ID, as it is in the
    processes that hold models.
    """
    with _driver(nvml) as present:
        if not present or not built():
            return ()
        return tuple(
            _gpu(nvml, f"cuda:{index}", handle)
            for index, handle in enumerate(_visible(nvml, environ))
        )


def device_bytes(
    index: int,
    pid: int | None = None,
    *,
    nvml: Any = pynvml,
    environ: Mapping[str, str] = os.environ,
) -> int:
    """Bytes of a GPU's memory that a process (None: this one) holds, its CUDA context included.

    Args:
        index: CUDA's.

    Returns: 0 where the driver does not tell: none is there, or it hides processes (containers
        with a process namespace of their own, MIG).
    """
    return _held(index, nvml, environ).get(pid or os.getpid(), 0)


def held_by_others(
    index: int,
    pid: int | None = None,
    *,
    nvml: Any = pynvml,
    environ: Mapping[str, str] = os.environ,
) -> int:
    """Bytes of a GPU's memory that processes beside this one hold; see `device_bytes`."""
    held = _held(index, nvml, environ)
    return sum(held.values()) - held.get(pid or os.getpid(), 0)


def stay_open(nvml: Any = pynvml) -> None:
    """Have the driver's library ready for as long as this process lives. To open it takes tens of
    milliseconds, which who asks again and again, between two steps, should not wait for."""
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:  # there is none
        pass


def _held(index: int, nvml: Any, environ: Mapping[str, str]) -> dict[int, int]:
    """Bytes by process."""
    with _driver(nvml) as present:
        try:
            handles = list(_visible(nvml, environ)) if present else []
            if index >= len(handles):
                return {}
            processes = nvml.nvmlDeviceGetComputeRunningProcesses(handles[index])
        except nvml.NVMLError:
            return {}
        held: dict[int, int] = {}
        for each in processes:
            held[each.pid] = held.get(each.pid, 0) + (each.usedGpuMemory or 0)
        return held


@contextmanager
def _driver(nvml: Any) -> Iterator[bool]:
    """Whether there is one, for as long as the context lasts."""
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:  # no library, or no driver behind it
        yield False
        return
    try:
        yield True
    finally:
        nvml.nvmlShutdown()


def _visible(nvml: Any, environ: Mapping[str, str]) -> Iterator[Any]:
    """Handles in CUDA's order. A number or an identifier that does not exist ends the list, as
    CUDA has it."""
    count = nvml.nvmlDeviceGetCount()
    named = environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        yield from map(nvml.nvmlDeviceGetHandleByIndex, range(count))
        return
    by_uuid = _identified(nvml, count)
    for name in named.split(","):
        index = int(name) if name.strip().isdecimal() else None
        found = [uuid for uuid in by_uuid if name.strip() and uuid.startswith(name.strip())]
        if index is not None and index < count:
            yield nvml.nvmlDeviceGetHandleByIndex(index)
        elif index is None and len(found) == 1:
            yield by_uuid[found[0]]
        else:
            return


def _identified(nvml: Any, count: int) -> dict[str, Any]:
    handle_of: Callable[[int], Any] = nvml.nvmlDeviceGetHandleByIndex
    handles = [handle_of(index) for index in range(count)]
    return {nvml.nvmlDeviceGetUUID(handle): handle for handle in handles}


def _gpu(nvml: Any, device: str, handle: Any) -> Gpu:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return Gpu(device, nvml.nvmlDeviceGetName(handle), int(memory.total), int(memory.free))
