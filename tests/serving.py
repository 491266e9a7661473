"""A service over the echo engine, for the tests of service, registry and metrics."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio

from inferd.admission import Admission
from inferd.engines import echo
from inferd.engines.base import EngineSpec
from inferd.engines.local import LocalEngine
from inferd.messages import Caller, Chunk, Done, Generate, Output, Usage
from inferd.metrics import Metrics
from inferd.registry import Deployment, Registry
from inferd.service import Service
from inferd.text.chat import ChatTemplate
from inferd.text.model import TextModel, with_parsers
from tests.text import samples, templates

TOKENIZER = samples.byte_level()
TEXT = with_parsers(
    TextModel(
        TOKENIZER,
        ChatTemplate({"default": templates.CHATML}, TOKENIZER.special_tokens),
        eos_ids=frozenset({TOKENIZER.eos_id or 0}),
    )
)


def ids(text: str) -> tuple[int, ...]:
    return tuple(TOKENIZER.encode(text, add_special_tokens=False))


@dataclass
class Setup:
    service: Service
    engine: LocalEngine

    async def run(self, request: Generate, caller: str = "someone") -> list[Output]:
        """All outputs of a request."""
        async with self.service.stream(request, Caller(caller), request_id="r") as outputs:
            return [output async for output in outputs]

    async def idle(self) -> None:
        """Wait until nothing is left: no permit, no sequence."""
        with anyio.fail_after(30):  # what a caller has left ends a moment later
            while self.service.admission.in_flight:
                await self.engine.stats()
            while (stats := await self.engine.stats()).running or stats.waiting:
                pass


@asynccontextmanager
async def serving(
    *, options: str = "", limit: int = 64, text: TextModel = TEXT, **spec: Any
) -> AsyncIterator[Setup]:
    """An echo engine named `echo`, alias `other`; nothing may be left in it at the end."""
    vocabulary = f"echo:vocab_size={TOKENIZER.vocab_size}"
    model = ",".join(filter(None, [vocabulary, options]))
    engine = LocalEngine(echo.create, EngineSpec(engine="echo", model=model, **spec))
    await engine.start(lambda progress: None)
    registry = Registry()
    registry.add(Deployment("echo", engine, text, created=1, aliases=("other",)))
    seeds = itertools.count(1000)
    setup = Setup(
        Service(registry, Admission(limit), Metrics(), entropy=lambda: next(seeds)), engine
    )
    try:
        yield setup
        if engine.state == "ready":
            await setup.idle()
    finally:
        await engine.close()


def ask(prompt: str | tuple[int, ...] = "Hello world", **fields: Any) -> Generate:
    return Generate(model=fields.pop("model", "echo"), prompt=prompt, **fields)


def texts(outputs: list[Output]) -> list[str]:
    """Each choice's text."""
    joined: dict[int, str] = {}
    for output in outputs:
        if isinstance(output, Chunk):
            joined[output.index] = joined.get(output.index, "") + output.text
        if isinstance(output, Done):
            joined.setdefault(output.index, "")
    return [joined[index] for index in sorted(joined)]


def usage(outputs: list[Output]) -> Usage:
    last = outputs[-1]
    assert isinstance(last, Usage)
    return last


async def collect(setup: Setup, request: Generate, into: list[Output]) -> None:
    """Append all outputs, also those before an error."""
    async with setup.service.stream(request, Caller(), request_id="a") as outputs:
        async for output in outputs:
            into.append(output)
