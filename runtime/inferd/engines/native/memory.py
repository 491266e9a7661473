"""How much memory there is, and how many KV blocks and tokens of context fit into it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path

from inferd.engines.base import EngineSpec
from inferd.engines.native.kv_spec import NUMBER_TYPES, KVSpec, NumberType
from inferd.engines.native.parameters import read_headers
from inferd.errors import StartError
from inferd.units import human_bytes
from inferd.weights import TensorInfo

MAX_CPU_KV_BYTES = 4 << 30
"""KV on a CPU is never larger unless `kv_cache_bytes` says so: others use the memory too."""
SMALL_CPU_KV_BYTES = 512 << 20
"""Nor is it larger than four times the weights, though so much a small model may have."""
SPARE_BYTES = 512 << 20
"""Of a GPU, beside all that was measured: for pieces too small to be used, prompts' logits while
they are scored (`scoring.SLICE_BYTES`, several times), and drivers' own."""
GRAPH_BYTES = 4 << 20
"""Of a GPU, for the graph of one shape of decode steps: some 400 launches, which the driver keeps,
and its last hidden states. Assumed, not measured; none is made where little is left."""
MIN_USEFUL_LEN = 128
"""Tokens. A context is never silently reduced below this (or below the model's own)."""


@dataclass(frozen=True, slots=True)
class KVPlan:
    """A KV cache that fits."""

    num_blocks: int
    max_model_len: int  # tokens


@dataclass(frozen=True, slots=True)
class Budget:
    """Bytes that the KV cache may take unasked, and how many it could take at most."""

    bytes: int
    bytes_free: int
    others: int = 0  # what other processes hold of the device, as far as the driver tells


def plan_kv(
    spec: EngineSpec,
    kv_specs: Iterable[KVSpec],
    dtype: NumberType,
    max_position: int,
    budget: Budget,
) -> KVPlan:
    """As many blocks as the budget holds, at most what a full batch of longest sequences needs.

    Where not even one sequence of `max_model_len` fits, the context is reduced, but only if it
    was not asked for. Raises StartError(out_of_memory) or StartError(bad_option).
    """
    wanted_len = context_length(spec, max_position)
    block_bytes = spec.block_size * sum(kv.bytes_per_token(dtype) for kv in kv_specs)
    per_sequence = -(-wanted_len // spec.block_size)
    num_blocks = min(budget.bytes // block_bytes, spec.max_batch_size * per_sequence)
    if num_blocks >= per_sequence:
        return KVPlan(num_blocks, wanted_len)
    fits = num_blocks * spec.block_size
    if spec.max_model_len is None and fits >= min(MIN_USEFUL_LEN, wanted_len):
        return KVPlan(num_blocks, fits)
    needed = per_sequence * block_bytes
    raise StartError(
        "out_of_memory",
        f"A sequence of {wanted_len} tokens needs {human_bytes(needed)} of KV cache, and there is "
        f"room for {human_bytes(budget.bytes)}",
        hint=_hint(fits, needed, budget),
        bytes_needed=needed,
        bytes_free=budget.bytes,
    )


def context_length(spec: EngineSpec, max_position: int) -> int:
    """The context to serve if memory allows, in tokens. Raises StartError(bad_option)."""
    asked = spec.max_model_len
    if asked is None:
        return max_position
    if not 2 <= asked <= max_position:
        raise StartError(
            "bad_option",
            f"max_model_len is {asked}, and the model supports 2 … {max_position} tokens",
            hint=f"--max-model-len {max_position}",
        )
    return asked


def _hint(fits: int, needed: int, budget: Budget) -> str:
    """The smallest change that helps; a larger cache, where there is room, before less context."""
    if needed <= budget.bytes_free:
        return f"--kv-cache-bytes {needed}"
    if fits >= MIN_USEFUL_LEN:
        return f"--max-model-len {fits}"
    if budget.others >= needed:
        return f"Other processes hold {human_bytes(budget.others)} of the GPU: end some of them"
    return "Free memory on the device, or choose a smaller model or --dtype bfloat16"


def cpu_budget(spec: EngineSpec, available: int, weights: int) -> Budget:
    """What the KV cache may take of `available` bytes beside `weights` bytes in main memory."""
    if spec.kv_cache_bytes is not None:
        return given_budget(spec.kv_cache_bytes, available)
    fraction = int(spec.memory_fraction * available)
    return Budget(min(fraction, modest_kv_bytes(weights)), available)


def modest_kv_bytes(weights: int) -> int:
    """What a KV cache in main memory takes at most unless its size is given."""
    return min(MAX_CPU_KV_BYTES, max(SMALL_CPU_KV_BYTES, 4 * weights))


def cuda_budget(spec: EngineSpec, free: int, total: int, beside: int, others: int = 0) -> Budget:
    """What it may take of a GPU: memory_fraction of `total`, less what is in use and `beside`.

    Args:
        free: measured with the weights loaded.
        beside: bytes that steps, adapters and graphs take more.
        others: of what is in use, other processes' share.
    """
    if spec.kv_cache_bytes is not None:
        return given_budget(spec.kv_cache_bytes, free - beside)
    mine = int(spec.memory_fraction * total) - (total - free) - beside
    return Budget(max(0, mine), max(0, free - beside), others)


def given_budget(asked: int, free: int) -> Budget:
    """`asked` bytes. Raises StartError(out_of_memory) where fewer are free."""
    if asked > free:
        raise StartError(
            "out_of_memory",
            f"kv_cache_bytes asks for {human_bytes(asked)}, and {human_bytes(free)} are free",
            hint=f"--kv-cache-bytes {max(0, free)}",
            bytes_needed=asked,
            bytes_free=free,
        )
    return Budget(asked, free)


def check_weights(
    folder: Path, dtype: NumberType | None, free: int, quantized: int | None = None
) -> None:
    """Raise StartError(out_of_memory) if the weights alone exceed `free` bytes of the device.

    Args:
        quantized: their bytes, where they are not kept in `dtype`.
    """
    needed = weight_bytes(folder, dtype) if quantized is None else quantized
    if needed <= free:
        return
    halved = weight_bytes(folder, NUMBER_TYPES["bfloat16"])
    raise StartError(
        "out_of_memory",
        f"The weights need {human_bytes(needed)}, and {human_bytes(free)} are free",
        hint="--dtype bfloat16" if halved <= free else "Choose a smaller model",
        bytes_needed=needed,
        bytes_free=free,
    )


def weight_bytes(folder: Path, dtype: NumberType | None) -> int:
    """Bytes of all tensors in the folder's checkpoint, once they are of `dtype`."""
    return stored_bytes(read_headers(folder).values(), dtype)


def stored_bytes(headers: Iterable[TensorInfo], dtype: NumberType | None) -> int:
    """Bytes of a checkpoint's tensors, once they are of `dtype`; None: as they are."""
    return sum(
        info.num_bytes if dtype is None else prod(info.shape) * dtype.itemsize for info in headers
    )


def available_bytes(
    meminfo: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")
) -> int:
    """Main memory that this process may still take: the system's, or less under a cgroup's limit.

    Page cache counts as available. cgroup v2 and v1 are read; 4 GiB are assumed where the system
    tells nothing.
    """
    try:
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        system = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        system = 4 << 30
    rooms = [
        _cgroup_room(cgroup / "memory.max", cgroup / "memory.current", cgroup / "memory.stat"),
        _cgroup_room(
            cgroup / "memory" / "memory.limit_in_bytes",
            cgroup / "memory" / "memory.usage_in_bytes",
            cgroup / "memory" / "memory.stat",
        ),
    ]
    return min([system, *(room for room in rooms if room is not None)])


def _cgroup_room(limit: Path, usage: Path, stat: Path) -> int | None:
    """Bytes left under a cgroup's limit; None where there is none."""
    try:
        bound, used = int(limit.read_text()), int(usage.read_text())
    except (OSError, ValueError):  # `max` means no limit
        return None
    cache = 0
    try:
        fields = dict(line.split() for line in stat.read_text().splitlines())
        cache = int(fields.get("inactive_file", 0))
    except (OSError, ValueError):
        pass
    return max(0, bound - used + cache)
