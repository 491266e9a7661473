"""How far something has come: a line on standard error that changes, or lines in a log."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import IO, Self


class Line:
    """A line of text; a context manager, which takes the line away in the end.

    Where standard error is no terminal, each text that differs is a line of its own.
    """

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stderr
        self._tty = self._stream.isatty()
        self._shown = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._tty and self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def show(self, text: str) -> None:
        if text == self._shown:
            return
        self._shown = text
        self._stream.write(f"\r\x1b[K{text}" if self._tty else f"{text}\n")
        self._stream.flush()
