"""`inferd bench serve`: load on a running server, over HTTP."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from inferd.cli import CONTEXT, bench_options
from inferd.cli.bench_options import Number, Option, checked, count, failures
from inferd.cli.failure import Failure

if TYPE_CHECKING:
    from inferd.bench.serve import Found, Plan

METRICS = ("ttft", "tpot", "itl", "e2el")

HELP = """Put load on a server that speaks OpenAI's API, streaming, and measure it.

With --request-rate, requests go out at random times that are planned beforehand (an open loop,
Poisson unless --burstiness says otherwise). With --concurrency alone, so many run at once, and the
next is sent when one has ended (a closed loop). With neither, all are sent at once.

Latencies count from sending; in an open loop also from when the plan said to send, so that a
client or a limit that holds requests back hides nothing. Goodput counts from the plan."""

EPILOG = """\b
Examples:
  inferd bench serve --concurrency 32 --input-len 256 --output-len 64
  inferd bench serve --request-rate 4 --goodput ttft:500 --goodput itl:100 --plot run.svg
  inferd bench serve --base-url https://api.example.com/v1 --endpoint /v1/chat/completions"""


def _serve(**params: Any) -> None:
    with failures():
        path = bench_options.result_path(params, "serve")
        plot, detailed = params.pop("plot"), params.pop("save_detailed")
        metrics = params.pop("percentile_metrics")
        plan = _plan(params)
        found = _run(plan)
        _show(plan, found, metrics)
        if path is not None:
            _save(path, plan, found, detailed)
        if plot is not None:
            _draw(plot, plan, found)
    if not found.report.completed:
        raise Failure("no request ended well")


def _plan(params: dict[str, Any]) -> Plan:
    from inferd.bench.goodput import parse_objectives
    from inferd.bench.serve import Plan, locate
    from inferd.bench.workload import Lengths

    lengths = Lengths(
        *(params.pop(name) for name in ("input_len", "output_len", "range_ratio", "prefix_len"))
    )
    objectives = checked(lambda: parse_objectives(params.pop("goodput")))
    checked(lambda: locate(params["base_url"], params["endpoint"]))
    return Plan(lengths=lengths, objectives=objectives, **params)


def _run(plan: Plan) -> Found:
    import uvloop
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

    from inferd.bench.serve import run

    console = Console(stderr=True)
    bar = Progress(
        *Progress.get_default_columns()[:2],
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        task = bar.add_task("Requests", total=None)
        return runner.run(
            run(
                plan,
                note=lambda text: console.print(text, highlight=False, markup=False),
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
        )


def _show(plan: Plan, found: Found, metrics: tuple[str, ...]) -> None:
    from rich.console import Console

    from inferd.bench.output import show_serving

    show_serving(Console(), found.report, metrics, open_loop=not plan.closed)


def _save(path: Path, plan: Plan, found: Found, detailed: bool) -> None:
    from inferd.bench.output import save
    from inferd.bench.serving import details

    config = {name: value for name, value in vars(plan).items() if name != "api_key"}
    if math.isinf(plan.request_rate):
        config["request_rate"] = "inf"  # JSON has no such number
    more: dict[str, Any] = {"model": found.model, "server_version": found.server_version}
    if detailed:
        more["requests"] = details(found.records)
    save(path, "serve", config, found.report, tokenization=found.tokenization, **more)
    bench_options.wrote(path)


def _draw(path: Path, plan: Plan, found: Found) -> None:
    from inferd.bench.output import write
    from inferd.bench.plots import plot

    caption = f"{found.model}, {plan.base_url}"
    write(path, plot(found.records, caption, open_loop=not plan.closed))
    bench_options.wrote(path)


def _extra(ctx: click.Context, param: click.Parameter, value: str | None) -> dict[str, Any]:
    if value is None:
        return {}
    try:
        extra = json.loads(value)
    except ValueError as error:
        raise click.BadParameter(f"it is not JSON: {error}") from error
    if not isinstance(extra, dict):
        raise click.BadParameter("it is not a JSON object.")
    return extra


def _metrics(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
    metrics = tuple(value.split(","))
    for metric in metrics:
        if metric not in METRICS:
            raise click.BadParameter(f"there is no {metric!r}; there are {', '.join(METRICS)}.")
    return metrics


_SERVER = [
    Option(
        ["--base-url", "--url", "base_url"],
        envvar="INFERD_URL",
        default="http://127.0.0.1:8000",
        show_default=True,
        help="The server, with or without /v1; $INFERD_URL.",
    ),
    Option(
        ["--endpoint"],
        default="/v1/completions",
        show_default=True,
        metavar="PATH",
        help="/v1/completions or /v1/chat/completions.",
    ),
    Option(["--model"], default="", help="Which model. [default: the first it lists]"),
    Option(
        ["--api-key"],
        envvar=["INFERD_API_KEY", "OPENAI_API_KEY"],
        default="",
        help="Key to send; $INFERD_API_KEY or $OPENAI_API_KEY.",
    ),
]
_LOAD = [
    count("--num-prompts", "How many requests. [default: 100, or the dataset's lines]"),
    Option(
        ["--dataset-path"],
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help='Prompts of a JSONL file, {"prompt": "…", "output_tokens": 100} per line.',
    ),
    Option(
        ["--request-rate"],
        type=Number(infinite=True),
        default=math.inf,
        show_default=True,
        help="Requests per second.",
    ),
    Option(
        ["--burstiness"],
        type=Number(),
        default=1.0,
        show_default=True,
        help="1: Poisson arrivals; less: in bursts; more: evenly.",
    ),
    count("--max-concurrency/--concurrency", "At most so many requests at once."),
    count("--num-warmups", "Requests before those that count.", least=0, default=1),
    count("--seed", "Of prompts and arrival times.", least=0, default=0),
]
_REQUEST = [
    Option(
        ["--temperature"],
        type=click.FloatRange(min=0),
        metavar="NUMBER",
        default=0.0,
        show_default=True,
        help="0: greedy.",
    ),
    Option(
        ["--ignore-eos/--no-ignore-eos"],
        default=True,
        help="Whether to send ignore_eos and min_tokens, so that replies have their length; not "
        "every server knows them.",
    ),
    Option(["--extra-body"], callback=_extra, metavar="JSON", help="More fields for each request."),
    Option(
        ["--timeout"],
        type=Number(),
        default=600.0,
        show_default=True,
        help="Seconds that a request may take.",
    ),
]
_REPORT = [
    Option(
        ["--goodput"],
        multiple=True,
        metavar="METRIC:MS",
        help="Objective for goodput: ttft, tpot, itl or e2el in ms; may be repeated.",
    ),
    Option(
        ["--percentile-metrics"],
        default=",".join(METRICS),
        show_default=True,
        callback=_metrics,
        metavar="LIST",
        help="Which latencies to print.",
    ),
    bench_options.percentiles(),
    *bench_options.results(),
    Option(["--save-detailed"], is_flag=True, help="Write every request's times into them, too."),
    Option(
        ["--plot"],
        type=click.Path(dir_okay=False, writable=True, path_type=Path),
        callback=bench_options.in_a_folder,
        metavar="FILE",
        help="Draw latencies and throughput there, as SVG.",
    ),
]

command = click.Command(
    "serve",
    callback=_serve,
    params=[*_SERVER, *_LOAD, *bench_options.lengths(512, 128), *_REQUEST, *_REPORT],
    help=HELP,
    epilog=EPILOG,
    context_settings=CONTEXT,
)
