"""What a part has found so far, on disk after every figure: a part that dies loses nothing."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Report:
    """Figures, failures and facts of one part."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.figures: dict[str, Any] = {}
        self.failures: dict[str, str] = {}
        self._write()

    def figure(self, name: str, value: Any) -> None:
        """Keep it, and say it."""
        self.figures[name] = value
        print(f"  {name}: {value}", flush=True)
        self._write()

    def fail(self, name: str, why: str) -> None:
        self.failures[name] = why
        print(f"  {name} FAILED: {why}", flush=True)
        self._write()

    @contextmanager
    def attempt(self, name: str) -> Iterator[None]:
        """What goes wrong inside is a failure of that name, and no more."""
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self.fail(name, f"{type(error).__name__}: {error}"[:500])

    def _write(self) -> None:
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps({"figures": self.figures, "failures": self.failures}))
        os.replace(new, self._path)
