"""Which GPUs this machine has, under the names by which deployments ask for them."""

from __future__ import annotations

import re
from functools import cache
from typing import get_args

from inferd.engines.gpus import list_gpus
from inferd.web.deploy.schema import OTHER, Gpu

CPU = "cpu"

_NAMES: tuple[str, ...] = tuple(name for name in get_args(Gpu) if name != OTHER)
_WORDS = {name: re.compile(rf"\b{re.escape(name.partition('-')[0])}\b") for name in _NAMES}
_LEAST_SHARE = 0.9  # of the memory in the name: an A100 with 40 GB is not one with 80


@cache
def installed() -> dict[str, str]:
    """CUDA's name of each GPU → the name to ask for; empty where there is none."""
    return {gpu.device: name_of(gpu.name, gpu.total) for gpu in list_gpus()}


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
    return gpus.get(device or "", next(iter(gpus.values())))
