"""`inferd bench`: how fast a server or an engine is, and how soon a daemon is ready."""

from __future__ import annotations

import click

from inferd.cli import CONTEXT, bench_offline, bench_serve, bench_startup
from inferd.cli.group import Subcommands


@click.group("bench", cls=Subcommands, context_settings=CONTEXT)
def command() -> None:
    """Measure a server over HTTP, an engine without it, or a daemon's start.

    What is measured, and where, is written with --output; the terms are those of other tools:
    TTFT, TPOT, ITL and E2EL are the times to the first token, per output token, between tokens and
    to the reply's end.
    """


for _each in (
    bench_serve.command,
    bench_offline.throughput,
    bench_offline.latency,
    bench_startup.command,
):
    command.add_command(_each)
