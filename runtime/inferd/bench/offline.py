"""An engine without HTTP: its core in this process, one step after the other."""

from __future__ import annotations

import gc
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from msgspec import Struct

from inferd.bench.errors import BenchError
from inferd.bench.statistics import PERCENTILES, Summary, summarise
from inferd.bench.workload import Lengths, drawn
from inferd.engines import catalog
from inferd.engines.base import Core, EngineSpec, Progress
from inferd.messages import EngineInfo, Event, Fail, Finish, Sampling, Submit, Tokens

_WARM = 2  # sequences before those that count


@dataclass(frozen=True)
class ThroughputPlan:
    """What `inferd bench throughput` may be told, the engine apart."""

    num_prompts: int = 100
    lengths: Lengths = Lengths(512, 128)  # noqa: RUF009 (frozen)
    temperature: float = 0.0
    seed: int = 0
    percentiles: tuple[float, ...] = PERCENTILES


@dataclass(frozen=True)
class LatencyPlan:
    """What `inferd bench latency` may be told, the engine apart. Lengths in tokens."""

    batch_size: int = 8
    input_len: int = 32
    output_len: int = 128
    num_iters: int = 10
    num_warmups: int = 2
    temperature: float = 0.0
    seed: int = 0
    percentiles: tuple[float, ...] = PERCENTILES


@dataclass(frozen=True)
class Step:
    """One turn of the core."""

    seconds: float
    tokens: int  # that it brought
    first: int  # sequences whose first token was among them


@dataclass(frozen=True)
class Run:
    """What became of a set of sequences. `seconds`: from the first submission to the last end."""

    seconds: float
    steps: tuple[Step, ...]
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int  # of the prompts, whose KV was there before
    finished: int
    failures: dict[str, int]  # by code
    failure_messages: dict[str, str]


class Throughput(Struct, frozen=True):
    """Many sequences, as fast as they go; per second of `duration_s`."""

    duration_s: float
    completed: int
    errors: dict[str, int]
    error_messages: dict[str, str]
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int
    request_throughput: float
    output_throughput: float
    total_token_throughput: float
    steps: int
    step_s: Summary


class Latency(Struct, frozen=True):
    """One batch, several times; seconds, and tokens per second.

    A batch's prefill lasts until the step in which its last sequence gets the first token, its
    decode from there to the end. `prefill_throughput` is of prompt tokens, `decode_throughput` of
    the output tokens that come after the prefill.
    """

    latency_s: Summary
    prefill_s: Summary
    decode_step_s: Summary
    prefill_throughput: Summary
    decode_throughput: Summary


def load(spec: EngineSpec, note: Callable[[Progress], None]) -> Core:
    """The engine's core, as a daemon's child process has it. Raises `StartError`."""
    core = catalog.find(spec.engine)(spec, note)
    gc.collect()
    gc.freeze()  # as the child does: what loading made stays
    return core


def bench_throughput(
    core: Core, plan: ThroughputPlan, *, clock: Callable[[], float] = time.perf_counter
) -> Throughput:
    """Two sequences that are not counted, then all of the plan's. Raises BenchError."""
    chance = random.Random(plan.seed)
    vocabulary, asked = range(core.info.vocab_size), plan.lengths

    def submits(count: int) -> list[Submit]:
        prefix = chance.choices(vocabulary, k=asked.prefix_len)
        made = []
        for _ in range(count):
            ids = chance.choices(vocabulary, k=drawn(asked.input_len, asked.range_ratio, chance))
            output = drawn(asked.output_len, asked.range_ratio, chance)
            made.append(_submit([*prefix, *ids], output, plan, chance))
        return made

    run(core, submits(_WARM), clock=clock)
    return throughput(run(core, submits(plan.num_prompts), clock=clock), plan.percentiles)


def bench_latency(
    core: Core, plan: LatencyPlan, *, clock: Callable[[], float] = time.perf_counter
) -> Latency:
    """The plan's batches, one after the other, of other prompts each. Raises BenchError."""
    _check_fits(core.info, plan)
    chance = random.Random(plan.seed)
    vocabulary = range(core.info.vocab_size)
    runs = []
    for _ in range(plan.num_warmups + plan.num_iters):
        submits = [
            _submit(chance.choices(vocabulary, k=plan.input_len), plan.output_len, plan, chance)
            for _ in range(plan.batch_size)
        ]
        runs.append(run(core, submits, clock=clock))
    return latency(runs[plan.num_warmups :], plan.batch_size, plan.percentiles)


def _submit(
    prompt: list[int],
    output_len: int,
    plan: ThroughputPlan | LatencyPlan,
    chance: random.Random,
) -> Submit:
    """A sequence that no stop token ends."""
    sampling = Sampling(temperature=plan.temperature, seed=chance.getrandbits(63))
    return Submit(f"bench-{chance.getrandbits(64):x}", tuple(prompt), output_len, sampling)


def run(
    core: Core, submits: Sequence[Submit], *, clock: Callable[[], float] = time.perf_counter
) -> Run:
    """Submit all at once and step until all have ended."""
    events: list[Event] = []
    steps: list[Step] = []
    began = clock()
    for submit in submits:
        events += core.submit(submit)
    while core.busy:
        before = clock()
        new = core.step()
        steps.append(_step(clock() - before, new))
        events += new
    seconds = clock() - began
    tokens = [event for event in events if isinstance(event, Tokens)]
    fails = [event for event in events if isinstance(event, Fail)]
    return Run(
        seconds,
        tuple(steps),
        sum(len(submit.prompt) for submit in submits),
        sum(len(event.token_ids) for event in tokens),
        sum(event.begun.cached_tokens for event in tokens if event.begun is not None),
        sum(isinstance(event, Finish) for event in events),
        dict(Counter(fail.code for fail in fails)),
        {fail.code: fail.message for fail in reversed(fails)},
    )


def _step(seconds: float, events: Sequence[Event]) -> Step:
    tokens = [event for event in events if isinstance(event, Tokens)]
    first = sum(event.begun is not None for event in tokens)
    return Step(seconds, sum(len(event.token_ids) for event in tokens), first)


def throughput(done: Run, percentiles: Sequence[float] = PERCENTILES) -> Throughput:
    """Raises BenchError where nothing ended well."""
    if not done.finished:
        raise BenchError(f"every sequence failed: {done.failure_messages}")
    return Throughput(
        duration_s=done.seconds,
        completed=done.finished,
        errors=done.failures,
        error_messages=done.failure_messages,
        prompt_tokens=done.prompt_tokens,
        output_tokens=done.output_tokens,
        cached_tokens=done.cached_tokens,
        request_throughput=done.finished / done.seconds,
        output_throughput=done.output_tokens / done.seconds,
        total_token_throughput=(done.prompt_tokens + done.output_tokens) / done.seconds,
        steps=len(done.steps),
        step_s=summarise((step.seconds for step in done.steps), percentiles),
    )


def latency(
    runs: Sequence[Run], batch_size: int, percentiles: Sequence[float] = PERCENTILES
) -> Latency:
    """Raises BenchError where a sequence failed."""
    prefills, decodes = [], []
    for done in runs:
        if done.finished != batch_size:
            raise BenchError(f"a sequence failed: {done.failure_messages}")
        at = _prefill_end(done)
        prefills.append((sum(step.seconds for step in done.steps[:at]), done.prompt_tokens))
        decodes.append(done.steps[at:])
    decode_times = [step.seconds for steps in decodes for step in steps]
    return Latency(
        latency_s=summarise((done.seconds for done in runs), percentiles),
        prefill_s=summarise((seconds for seconds, _ in prefills), percentiles),
        decode_step_s=summarise(decode_times, percentiles),
        prefill_throughput=summarise((n / seconds for seconds, n in prefills), percentiles),
        decode_throughput=summarise(
            (
                sum(step.tokens for step in steps) / sum(step.seconds for step in steps)
                for steps in decodes
                if steps
            ),
            percentiles,
        ),
    )


def _prefill_end(done: Run) -> int:
    """How many steps it took until every sequence had its first token."""
    return 1 + max(index for index, step in enumerate(done.steps) if step.first)


def _check_fits(info: EngineInfo, plan: LatencyPlan) -> None:
    """Whether the batch runs as one. Raises BenchError."""
    length = plan.input_len + plan.output_len
    if length > info.max_model_len:
        raise BenchError(
            f"--input-len {plan.input_len} and --output-len {plan.output_len} exceed the model's "
            f"{info.max_model_len} tokens"
        )
    blocks = plan.batch_size * -(-length // info.block_size)
    if blocks > info.num_blocks:
        raise BenchError(
            f"--batch-size {plan.batch_size}: the KV cache holds {info.num_blocks} blocks, the "
            f"batch needs {blocks}; --kv-cache-bytes makes it larger"
        )
