"""What `inferd serve` tells the person who started it: progress, then how to use it."""

from __future__ import annotations

import json
import logging
import shlex
import sys

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
from rich.progress import Progress as Bar

from inferd.listening import Address
from inferd.units import human_bytes

_log = logging.getLogger("inferd.serve")

STAGES = {"download": "Downloading", "weights": "Loading weights", "warmup": "Warming up"}


class Terminal:
    """The daemon's reporter: what to do with the daemon goes to standard output.

    Progress is a bar on standard error where that is a terminal, and lines of the log elsewhere.
    """

    def __init__(self) -> None:
        self._bar: Bar | None = None
        self._quarter = ("", -1)
        self._tty = sys.stderr.isatty()

    def note(self, text: str) -> None:
        self.close()
        if self._tty:
            click.echo(text, err=True)
        else:
            _log.info(text)

    def progress(self, stage: str, done: int, total: int) -> None:
        if stage == "warmup":  # its steps are no bytes
            done = total = 0
        if self._tty:
            self._draw(stage, done, total)
        elif (quarter := (stage, 4 * done // total if total else 0)) != self._quarter:
            self._quarter = quarter
            size = f": {human_bytes(done)} of {human_bytes(total)}" if total else ""
            _log.info(STAGES[stage] + size)

    def ready(
        self, address: Address, model: str, *, needs_key: bool, chat: bool, grpc: Address | None
    ) -> None:
        self.close()
        click.echo(f"\ninferd is ready on {address.url}\n")
        click.echo(f"  base URL  {address.url}/v1")
        if grpc is not None:
            click.echo(f"  gRPC      {grpc.target}")
        click.echo(f"  model     {model}")
        click.echo(f"  try       {curl_line(address.url, model, needs_key=needs_key, chat=chat)}")
        click.echo("\nCtrl-C stops it.")

    def _draw(self, stage: str, done: int, total: int) -> None:
        if self._bar is None:
            columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
            console = Console(stderr=True)
            self._bar = Bar(*columns, TransferSpeedColumn(), console=console, transient=True)
            self._bar.add_task("", total=None)
            self._bar.start()
        task = self._bar.task_ids[0]
        self._bar.update(task, description=STAGES[stage], completed=done, total=total or None)

    def close(self) -> None:
        """Take the bar away, and give the cursor back."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def curl_line(url: str, model: str, *, needs_key: bool, chat: bool) -> str:
    """A command for a shell that asks the model something."""
    body: dict[str, object] = {"model": model}
    if chat:
        path, body["messages"] = "chat/completions", [{"role": "user", "content": "Hello!"}]
    else:
        path, body["prompt"] = "completions", "Once upon a time"
    key = '-H "Authorization: Bearer $INFERD_API_KEY" ' if needs_key else ""
    header = "-H 'Content-Type: application/json' "
    data = shlex.quote(json.dumps(body, ensure_ascii=False))
    return f"curl {url}/v1/{path} {key}{header}-d {data}"
