"""`adjust`, `sample`, `score` and `choose` in C++."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

IMPLEMENTATIONS: dict[str, Callable[..., Any]] = {}
