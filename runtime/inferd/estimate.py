"""What a model will take before it is loaded, by part, and the engine's options that make it so.

Nothing here imports torch or reads a weight: the daemon asks before every load, and `inferd plan`
before any download.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from inferd.engines.base import EngineSpec
from inferd.engines.gpus import Gpu
from inferd.engines.native import memory
from inferd.engines.native.kv_spec import KVSpec
from inferd.engines.native.parameters import read_config, read_headers
from inferd.engines.native.promise import check_promise
from inferd.engines.native.sizes import Shape, read_shape
from inferd.errors import StartError
from inferd.ledger import HOST, Need
from inferd.measurements import Measured
from inferd.units import human_bytes
from inferd.weights import TensorInfo

PROCESS_BYTES = 168 << 20
"""Of a child process on a CPU: interpreter, torch and tokenizer; 160 MiB were measured."""
TRANSFORMERS_BYTES = 96 << 20
"""What transformers adds to that, where its code runs the model."""
CONTEXT_BYTES = 640 << 20
"""Of a GPU: CUDA's context, kernels and cuBLAS's workspaces, until it was measured."""
GPU_HOST_BYTES = 1 << 30
"""Of the host, beside a GPU: the process with CUDA's libraries, until it was measured."""
ECHO_BYTES = 24 << 20
"""Of a process of the echo engine."""
LOGIT_COPIES = 3
"""Of float32: raw ones, adjusted ones, and their log-softmax."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """How a model would run.

    Args:
        spec: complete: with it the engine allocates what `need` says.
        shape: None for engines that hold no model.
        num_blocks, max_model_len: 0 where there is no room, or it is not known.
        refusal: why it does not fit within the budget at all; None: it does.
        measured: whether an earlier start tells what a process takes, rather than a constant.
    """

    spec: EngineSpec
    device: str
    need: Need
    shape: Shape | None
    num_blocks: int
    max_model_len: int
    refusal: StartError | None = None
    measured: bool = False

    def fitting(self) -> Estimate:
        """This, if it fits. Raises StartError(out_of_memory)."""
        if self.refusal is not None:
            raise self.refusal
        return self

    @property
    def kv_tokens(self) -> int:
        return self.num_blocks * self.spec.block_size

    @property
    def concurrent(self) -> int:
        """Sequences of the full length that fit at once."""
        if not self.max_model_len:
            return 0
        return min(self.spec.max_batch_size, self.kv_tokens // self.max_model_len)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What is known of a model without its weights.

    Args:
        examined: the KV cache's shape and the longest context, where more than the config tells.
    """

    config: Mapping[str, Any]
    headers: Mapping[str, TensorInfo]
    examined: tuple[tuple[KVSpec, ...], int] | None = None

    @classmethod
    def of(cls, folder: Path) -> Checkpoint:
        """Raises StartError, as `read_config` and `read_headers` do."""
        return cls(read_config(folder), read_headers(folder))


def estimate(
    spec: EngineSpec,
    budgets: Mapping[str, int],
    *,
    checkpoint: Checkpoint | None = None,
    measured: Measured | None = None,
    free: Mapping[str, int] | None = None,
) -> Estimate:
    """What `spec` will take.

    Args:
        budgets: device → bytes that models may take of it (`budgets_of`).
        checkpoint: of a model that is not on this machine; None: what is in `spec.model`.
        measured: from an earlier start.
        free: device → bytes of `budgets` that are free. On a GPU the KV cache takes what is free
            unless its size is given, and what the budget allows where that is too little.

    Raises StartError: `unsupported`, `not_found`, `bad_weights` or `bad_option`. That it does not
        fit is told by `Estimate.refusal`, whose hint is the smallest change that fits.
    """
    device = pick_device(spec.device, budgets)
    spec = replace(spec, device=device)
    if spec.engine != "native":
        return _without_model(spec, device, budgets[device], measured)
    known = checkpoint or Checkpoint.of(Path(spec.model))
    room = budgets[device]
    if device != HOST and free is not None:
        now = _Sizing(spec, known, measured).within(free[device])
        if now.refusal is None and now.shape and now.max_model_len == now.shape.max_position:
            return now
    found = _Sizing(spec, known, measured).within(room)
    if found.refusal is not None:
        found.refusal.hint = _smallest_change(spec, known, measured, room)
    return found


def _without_model(spec: EngineSpec, device: str, room: int, measured: Measured | None) -> Estimate:
    """Of an engine that takes little more than its process."""
    process = measured.process if measured else ECHO_BYTES
    need = Need(kv_cache=spec.kv_cache_bytes or 0, process=process)
    refusal = None
    if need.total > room:
        message = f"The engine needs {human_bytes(need.total)}, and the budget of {device} is less"
        refusal = StartError("out_of_memory", message, bytes_needed=need.total, bytes_free=room)
    return Estimate(spec, device, need, None, 0, 0, refusal, measured is not None)


class _Sizing:
    """One model's parts, and the KV cache that fits beside them."""

    def __init__(self, spec: EngineSpec, checkpoint: Checkpoint, measured: Measured | None) -> None:
        on_cpu = spec.device == HOST
        shape = read_shape(
            checkpoint.config,
            checkpoint.headers,
            dtype=spec.dtype,
            quantization=spec.quantization,
            on_cpu=on_cpu,
            max_model_len=spec.max_model_len,
        )
        if spec.deterministic:
            check_promise(why_not_native=shape.why_not_native, on_cpu=on_cpu, kernels=shape.kernels)
        if checkpoint.examined is not None:
            kv_specs, max_position = checkpoint.examined
            shape = dataclasses.replace(shape, kv_specs=kv_specs, max_position=max_position)
        slots = spec.max_adapters * spec.max_adapter_rank * shape.adapter_bytes
        pool = min(spec.adapter_host_bytes, slots)
        own = PROCESS_BYTES + (0 if shape.runner == "native" else TRANSFORMERS_BYTES)
        process = own if on_cpu else CONTEXT_BYTES
        self.shape = shape
        self._spec = replace(spec, cpu_kernels=shape.kernels) if on_cpu else spec
        if pool:
            self._spec = replace(self._spec, adapter_host_bytes=pool)
        self._on_cpu = on_cpu
        self._measured = measured is not None
        self._fixed = Need(
            weights=shape.weight_bytes,
            adapters=pool if on_cpu else slots,  # which share the host's memory on a CPU
            workspace=_workspace(spec, shape),
            process=measured.process if measured else process,
            host=0 if on_cpu else GPU_HOST_BYTES + pool,
        )

    @property
    def one_sequence(self) -> int:
        """Bytes of the KV cache of one sequence of the full length."""
        length = self._spec.max_model_len or self.shape.max_position
        return self._block * -(-length // self._spec.block_size)

    @property
    def least(self) -> int:
        """Bytes with room for one such sequence."""
        return self._fixed.total + max(self.one_sequence, self._spec.kv_cache_bytes or 0)

    def left(self, room: int) -> int:
        """Bytes for the KV cache."""
        return max(0, room - self._fixed.total)

    def within(self, room: int) -> Estimate:
        """What fits into `room` bytes."""
        plan, kv_cache, refusal = memory.KVPlan(0, 0), 0, None
        try:
            self._check_fixed(room)
            budget = self._budget(room)
            plan, kv_cache = self._plan(budget)
        except StartError as error:
            if error.code != "out_of_memory":
                raise
            refusal = error
        spec = replace(self._spec, kv_cache_bytes=kv_cache) if kv_cache else self._spec
        need = replace(self._fixed, kv_cache=kv_cache)
        return Estimate(
            spec,
            spec.device,
            need,
            self.shape,
            plan.num_blocks,
            plan.max_model_len,
            refusal,
            self._measured,
        )

    @property
    def _block(self) -> int:
        return self.shape.kv_bytes_per_token * self._spec.block_size

    def _check_fixed(self, room: int) -> None:
        fixed = self._fixed.total
        if fixed > room:
            raise StartError(
                "out_of_memory",
                f"The model needs {human_bytes(fixed)} beside its KV cache, and "
                f"{self._spec.device} has {human_bytes(room)} for models",
                bytes_needed=fixed,
                bytes_free=room,
            )

    def _budget(self, room: int) -> memory.Budget:
        """What the KV cache may take."""
        left = self.left(room)
        if self._spec.kv_cache_bytes is not None:
            return memory.given_budget(self._spec.kv_cache_bytes, left)
        if self._on_cpu:
            return memory.Budget(min(left, memory.modest_kv_bytes(self.shape.weight_bytes)), left)
        return memory.Budget(left, left)

    def _plan(self, budget: memory.Budget) -> tuple[memory.KVPlan, int]:
        """The KV cache, and its bytes. Where the config does not tell how large a token is, the
        engine finds out how many of them there is room for."""
        shape = self.shape
        if not shape.kv_specs or not shape.max_position:
            return memory.KVPlan(0, 0), budget.bytes
        plan = memory.plan_kv(self._spec, shape.kv_specs, shape.dtype, shape.max_position, budget)
        return plan, plan.num_blocks * self._block


def _workspace(spec: EngineSpec, shape: Shape) -> int:
    """What a largest step takes beside all that stays: activations, and logits thrice."""
    logits = LOGIT_COPIES * 4 * shape.vocab_size * spec.max_batch_size
    return spec.max_batch_tokens * shape.token_bytes + logits


# ---------------------------------------------------------------- what would help


def _smallest_change(
    spec: EngineSpec, checkpoint: Checkpoint, measured: Measured | None, room: int
) -> str:
    """The mildest option with which the model fits into `room`; each was tried."""
    for option, changed in _changes(spec, _Sizing(spec, checkpoint, measured), room):
        if _Sizing(changed, checkpoint, measured).within(room).refusal is None:
            return option
    least = _Sizing(spec, checkpoint, measured).least
    if spec.device == HOST and least <= _physical_bytes():
        return f"--memory-budget {-(-least // 2**20)}MiB"
    return "Choose a smaller model"


def _changes(spec: EngineSpec, sizing: _Sizing, room: int) -> Iterator[tuple[str, EngineSpec]]:
    """Options, the mildest first."""
    left, each = sizing.left(room), sizing.shape.kv_bytes_per_token
    if spec.kv_cache_bytes is not None:
        size = min(left, max(spec.kv_cache_bytes, sizing.one_sequence))
        yield f"--kv-cache-bytes {size}", replace(spec, kv_cache_bytes=size)
    kv_cache = left if spec.kv_cache_bytes is None else min(left, spec.kv_cache_bytes)
    length = kv_cache // each // spec.block_size * spec.block_size if each else 0
    if memory.MIN_USEFUL_LEN <= length < sizing.shape.max_position:
        yield f"--max-model-len {length}", replace(spec, max_model_len=length)
    for count in range(spec.max_adapters - 1, -1, -1):
        yield f"--max-adapters {count}", replace(spec, max_adapters=count)
    for tokens in (1024, 512, 256):
        if spec.max_batch_size <= tokens < spec.max_batch_tokens:
            yield f"--max-batch-tokens {tokens}", replace(spec, max_batch_tokens=tokens)
    if sizing.shape.dtype.itemsize > 2:
        narrow = replace(spec, dtype="bfloat16")
        yield "--dtype bfloat16", narrow
        yield "--dtype bfloat16 --max-adapters 0", replace(narrow, max_adapters=0)
    if sizing.shape.kernels and not sizing.shape.quantization:
        yield "--quantization int8", replace(spec, quantization="int8")


def _physical_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


# ---------------------------------------------------------------- devices and budgets


def budgets_of(
    gpus: Sequence[Gpu],
    *,
    memory_budget: int | None,
    memory_fraction: float,
    available: Callable[[], int] = memory.available_bytes,
) -> dict[str, int]:
    """Device → bytes that models may take of it, all together.

    Args:
        memory_budget: of the host; None: `memory_fraction` of what is available now.
        memory_fraction: of each GPU's whole memory, too.
    """
    host = memory_budget or int(memory_fraction * available())
    return {HOST: host} | {gpu.device: int(memory_fraction * gpu.total) for gpu in gpus}


def pick_device(name: str, budgets: Mapping[str, int]) -> str:
    """`auto` is the first GPU where there is one. Raises StartError(bad_option)."""
    first = "cuda:0"
    if name == "auto":
        return first if first in budgets else HOST
    device = first if name == "cuda" else name
    if device not in budgets:
        known = ", ".join(budgets)
        raise StartError(
            "bad_option",
            f"device {name!r} is not one of this machine's: {known}",
            hint="--device auto",
        )
    return device
