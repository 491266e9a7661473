"""Requests of every kind, and whether they come out the same to the bit in other company."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from msgspec.structs import replace as changed

from benchmarks.verify_numbers.drive import Transcript, drive
from inferd.engines.native.core import NativeCore
from inferd.engines.native.grammars import Grammars
from inferd.engines.native.model import Model
from inferd.engines.native.stepping import capture_for
from inferd.messages import Sampling, Submit
from inferd_kernels.cpu.library import library, set_threads
from inferd_scheduler import SchedulerConfig

OUTPUT = 9  # tokens generated per request


def make(
    model: Model,
    limit: int,
    *,
    grammars: Grammars | None = None,
    ahead: bool | None = None,
    **changes: Any,
) -> NativeCore:
    """An engine with room for everything, but for the `changes`."""
    config = SchedulerConfig(
        max_batch_size=40,
        max_batch_tokens=8192,
        num_blocks=2000,
        block_size=4,
        max_model_len=limit,
        max_adapters=0,
    )
    return NativeCore(
        model,
        replace(config, **changes),
        grammars=grammars,
        ahead=ahead,
        capture=capture_for(model, enforce_eager=False),
    )


def requests(vocab_size: int, limit: int, count: int, *, scored: bool = True) -> list[Submit]:
    """Of mixed lengths, greedy and sampled, with filters, penalties, and scores of prompts."""
    generator = torch.Generator().manual_seed(17)
    asked = []
    for n in range(count):
        length = int(torch.randint(1, limit - OUTPUT, (1,), generator=generator))
        prompt = torch.randint(vocab_size, (length,), generator=generator).tolist()
        sampling = Sampling(
            temperature=0.0 if n % 3 == 0 else 0.9,
            top_p=0.9 if n % 4 == 1 else 1.0,
            top_k=20 if n % 5 == 2 else 0,
            repetition_penalty=1.2 if n % 7 == 3 else 1.0,
            seed=n,
            logprobs=3,
            prompt_logprobs=2 if scored and n % 2 else None,
        )
        asked.append(Submit(f"r{n}", tuple(prompt), OUTPUT, sampling))
    return asked


def renamed(asked: Iterable[Submit], **changes: Any) -> list[Submit]:
    """The same requests again, by other names."""
    return [changed(each, request_id=f"{each.request_id}-again", **changes) for each in asked]


def alone(core: NativeCore, asked: Iterable[Submit]) -> dict[str, Transcript]:
    """One after the other."""
    got: dict[str, Transcript] = {}
    for each in asked:
        got |= drive(core, [each])
    return got


def differing(got: Mapping[str, Transcript], expected: Mapping[str, Transcript]) -> list[str]:
    """Requests whose tokens or logprobs are not the same to the bit."""
    return [name for name, one in expected.items() if bits(got[name]) != bits(one)]


def bits(one: Transcript) -> object:
    """All that is promised of a request."""
    assert one.finish.reason in ("length", "stop")
    return one.tokens, one.logprobs, one.prompt


@contextmanager
def threads(count: int) -> Iterator[None]:
    """The kernels run on so many."""
    loaded = library()
    assert loaded is not None, "the tests need a C++ compiler"
    set_threads(loaded, count)
    yield
    set_threads(loaded, torch.get_num_threads())
