"""Everything at once: changes of names, requests, departures, in an order that a test chooses.

Each step starts its work and does not wait for it. Whatever happens, a request's tokens are those
of the generation that it says it ran with, and in the end nothing is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from inferd.errors import Conflict, NotFound, Unavailable
from inferd.messages import Caller, Chunk, Done, Generate, Start
from tests.adapters.world import World

NAMES = ("a", "b", "c", "d")
MOST_TOKENS = 40  # of one reply
PATIENCE_S = 60.0  # for all of it; longer means that something waits for ever

Tokens = tuple[int, ...]
Expected = dict[tuple[str, Tokens], Tokens]
"""(generation, prompt) → the tokens that it gives alone; at least as many as any step asks for."""


@dataclass(frozen=True)
class Step:
    """One thing to begin, and for how many milliseconds others work before the next."""

    what: str
    name: str
    which: int  # a source, or a request
    size: int  # tokens, or percent
    pause: int


SWAPS = ("replace", "swap", "swap", "rollback", "return", "promote")
CHANGES = ("load", "load", *SWAPS, *SWAPS, "canary", "canary", "shadow", "stop_trial")
REQUESTS = ("request", "request", "request", "several", "several", "base", "abort", "cancel")
UNLOADS = ("unload", "hurry")

steps = st.lists(
    st.builds(
        Step,
        what=st.sampled_from(CHANGES + 3 * REQUESTS + UNLOADS),
        name=st.sampled_from(NAMES + NAMES[:1] * 4),
        which=st.integers(0, 3),
        size=st.one_of(st.integers(1, MOST_TOKENS), st.just(MOST_TOKENS)),
        pause=st.sampled_from([0, 0, 0, 1, 5, 10]),
    ),
    min_size=20,
    max_size=80,
)


@dataclass
class Asked:
    """One request, and what came of it."""

    request: Generate
    generation: str | None = None  # None: it was refused
    said: dict[int, list[int]] = field(default_factory=dict)  # by choice
    done: bool = False
    leave: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Interleaving:
    """A run of steps.

    Args:
        sources: folders of adapters.
        prompts: what requests ask.
    """

    def __init__(self, here: World, sources: list[str], prompts: list[Tokens]) -> None:
        self._here = here
        self._sources = sources
        self._prompts = prompts
        self._asked: list[Asked] = []
        self._changes: list[asyncio.Task[object]] = []

    async def run(self, steps: list[Step], expected: Expected) -> None:
        """Load a few names, do `steps`, wait for all that they began, and check everything."""
        async with asyncio.timeout(PATIENCE_S):
            for name, source in zip(NAMES, self._sources, strict=False):
                await self._here.adapters.load(name, source)
            for step in steps:
                self._begin(step)
                await asyncio.sleep(step.pause / 1000)
                self._check_names()
            await self._all_done()
            for name in NAMES:
                if self._here.adapters.find(name) is not None:
                    await self._here.adapters.unload(name, wait=True)
            assert await self._here.held() == 0
        for asked in self._asked:
            self._check(asked, expected)

    def _begin(self, step: Step) -> None:
        if step.what in ("abort", "cancel"):
            self._leave(step)
        elif step.what in REQUESTS:
            self._ask(step)
        else:
            change = asyncio.create_task(_allowed(self._change(step)))
            self._changes.append(change)

    def _change(self, step: Step) -> Coroutine[Any, Any, object]:
        adapters, name, source = self._here.adapters, step.name, self._sources[step.which]
        work: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
            "load": lambda: adapters.load(name, source),
            "replace": lambda: adapters.load(name, source, replace=True),
            "swap": lambda: adapters.swap(name, source),
            "rollback": lambda: adapters.rollback(name),
            "return": lambda: self._return(name),
            "canary": lambda: adapters.canary(name, source, step.size),
            "shadow": lambda: adapters.shadow(name, source, step.size),
            "promote": lambda: adapters.promote(name),
            "stop_trial": lambda: adapters.stop_trial(name),
            "unload": lambda: adapters.unload(name, wait=bool(step.which % 2)),
            "hurry": lambda: adapters.unload(name, deadline=step.which * 0.002),
        }
        return work[step.what]()

    async def _return(self, name: str) -> object:
        """To the oldest generation that is kept: the engine may just be dropping it."""
        kept = self._here.adapters.status(name).previous
        return await self._here.adapters.rollback(name, kept[0].generation if kept else None)

    def _ask(self, step: Step) -> None:
        request = Generate(
            model="echo" if step.what == "base" else step.name,
            prompt=self._prompts[step.which % len(self._prompts)],
            n=3 if step.what == "several" else 1,
            max_tokens=step.size,
            temperature=0.0,
            ignore_eos=True,
            skip_special_tokens=False,
        )
        asked = Asked(request)
        asked.task = asyncio.create_task(self._read(asked))
        self._asked.append(asked)

    def _leave(self, step: Step) -> None:
        if not self._asked:
            return
        asked = self._asked[-1 - step.which % len(self._asked)]
        if step.what == "abort":
            asked.leave.set()
        elif asked.task is not None:
            asked.task.cancel()

    async def _read(self, asked: Asked) -> None:
        service = self._here.service
        try:
            async with service.stream(asked.request, Caller("me"), request_id="r") as outputs:
                async for output in outputs:
                    if isinstance(output, Start):
                        asked.generation = output.adapter
                    elif isinstance(output, Chunk):
                        asked.said.setdefault(output.index, []).extend(output.token_ids)
                    elif isinstance(output, Done):
                        assert len(asked.said[output.index]) == asked.request.max_tokens
                    if asked.leave.is_set():
                        return
                asked.done = True
        except NotFound:
            pass
        except Unavailable as error:
            if error.code != "adapter_unloaded":
                raise

    async def _all_done(self) -> None:
        requests = [asked.task for asked in self._asked if asked.task is not None]
        for each in (*requests, *self._changes):
            try:
                await each
            except asyncio.CancelledError:
                assert each.cancelled()
        await self._here.adapters.settled()

    def _check_names(self) -> None:
        self._here.adapters.check()
        assert all(each.state in ("active", "draining") for each in self._here.adapters.list())

    def _check(self, asked: Asked, expected: Expected) -> None:
        assert isinstance(asked.request.prompt, tuple)
        if asked.generation is None:
            assert not asked.said
            return
        whole = expected[asked.generation, asked.request.prompt]
        for said in asked.said.values():
            assert tuple(said) == whole[: len(said)]
        if asked.done:
            wanted = {len(said) for said in asked.said.values()}
            assert wanted == {asked.request.max_tokens}
            assert len(asked.said) == asked.request.n


async def _allowed(change: Coroutine[Any, Any, object]) -> object:
    """A change may find that another one came before it."""
    try:
        return await change
    except (Conflict, NotFound) as error:
        return error
