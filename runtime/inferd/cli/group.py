"""Commands of commands, like `inferd deploy create`, and the tables that they print."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import click

from inferd.cli.failure import Failure, nearest


class Subcommands(click.Group):
    """Words an unknown subcommand's error plainly."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in self.commands and not name.startswith("-"):
            hint = nearest(name, self.commands)
            raise Failure(f"there is no command '{self.name} {name}'", hint, exit_code=2)
        return super().resolve_command(ctx, args)


def table(rows: Sequence[tuple[str, ...]]) -> Iterable[str]:
    """Lines of columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def as_daemon_sees(source: str) -> str:
    """A hub id as it is; a folder of this machine absolute, since the daemon runs elsewhere."""
    if os.path.isdir(source) or source.startswith((".", "~")):
        return os.path.abspath(os.path.expanduser(source))
    return source
