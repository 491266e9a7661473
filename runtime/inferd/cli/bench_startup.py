"""`inferd bench startup`: from a daemon's start to its first token."""

from __future__ import annotations

from typing import Any

import click

from inferd.cli import CONTEXT, bench_options
from inferd.cli.bench_options import Option, count, failures
from inferd.cli.options import TableCommand, config_of, normalise, table_params
from inferd.config.serve import MEMORY, MODEL, SCHEDULING
from inferd.config.sources import flag

HELP = """Start daemons one after the other and measure how soon each gives its first token.

MODEL and the options are passed on to `inferd serve`. Which part of the weights the system held in
memory before a start is told; --cold has it forget them first."""


def _startup(**params: Any) -> None:
    from rich.console import Console

    from inferd.bench import output, startup
    from inferd.weights import resolve, weight_files

    with failures():
        path = bench_options.result_path(params, "startup")
        number, warmups = params.pop("num_iters"), params.pop("num_warmups")
        cold = params.pop("cold")
        options = _flags(params)
        config = config_of(params)
        folder = resolve(config.model, config.revision).path
        key = config.api_key[0] if config.api_key else ""
        starts = []
        for index in range(warmups + number):
            start = startup.measure(options, weight_files(folder), key=key, cold=cold)
            counted = "" if index >= warmups else " (warm-up)"
            click.echo(f"first token after {start.first_token_s:.2f} s{counted}", err=True)
            starts.append(start)
        found = startup.summary(starts[warmups:])
        output.show_startup(Console(), found)
        if path is not None:
            output.save(path, "startup", {"options": options, "cold": cold}, found)
            bench_options.wrote(path)


def _flags(params: dict[str, Any]) -> list[str]:
    """The options as the command line of `inferd serve` has them."""
    flags: list[str] = []
    for name, value in params.items():
        if value is None or value == ():
            continue
        if name == "model_argument":
            flags.append(value)
        elif isinstance(value, bool):
            flags.append(flag(name) if value else f"--no-{flag(name)[2:]}")
        else:
            for each in value if isinstance(value, tuple) else (value,):
                flags += [flag(name), each]
    return flags


command = TableCommand(
    "startup",
    callback=_startup,
    params=[
        count("--num-iters", "How many starts, counted.", default=5),
        count("--num-warmups/--num-iters-warmup", "How many before that.", least=0, default=1),
        Option(
            ["--cold"],
            is_flag=True,
            help="Have the system drop the weights from memory before each start.",
        ),
        *bench_options.results(),
        *table_params((MODEL, SCHEDULING, MEMORY)),
    ],
    help=HELP,
    context_settings=CONTEXT | {"token_normalize_func": normalise},
)
