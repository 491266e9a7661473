"""A benchmark of a running server: learn how it counts, warm it up, put load on it."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inferd.bench.arrivals import arrival_times
from inferd.bench.completions import Asked, Sender, error_text
from inferd.bench.errors import BenchError
from inferd.bench.load import Send, closed_loop, open_loop
from inferd.bench.record import Record
from inferd.bench.serving import Report, report
from inferd.bench.statistics import PERCENTILES
from inferd.bench.transport import Broken, Server, Transport
from inferd.bench.workload import (
    WORDS,
    Lengths,
    Prompt,
    Tokenization,
    file_prompts,
    random_prompts,
)

DEFAULT_PROMPTS = 100

_PATIENCE_S = 30.0


@dataclass(frozen=True)
class Plan:
    """All that `inferd bench serve` may be told.

    Attributes:
        request_rate: requests per second of an open loop; `inf` all at once, or, with
            `max_concurrency`, a closed loop of so many.
        dataset_path: prompts from a file in place of random ones.
        objectives: seconds by metric, for goodput.
    """

    base_url: str = "http://127.0.0.1:8000"
    endpoint: str = "/v1/completions"
    model: str = ""
    api_key: str = field(default="", repr=False)
    num_prompts: int | None = None
    lengths: Lengths = Lengths(512, 128)  # noqa: RUF009 (frozen)
    dataset_path: Path | None = None
    request_rate: float = math.inf
    burstiness: float = 1.0
    max_concurrency: int | None = None
    num_warmups: int = 1
    seed: int = 0
    temperature: float | None = 0.0
    ignore_eos: bool = True
    extra_body: dict[str, Any] = field(default_factory=dict)
    timeout: float = 600.0
    objectives: dict[str, float] = field(default_factory=dict)
    percentiles: tuple[float, ...] = PERCENTILES

    @property
    def patience(self) -> float:
        """Seconds for what is no completion."""
        return min(self.timeout, _PATIENCE_S)

    @property
    def closed(self) -> bool:
        return math.isinf(self.request_rate) and self.max_concurrency is not None


@dataclass(frozen=True)
class Found:
    """What a run brought."""

    model: str
    server_version: str  # "" where the server does not tell
    tokenization: Tokenization | None  # None: prompts came from a file
    report: Report
    records: list[Record]


async def run(
    plan: Plan,
    *,
    clock: Callable[[], float] = time.perf_counter,
    cpu_clock: Callable[[], float] = time.process_time,
    note: Callable[[str], None] = lambda text: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Found:
    """Carry out `plan`.

    Args:
        clock: seconds, monotonic.
        cpu_clock: seconds of the processor that this process has taken.
        note: told what happens, for a person who waits.
        progress: told of every request that has ended: how many have, and of how many.
    Raises:
        BenchError: the server cannot be reached or refuses the first request, or the prompts
            cannot be had.
    """
    server, path = locate(plan.base_url, plan.endpoint)
    transport = Transport(server, plan.api_key, clock=clock)
    try:
        model = plan.model or await first_model(transport, path, plan.patience)
        version = await server_version(transport, plan.patience)
        asked = Asked(path, model, plan.temperature, plan.ignore_eos, plan.extra_body)
        sender = Sender(transport, asked, clock=clock, timeout=plan.timeout)
        tokenization, prompts = await _prompts(plan, sender)
        note(f"{len(prompts)} requests to {model} at {plan.base_url}")
        await _warm_up(plan, sender, tokenization, prompts)
        cpu = cpu_clock()
        send = _reported(sender.send, lambda done: progress(done, len(prompts)))
        records = await _load(plan, prompts, send, clock)
        cpu = cpu_clock() - cpu
    finally:
        transport.close()
    made = report(
        records,
        client_cpu_s=cpu,
        objectives=plan.objectives,
        percentiles=plan.percentiles,
        capped=plan.max_concurrency is not None,
        fresh=plan.dataset_path is None and not plan.lengths.prefix_len,
    )
    return Found(model, version, tokenization, made, records)


def locate(base_url: str, endpoint: str) -> tuple[Server, str]:
    """The server and the path on it. A base that ends in `/v1`, as OpenAI's clients want it, and
    an endpoint that begins with it make one of it. Raises BenchError."""
    if not endpoint.startswith("/") or not endpoint.endswith("/completions"):
        raise BenchError(
            f"--endpoint {endpoint}: it must be a path that ends in /completions "
            "or /chat/completions"
        )
    base = base_url.rstrip("/")
    if endpoint.startswith("/v1/"):
        base = base.removesuffix("/v1")
    try:
        return Server.of(base), endpoint
    except ValueError as error:
        raise BenchError(f"--base-url: {error}") from error


class _Body:
    """A whole reply; a `Receiver`."""

    def __init__(self) -> None:
        self.status, self.content = 0, b""

    def head(self, status: int, content_type: str) -> None:
        self.status = status

    def body(self, chunk: bytes, now: float) -> None:
        self.content += chunk


async def _get(transport: Transport, path: str, patience: float) -> _Body:
    """Raises BenchError where no reply comes; any status is one."""
    reply = _Body()
    try:
        async with asyncio.timeout(patience):
            await transport.exchange("GET", path, b"", reply)
    except (Broken, TimeoutError) as error:
        raise BenchError(str(error) or f"no reply to GET {path} in {patience:g} s") from error
    return reply


async def first_model(transport: Transport, path: str, patience: float) -> str:
    """The first model that the server lists. Raises BenchError."""
    listing = path.removesuffix("/completions").removesuffix("/chat") + "/models"
    reply = await _get(transport, listing, patience)
    if reply.status != 200:
        raise BenchError(f"GET {listing}: {reply.status} {error_text(reply.content)}")
    try:
        return str(json.loads(reply.content)["data"][0]["id"])
    except (ValueError, LookupError, TypeError) as error:
        raise BenchError(f"GET {listing} lists no model; name one with --model") from error


async def server_version(transport: Transport, patience: float) -> str:
    """What GET /version says, on servers that have it, as vLLM and inferd."""
    reply = await _get(transport, "/version", patience)
    try:
        return str(json.loads(reply.content)["version"]) if reply.status == 200 else ""
    except (ValueError, LookupError, TypeError):
        return ""


async def _prompts(plan: Plan, sender: Sender) -> tuple[Tokenization | None, list[Prompt]]:
    if plan.dataset_path is not None:
        prompts = file_prompts(plan.dataset_path, plan.num_prompts, plan.lengths.output_len)
        return None, prompts
    tokenization = await learn(sender)
    count = DEFAULT_PROMPTS if plan.num_prompts is None else plan.num_prompts
    return tokenization, random_prompts(count, plan.lengths, tokenization, plan.seed)


async def learn(sender: Sender) -> Tokenization:
    """How the server counts words, by the usage of two requests. Raises BenchError."""
    counts = []
    for times in (1, 2):
        record = await _accepted(sender, Prompt(" ".join(WORDS * times), output_len=1))
        if record.prompt_tokens is None:
            raise BenchError(
                "the server tells no usage, so prompts of a given length cannot be made; "
                "give them with --dataset-path"
            )
        counts.append(record.prompt_tokens)
    return Tokenization.measured(*counts)


async def _accepted(sender: Sender, prompt: Prompt) -> Record:
    """A request that must succeed. One without any text is good enough."""
    record = await sender.send(prompt, -1, 0.0)
    if not record.ok and record.error != "no_tokens":
        hint = ""
        if record.error in ("http_400", "http_422"):
            hint = "; --no-ignore-eos leaves out the fields that not every server knows"
        raise BenchError(f"the server refused a first request: {record.message}{hint}")
    return record


async def _warm_up(
    plan: Plan, sender: Sender, tokenization: Tokenization | None, prompts: Sequence[Prompt]
) -> None:
    """Requests that are not counted, at most as many at once as the load has. Random prompts are
    other ones than the load's, whose prefixes stay unknown to the server."""
    count = plan.num_warmups
    shown = [prompts[i % len(prompts)] for i in range(count)]
    if tokenization is not None:
        shown = random_prompts(count, plan.lengths, tokenization, ~plan.seed)
    most = plan.max_concurrency or count or 1
    for begin in range(0, count, most):
        batch = shown[begin : begin + most]
        await asyncio.gather(*(_accepted(sender, prompt) for prompt in batch))


def _reported(send: Send, progress: Callable[[int], None]) -> Send:
    """`send`, which says how many have ended."""
    ended = itertools.count(1)

    async def reported(prompt: Prompt, index: int, scheduled: float) -> Record:
        record = await send(prompt, index, scheduled)
        progress(next(ended))
        return record

    return reported


async def _load(
    plan: Plan, prompts: Sequence[Prompt], send: Send, clock: Callable[[], float]
) -> list[Record]:
    most = plan.max_concurrency
    if plan.closed and most is not None:
        return await closed_loop(prompts, most, send, clock=clock)
    times = arrival_times(len(prompts), plan.request_rate, plan.burstiness, plan.seed)
    return await open_loop(prompts, times, send, clock=clock, max_concurrency=most)
