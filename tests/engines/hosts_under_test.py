"""Echo engines in child processes, for tests of the process's border."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from inferd.engines.base import EngineSpec, Progress
from inferd.engines.host import HostEngine
from inferd.engines.process import Limits
from inferd.messages import Event, Sampling, Submit

GREEDY = Sampling(temperature=0.0)
EAGER = Limits(pulse_s=0.05, backoff_s=0.01, stop_s=5.0)

Start = Callable[..., Awaitable[HostEngine]]


@asynccontextmanager
async def starter() -> AsyncIterator[Start]:
    """Starts echo engines with the given options in children, and closes them."""
    engines: list[HostEngine] = []

    async def start(
        options: str = "",
        *,
        limits: Limits = EAGER,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        **overrides: object,
    ) -> HostEngine:
        spec = EngineSpec(engine="echo", model=f"echo:{options}", **overrides)  # type: ignore[arg-type]
        engines.append(HostEngine(spec, limits=limits))
        await engines[-1].start(on_progress)
        return engines[-1]

    with anyio.fail_after(60):
        yield start
    for engine in engines:
        await engine.close()


async def collect(engine: HostEngine, submit: Submit) -> list[Event]:
    async with engine.stream(submit) as events:
        return [event async for event in events]


async def eventually(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 (nothing to await: another process, or its effects)
        await anyio.sleep(0.005)


async def until(engine: HostEngine, state: str) -> None:
    await eventually(lambda: engine.state == state)


def gone(pid: int) -> bool:
    """Whether no process has this id, or only the shell of a dead one."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True
    return status.rpartition(")")[2].split()[0] == "Z"
