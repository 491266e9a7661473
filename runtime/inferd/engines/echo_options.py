"""The echo engine's options, read from `EngineSpec.model`: `echo:delay=0.01,vocab_size=512`."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct

from inferd.engines.base import EngineSpec
from inferd.errors import StartError
from inferd.messages import EngineInfo, MemoryUse


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """What `echo:NAME=VALUE,…` may say. The last group injects faults, for tests only."""

    delay: float = 0.0  # seconds that each step takes
    vocab_size: int = 32_000
    max_model_len: int = 4096  # unless the spec says
    blocks: int | None = None  # KV blocks; None: enough for a full batch
    script: str = ""  # `5-6-7`: these tokens instead of the prompt's
    load_bytes: int = 0  # report so many bytes of weights, in four steps of `load_delay` seconds
    load_delay: float = 0.0
    adapter_delay: float = 0.0  # seconds that an adapter's load takes, beside the steps
    sleep_delay: float = 0.0
    wake_delay: float = 0.0

    start: Literal["", "fail", "crash", "hang"] = ""  # StartError, SIGKILL, or never ready
    wake: Literal["", "crash"] = ""  # SIGKILL when told to wake
    fail_token: int = -1  # generating this token fails the sequence
    raise_token: int = -1  # … raises out of `step`
    crash_token: int = -1  # … kills the process
    hang_token: int = -1  # … never returns


def parse(model: str) -> Options:
    """The options in `model`; `StartError` names the one that is wrong."""
    if not model.startswith("echo:"):
        return Options()
    pairs = (part.partition("=") for part in model.removeprefix("echo:").split(",") if part)
    try:
        return msgspec.convert({k.strip(): v.strip() for k, _, v in pairs}, Options, strict=False)
    except msgspec.ValidationError as error:
        raise StartError("bad_option", f"The echo engine's options are wrong: {error}") from error


def describe(spec: EngineSpec, options: Options, load_s: float) -> EngineInfo:
    """What an echo engine with these options is."""
    max_model_len = spec.max_model_len or options.max_model_len
    full_batch = spec.max_batch_size * -(-max_model_len // spec.block_size)
    return EngineInfo(
        engine="echo",
        architecture="Echo",
        runner="echo",
        vocab_size=options.vocab_size,
        max_model_len=max_model_len,
        max_batch_size=spec.max_batch_size,
        max_batch_tokens=spec.max_batch_tokens,
        block_size=spec.block_size,
        num_blocks=full_batch if options.blocks is None else options.blocks,
        dtype="none",
        device="cpu",
        weight_bytes=options.load_bytes,
        kv_cache_bytes=0,
        load_s=load_s,
        memory=MemoryUse(weights=options.load_bytes, kv_cache=spec.kv_cache_bytes or 0),
        max_adapters=spec.max_adapters,
        max_adapter_rank=spec.max_adapter_rank,
        deterministic=spec.deterministic,
    )
