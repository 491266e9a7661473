"""`inferd check`: does this machine have what inferd needs? Tried out, end to end."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import click

from inferd.cli import CONTEXT
from inferd.config import DEMO_MODEL
from inferd.errors import InferdError
from inferd.units import human_bytes

NEEDED_BYTES = 1 << 30  # for torch, the daemon and the demo model
QUESTION, ANSWER = "What is 2 + 3?", "5"


class Problem(Exception):
    """A check failed; the text says what would help."""


@click.command("check", context_settings=CONTEXT)
@click.option("--port", type=int, default=8000, show_default=True, help="Port that should be free.")
def command(port: int) -> None:
    """Test this machine's set-up, up to an answer from the built-in model.

    Exits with 1 when something that inferd needs is missing.
    """
    checks: list[tuple[str, Callable[[], str]]] = [
        ("Python", python),
        ("torch", torch_device),
        ("memory", memory),
        ("C++ kernels", kernels),
        (f"port {port}", lambda: free_port(port)),
        ("demo model", demo_answer),
    ]
    results = [_run(name, check) for name, check in checks]
    raise SystemExit(0 if all(results) else 1)


def _run(name: str, check: Callable[[], str]) -> bool:
    """Run one check and print its line; whether it passed."""
    try:
        text, passed = check(), True
    except Problem as problem:
        text, passed = str(problem), False
    except InferdError as error:
        text, passed = error.message, False
    except Exception as error:  # whatever it is, it is what this command is there to find
        text, passed = f"{type(error).__name__}: {error}", False
    word, colour = ("ok  ", "green") if passed else ("fail", "red")
    click.secho(word, fg=colour, nl=False)
    click.echo(f"  {name:13} {text}")
    return passed


def python() -> str:
    return f"{sys.version.split()[0]}, inferd {version('inferd')}"


def torch_device() -> str:
    try:
        import torch
    except (ImportError, OSError) as error:
        raise Problem(f"cannot be imported: {error}") from error
    if not torch.cuda.is_available():
        return f"{torch.__version__}, on the CPU with {torch.get_num_threads()} threads"
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return f"{torch.__version__}, on {', '.join(names)}"


def memory() -> str:
    from inferd.engines.native.memory import available_bytes

    free = available_bytes()
    if free < NEEDED_BYTES:
        raise Problem(f"{human_bytes(free)} free; {human_bytes(NEEDED_BYTES)} are needed")
    return f"{human_bytes(free)} free"


def kernels() -> str:
    """They are optional: without them the CPU is slower, and nothing else changes."""
    from inferd.engines.native.report import cpu_kernels

    level, reason = cpu_kernels()
    return level or f"none: {reason}; the CPU runs plain torch, more slowly"


def free_port(port: int) -> str:
    from inferd.listening import listen

    listen("127.0.0.1", port).close()
    return "free"


def demo_answer() -> str:
    reply = asyncio.run(_ask(DEMO_MODEL, QUESTION))
    if ANSWER not in reply:
        raise Problem(f"{QUESTION!r} was answered with {reply!r}")
    return f"{QUESTION!r} is answered with {reply.strip()!r}"


async def _ask(model: str, question: str) -> str:
    """The greedy answer of `model`, through an engine in this process."""
    from inferd.admission import Admission
    from inferd.engines import catalog
    from inferd.engines.base import EngineSpec
    from inferd.engines.local import LocalEngine
    from inferd.messages import Caller, Chunk, Generate, Message
    from inferd.metrics import Metrics
    from inferd.registry import Deployment, Registry
    from inferd.service import Service
    from inferd.text.model import load_text
    from inferd.weights import resolve

    folder: Path = resolve(model).path
    spec = EngineSpec(model=str(folder), max_batch_size=1, kv_cache_bytes=64 << 20)
    engine = LocalEngine(catalog.find(spec.engine), spec)
    registry = Registry()
    registry.add(Deployment(model, engine, load_text(folder), created=0))
    service = Service(registry, Admission(), Metrics())
    messages = (Message(role="user", content=question),)
    request = Generate(model=model, messages=messages, temperature=0.0, max_tokens=64)
    try:
        await engine.start(lambda progress: None)
        async with service.stream(request, Caller(), request_id="check") as outputs:
            return "".join([each.text async for each in outputs if isinstance(each, Chunk)])
    finally:
        await engine.close()
