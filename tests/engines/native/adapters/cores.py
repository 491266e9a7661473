"""Native cores with adapters, and requests to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.verify_numbers.drive import drive
from inferd.engines.base import AdapterNews
from inferd.engines.native.core import NativeCore
from inferd.engines.native.decoder import Decoder
from inferd.messages import (
    LoadAdapter,
    Sampling,
    Submit,
)
from inferd_scheduler import SchedulerConfig

GREEDY = Sampling(temperature=0.0)
SIZE = 4 * 4 * 3 * ((60 + 60) + (88 + 60))  # bytes of one adapter: q_proj and down_proj, rank 4
Expected = Callable[[tuple[int, ...], str], list[int]]


def make(
    model: Decoder, *, host_bytes: int = 1 << 30, ahead: bool = False, **changes: Any
) -> NativeCore:
    options: dict[str, Any] = {
        "max_batch_size": 8,
        "max_batch_tokens": 64,
        "num_blocks": 60,
        "block_size": 4,
        "max_model_len": 100,
        "max_adapters": 2,
    }
    config = SchedulerConfig(**options | changes)
    return NativeCore(model, config, adapter_host_bytes=host_bytes, ahead=ahead)


def load(core: NativeCore, adapters: dict[str, Path], *names: str) -> list[AdapterNews]:
    for name in names:
        core.load_adapter(LoadAdapter(name, str(adapters[name])))
    drive(core, ())
    return core.adapter_news()


def ask(name: str, adapter: str = "", prompt: Iterable[int] = (5, 6, 7), count: int = 6) -> Submit:
    return Submit(name, tuple(prompt), count, GREEDY, adapter=adapter)


def tokens_of(core: NativeCore, one: Submit) -> list[int]:
    return drive(core, [one])[one.request_id].tokens
