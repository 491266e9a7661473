"""How the command line says that something went wrong: what, what would help, and no traceback."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import IO, Any

import click

from inferd.errors import InferdError, StartError
from inferd.units import human_bytes


class Failure(click.ClickException):
    """Ends the command with a message, a hint and an exit code: 1, or 2 for wrong usage."""

    def __init__(self, message: str, hint: str = "", *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.hint = hint
        vars(self)["exit_code"] = exit_code  # click's is a class variable

    @classmethod
    def of(cls, error: InferdError, *, exit_code: int = 1) -> Failure:
        """The failure that words `error` for a terminal: its reader is the operator, who may see
        what else only the log says."""
        if not isinstance(error, StartError):
            log = str(error)
            return cls(error.message, "" if log == error.message else log, exit_code=exit_code)
        message = error.message
        if error.bytes_needed is not None:
            message += f"\n  needed: {human_bytes(error.bytes_needed)}"
        if error.bytes_free is not None:
            message += f"\n  free:   {human_bytes(error.bytes_free)}"
        return cls(message, error.hint, exit_code=exit_code)

    def show(self, file: IO[Any] | None = None) -> None:
        click.secho("Error: ", file=file, err=True, fg="red", bold=True, nl=False)
        click.echo(self.message, file=file, err=True)
        if self.hint:
            click.echo(f"  {self.hint}", file=file, err=True)


def nearest(word: str, words: Iterable[str]) -> str:
    """A hint with the most similar of `words`, or all of them when none is similar."""
    words = list(words)
    near = get_close_matches(word, words, n=1, cutoff=0.5)
    return f"Did you mean {near[0]}?" if near else f"There are: {', '.join(words)}."
