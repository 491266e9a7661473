"""Which GPUs this machine has, under the names by which deployments ask for them."""

from __future__ import annotations

import re
from functools import cache
from typing import get_args

import pynvml

from inferd.web.deploy.schema import OTHER, Gpu

CPU = "cpu"

_WORDS = {
    name: re.compile(rf"\b{re.escape(name.partition('-')[0])}\b")
    for name in get_args(Gpu)
    if name != OTHER
}
_LEAST_SHARE = 0.9  # of the memory in the name: an A100 with 40 GB is not one with 80


@cache
def installed() -> tuple[str, ...]:
    """A name for each GPU, in the driver's order; none where there is no driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        handles = map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))
        return tuple(
            name_of(pynvml.nvmlDeviceGetName(each), pynvml.nvmlDeviceGetMemoryInfo(each).total)
            for each in handles
        )
    except pynvml.NVMLError:
        return ()
    finally:
        pynvml.nvmlShutdown()


def name_of(product: str, num_bytes: int) -> str:
    """DeepInfra's name for a GPU that its maker calls `product`; `other` where it has none."""
    written = re.sub(r"RTX PRO (\d)", r"RTXPRO\1", product).replace("-", " ")
    for name, word in _WORDS.items():
        gigabytes = int(name.rpartition("-")[2].removesuffix("GB"))
        if word.search(written) and num_bytes >= _LEAST_SHARE * gigabytes * 10**9:
            return name
    return OTHER


def running_on(device: str | None) -> str:
    """The name of an engine's `device`, like `cuda:0`; of what it will get, where that is None."""
    gpus = installed()
    if device == CPU or not gpus:
        return CPU
    index = int((device or "").partition(":")[2] or 0)
    return gpus[index] if index < len(gpus) else OTHER
