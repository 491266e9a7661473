"""`inferd bench throughput` and `inferd bench latency`: an engine in this process, without HTTP."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from inferd.cli import CONTEXT, bench_options
from inferd.cli.bench_options import Option, count, failures
from inferd.cli.options import TableCommand, config_of, normalise, table_params
from inferd.config.serve import MEMORY, MODEL, SCHEDULING

if TYPE_CHECKING:
    from rich.console import Console

    from inferd.bench.offline import Latency, LatencyPlan, Throughput, ThroughputPlan
    from inferd.engines.base import Core, EngineSpec

Plan = TypeVar("Plan")
Result = TypeVar("Result")

_GROUPS = (MODEL, SCHEDULING, MEMORY)

THROUGHPUT = """Run prompts through an engine as fast as it goes, without HTTP.

All prompts, of random tokens, are submitted at once. MODEL and the engine's options are those of
`inferd serve`; --seed also makes the prompts."""

LATENCY = """Run one batch through an engine several times, without HTTP.

Prefill and decode are told apart: prefill lasts until every sequence has its first token. MODEL and
the engine's options are those of `inferd serve`; --seed also makes the prompts."""


def _throughput(**params: Any) -> None:
    from inferd.bench import offline
    from inferd.bench.output import show_throughput
    from inferd.bench.workload import Lengths

    sizes = _own(params, "input_len", "output_len", "range_ratio", "prefix_len")
    own = _own(params, "num_prompts", "temperature", "percentiles")
    room = {"max_queue_requests": own["num_prompts"], "max_queue_tokens": 1 << 40}

    def measure(core: Core, seed: int) -> tuple[ThroughputPlan, Throughput]:
        plan = offline.ThroughputPlan(lengths=Lengths(**sizes), seed=seed, **own)
        return plan, offline.bench_throughput(core, plan)

    _bench("throughput", params, room, measure, show_throughput)


def _latency(**params: Any) -> None:
    from inferd.bench import offline
    from inferd.bench.output import show_latency

    names = ("batch_size", "input_len", "output_len", "num_iters", "num_warmups")
    own = _own(params, *names, "temperature", "percentiles")

    def measure(core: Core, seed: int) -> tuple[LatencyPlan, Latency]:
        plan = offline.LatencyPlan(seed=seed, **own)
        return plan, offline.bench_latency(core, plan)

    _bench("latency", params, {"max_batch_size": own["batch_size"]}, measure, show_latency)


def _own(params: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: params.pop(name) for name in names}


def _bench(
    name: str,
    params: dict[str, Any],
    room: dict[str, int],
    measure: Callable[[Core, int], tuple[Plan, Result]],
    show: Callable[[Console, Result], None],
) -> None:
    """Load the engine that `params` ask for, measure it, show and write what was found.

    Args:
        room: the least that the engine's bounds must be.
    """
    from rich.console import Console

    from inferd.bench.output import save

    with failures():
        path = bench_options.result_path(params, name)
        spec, seed = _engine(params, room)
        core = _load(spec)
        plan, found = measure(core, seed)
        info = core.info
        core.close()
        show(Console(), found)
        if path is not None:
            save(path, name, vars(plan), found, engine_spec=spec, engine=info)
            bench_options.wrote(path)


def _engine(params: dict[str, Any], room: dict[str, int]) -> tuple[EngineSpec, int]:
    """What the options ask for, and the seed."""
    from msgspec.structs import replace

    from inferd.weights import resolve
    from inferd.wiring import engine_spec

    config = config_of(params)
    spec = engine_spec(config, resolve(config.model, config.revision).path)
    least = {name: max(value, getattr(spec, name)) for name, value in room.items()}
    return replace(spec, **least), config.seed or 0


def _load(spec: EngineSpec) -> Core:
    from inferd.bench import offline
    from inferd.engines.process import child_environment

    os.environ.update(child_environment(os.environ))  # as models' processes have it
    click.echo(f"Loading {spec.model}", err=True)
    return offline.load(spec, lambda progress: None)


def _temperature() -> click.Option:
    return Option(
        ["--temperature"],
        type=click.FloatRange(min=0),
        metavar="NUMBER",
        default=0.0,
        show_default=True,
        help="0: greedy.",
    )


def _command(
    name: str, run: Callable[..., None], own: list[click.Parameter], text: str
) -> click.Command:
    return TableCommand(
        name,
        callback=run,
        params=[
            *own,
            *bench_options.results(),
            *table_params(_GROUPS),
        ],
        help=text,
        context_settings=CONTEXT | {"token_normalize_func": normalise},
    )


throughput = _command(
    "throughput",
    _throughput,
    [
        count("--num-prompts", "How many sequences.", default=100),
        *bench_options.lengths(512, 128),
        _temperature(),
        bench_options.percentiles(),
    ],
    THROUGHPUT,
)
latency = _command(
    "latency",
    _latency,
    [
        count("--batch-size", "Sequences at once.", default=8),
        count("--input-len", "Prompt tokens.", default=32),
        count("--output-len", "Output tokens.", default=128),
        count("--num-iters", "How often, counted.", default=10),
        count("--num-warmups/--num-iters-warmup", "How often before that.", least=0, default=2),
        _temperature(),
        bench_options.percentiles(),
    ],
    LATENCY,
)
