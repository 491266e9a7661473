"""What the native engine tells about itself."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from inferd.engines.gpus import device_bytes, stay_open
from inferd.engines.memory_use import process_bytes
from inferd.engines.native.model import Model
from inferd.messages import EngineInfo, MemoryUse
from inferd_kernels import gpu
from inferd_kernels.cpu.library import found
from inferd_scheduler import SchedulerConfig

MEASURE_S = 5.0  # measuring walks the process's pages: not in every step, nor for every scrape


class MemoryGauge:
    """Bytes by part; what the system says about the whole process, measured now and then."""

    def __init__(self, device: torch.device, clock: Callable[[], float] = time.monotonic) -> None:
        self._device = device
        self._clock = clock
        self._measured = 0
        self._due = -1.0
        if device.type == "cuda":
            stay_open()

    def read(
        self, *, weights: int, kv_cache: int, adapters: int, beside: bool, fresh: bool
    ) -> MemoryUse:
        """What is not among the parts is the process's.

        Args:
            beside: weights and adapters are not on the device, and not in what is measured.
            fresh: measure now.
        """
        now = self._clock()
        if fresh or now >= self._due:
            self._measured, self._due = self._measure(), now + MEASURE_S
        known = 0 if beside else weights + kv_cache + adapters
        return MemoryUse(
            weights=weights,
            kv_cache=kv_cache,
            adapters=adapters,
            process=max(0, self._measured - known),
            measured=self._measured,
        )

    def _measure(self) -> int:
        if self._device.type == "cuda":
            held = device_bytes(self._device.index or 0)  # 0: the driver hides it
            return held or int(torch.cuda.memory_reserved(self._device))
        return process_bytes()


def describe(model: Model, config: SchedulerConfig, load_s: float, max_rank: int) -> EngineInfo:
    """What stays as it is while the engine runs."""
    return EngineInfo(
        engine="native",
        architecture=model.architecture,
        runner=model.runner,
        vocab_size=model.vocab_size,
        max_model_len=config.max_model_len,
        max_batch_size=config.max_batch_size,
        max_batch_tokens=config.max_batch_tokens,
        block_size=config.block_size,
        num_blocks=config.num_blocks,
        dtype=str(model.dtype).removeprefix("torch."),
        device=str(model.device),
        weight_bytes=model.weight_bytes,
        kv_cache_bytes=kv_bytes(model, config),
        load_s=load_s,
        max_adapters=config.max_adapters,
        max_adapter_rank=max_rank,
        quantization=model.quantization,
        quantization_loss=model.quantization_loss,
        kernels=kernels_of(model.device),
    )


def kernels_of(device: torch.device) -> str:
    """The level of the kernels' instructions, or Triton's version; `reference` where operations
    run in plain torch."""
    if device.type == "cuda":
        return gpu.description()
    return (found().level if device.type == "cpu" else "") or "reference"


def kv_bytes(model: Model, config: SchedulerConfig) -> int:
    per_token = sum(spec.bytes_per_token(model.dtype) for spec in model.kv_specs)
    return per_token * config.num_blocks * config.block_size


def cpu_kernels() -> tuple[str, str]:
    """The level of the CPU's kernels, or "" and why there are none."""
    return found().level, found().reason
