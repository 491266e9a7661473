"""Starting a native engine: device, dtype, which code runs the model, and how much KV fits."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch

from inferd.engines.base import EngineSpec, Progress
from inferd.engines.gpus import held_by_others
from inferd.engines.native import memory
from inferd.engines.native.adapters.base import EMBEDDING, HEAD
from inferd.engines.native.architectures import parse_config, supports
from inferd.engines.native.capturing import Capturable
from inferd.engines.native.decoder import DTYPES, load_decoder
from inferd.engines.native.deterministic import prefer
from inferd.engines.native.graphs import bounds, sizes
from inferd.engines.native.model import Model
from inferd.engines.native.parameters import read_config, read_headers
from inferd.engines.native.promise import check_promise
from inferd.engines.native.quantization import weights_in
from inferd.engines.native.sizes import read_shape
from inferd.engines.native.warming import warm_up
from inferd.errors import StartError
from inferd.units import human_bytes
from inferd_kernels.cpu.library import library
from inferd_kernels.cpu.library import set_threads as library_threads
from inferd_scheduler import SchedulerConfig

_log = logging.getLogger("inferd.engines.native")

OnProgress = Callable[[Progress], None]


def start(spec: EngineSpec, on_progress: OnProgress) -> tuple[Model, SchedulerConfig]:
    """Load the model and size its engine. Raises StartError."""
    device = pick_device(spec.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # Triton launches, events and page-locked memory go by it
    folder = Path(spec.model)
    config = read_config(folder)
    kernels = device.type == "cpu" and _kernels(spec, config)
    if spec.deterministic:
        check_promise(
            why_not_native=supports(config) or "", on_cpu=device.type == "cpu", kernels=kernels
        )
    prefer(spec.deterministic, device.type)
    set_threads(spec.num_threads, kernels=kernels)
    dtype = pick_dtype(spec.dtype, widens=device.type == "cpu" and not kernels)
    check_options(spec, config)
    quantized = quantized_bytes(spec, folder, config, device)
    memory.check_weights(folder, dtype, free_bytes(device), quantized)
    try:
        model = load_model(spec, folder, config, dtype, device, on_progress)
        with torch.inference_mode():
            budget = kv_budget(spec, model, on_progress)
    except torch.OutOfMemoryError as error:
        raise StartError(
            "out_of_memory",
            "The device ran out of memory while the model was loaded",
            hint="Choose a smaller model, --dtype bfloat16 or a smaller --max-batch-tokens",
            bytes_free=free_bytes(device),
            log=repr(error),
        ) from error
    plan = memory.plan_kv(spec, model.kv_specs, model.dtype, model.max_position, budget)
    return model, scheduler_config(spec, plan)


def set_threads(count: int | None, *, kernels: bool) -> None:
    """How many threads work on an operation; None: one for each core.

    Where the kernels run, they have them all: torch's would only take the cores from them.
    """
    usual = _usual_threads()  # before it is changed
    count = count or usual
    loaded = library() if kernels else None
    if loaded is not None:
        library_threads(loaded, count)
    torch.set_num_threads(1 if loaded is not None else count)


@cache
def _usual_threads() -> int:
    """torch's choice, as it was before an engine of this process changed it."""
    return torch.get_num_threads()


def check_options(spec: EngineSpec, config: dict[str, Any]) -> None:
    """Let a wrong option show before the weights load. Raises StartError(bad_option).

    How long a context transformers' code supports is known only once it is loaded.
    """
    scheduler_config(spec, memory.KVPlan(1, 2))
    if supports(config) is None:
        memory.context_length(spec, parse_config(config, spec.max_model_len).max_position)


def quantized_bytes(
    spec: EngineSpec, folder: Path, config: dict[str, Any], device: torch.device
) -> int | None:
    """Of weights that are kept in int8; None: none are. Raises StartError."""
    on_cpu = device.type == "cpu"
    reason = supports(config)
    if not weights_in(config, spec.quantization, why_not_native=reason, on_cpu=on_cpu):
        return None
    return read_shape(
        config,
        read_headers(folder),
        dtype=spec.dtype,
        on_cpu=on_cpu,
        quantization=spec.quantization,
    ).weight_bytes


def scheduler_config(spec: EngineSpec, plan: memory.KVPlan) -> SchedulerConfig:
    """The scheduler's bounds. Raises StartError(bad_option)."""
    try:
        return SchedulerConfig(
            max_batch_size=spec.max_batch_size,
            max_batch_tokens=spec.max_batch_tokens,
            num_blocks=plan.num_blocks,
            block_size=spec.block_size,
            max_model_len=plan.max_model_len,
            policy=spec.policy,
            max_queue_requests=spec.max_queue_requests,
            max_queue_tokens=spec.max_queue_tokens,
            prefix_cache=spec.prefix_cache,
            max_adapters=spec.max_adapters,
        )
    except ValueError as error:
        narrow = 1 <= spec.max_batch_tokens < spec.max_batch_size
        hint = f"--max-batch-tokens {spec.max_batch_size}" if narrow else ""
        raise StartError("bad_option", str(error), hint=hint) from error


def load_model(
    spec: EngineSpec,
    folder: Path,
    config: dict[str, Any],
    dtype: torch.dtype | None,
    device: torch.device,
    on_progress: OnProgress,
) -> Model:
    """The native decoder where it knows the architecture, else transformers' modelling code."""
    if supports(config) is None:
        decoder = load_decoder(
            folder,
            dtype=dtype,
            device=device,
            max_model_len=spec.max_model_len,
            max_batch_tokens=spec.max_batch_tokens,
            quantization=spec.quantization,
            on_progress=lambda done, total: on_progress(Progress("weights", done, total)),
        )
        if decoder.quantization and spec.quantization_check:
            from inferd.engines.native.calibration import measure

            decoder.quantization_loss = measure(decoder, folder)
        return decoder
    from inferd.engines.native.fallback import load_fallback  # transformers is slow to import

    return load_fallback(folder, dtype=dtype, device=device, on_progress=on_progress)


def pick_device(name: str) -> torch.device:
    """`auto` is the first GPU where there is one. Raises StartError(bad_option)."""
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise StartError("bad_option", f"device {name!r} is not one", log=repr(error)) from error
    if device.type not in ("cpu", "cuda"):
        raise StartError("bad_option", f"device {name!r} is not supported", hint="--device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise StartError(
            "bad_option",
            f"device {name!r} does not exist: there are {torch.cuda.device_count()} GPUs",
            hint="--device auto",
        )
    return torch.device("cuda:0") if name == "cuda" else device


def _kernels(spec: EngineSpec, config: dict[str, Any]) -> bool:
    """Whether the CPU's compiled kernels run the model."""
    if supports(config) is not None:
        return False
    return library() is not None if spec.cpu_kernels is None else spec.cpu_kernels


def pick_dtype(name: str, *, widens: bool) -> torch.dtype | None:
    """None: the checkpoint's. Raises StartError(bad_option).

    Args:
        widens: `auto` is float32. So it is on a CPU without our kernels: torch's narrow matrix
            products are slower there on many machines, and how they add up can depend on how many
            rows share a call.
    """
    if name == "auto":
        return torch.float32 if widens else None
    if name not in DTYPES:
        raise StartError("bad_option", f"dtype {name!r} is not one of auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return memory.available_bytes()


def kv_budget(spec: EngineSpec, model: Model, on_progress: OnProgress) -> memory.Budget:
    """Bytes for KV; on a GPU, what a largest step leaves, which is measured."""
    on_progress(Progress("warmup", 0, 1))
    if model.device.type == "cuda":
        budget = _cuda_budget(spec, model)
    else:
        warm_up(model, 8, 2, spec.block_size, min(8, model.max_position))
        budget = memory.cpu_budget(spec, memory.available_bytes(), model.weight_bytes)
    on_progress(Progress("warmup", 1, 1))
    return budget


def _cuda_budget(spec: EngineSpec, model: Model) -> memory.Budget:
    device = model.device
    length = memory.context_length(spec, model.max_position)
    if isinstance(model, Capturable):
        model.reserve(length)  # before anything is measured, and no step moves it
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    cache = warm_up(model, spec.max_batch_tokens, spec.max_batch_size, spec.block_size, length)
    torch.cuda.synchronize(device)
    step = torch.cuda.max_memory_allocated(device) - before - cache
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(device)
    beside = step + slot_bytes(spec, model) + memory.SPARE_BYTES
    if isinstance(model, Capturable) and not spec.enforce_eager:
        beside += step + graph_bytes(spec, length)  # graphs have memory of their own to work in
    others = held_by_others(device.index or 0)
    _log.info(
        "GPU: %s free of %s, others hold %s; a largest step takes %s, all beside the KV cache %s",
        *(human_bytes(each) for each in (free, total, others, step, beside)),
    )
    return memory.cuda_budget(spec, free, total, beside, others)


def graph_bytes(spec: EngineSpec, max_model_len: int) -> int:
    """What graphs of all decode steps may take: see `memory.GRAPH_BYTES`."""
    shapes = len(sizes(spec.max_batch_size)) * len(bounds(max_model_len))
    return memory.GRAPH_BYTES * shapes * (2 if spec.max_adapters else 1)


def slot_bytes(spec: EngineSpec, model: Model) -> int:
    """Of adapters of the largest rank in all slots, on a device that shares no memory with the
    host; embedding and head, which few adapters change, are not counted."""
    if model.adaptable is None:
        return 0
    sizes = (
        site.inputs + site.width
        for site in model.adaptable.sites.values()
        if site.key not in (EMBEDDING, HEAD)
    )
    return spec.max_adapters * spec.max_adapter_rank * sum(sizes) * model.dtype.itemsize
