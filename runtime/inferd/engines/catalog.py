"""Which engines there are, and where; each is imported when it is first asked for."""

from __future__ import annotations

import difflib
import importlib
from typing import cast

from inferd.engines.base import CoreFactory
from inferd.errors import StartError

ENGINES = {
    "native": "inferd.engines.native.core",
    "echo": "inferd.engines.echo",
}
"""Name → the module whose `create` is the engine's `CoreFactory`."""


def find(name: str) -> CoreFactory:
    """The factory of engine `name`. Raises `StartError("bad_option")`."""
    module = ENGINES.get(name)
    if module is None:
        near = difflib.get_close_matches(name, ENGINES, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]!r}?" if near else f"Engines: {', '.join(ENGINES)}"
        raise StartError("bad_option", f"There is no engine called {name!r}", hint=hint)
    return cast(CoreFactory, importlib.import_module(module).create)
