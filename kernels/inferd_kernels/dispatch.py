"""Which implementation of an operation runs on a device; decided once per device type."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Generic, ParamSpec, TypeVar
from weakref import WeakSet

from inferd_kernels import gpu

P = ParamSpec("P")
R = TypeVar("R")

PREFERENCE: Mapping[str, tuple[str, ...]] = {
    "cpu": ("cpu", "reference"),
    "cuda": ("gpu", "reference"),
}
"""Device type → names of implementations, best first. Other devices run the reference."""

INVARIANT = "_invariant"
"""Ends the name of an implementation whose result for a row depends on nothing but that row: not
on its neighbours, nor on how a sequence is cut into steps. Only for operations whose usual one does
depend on them."""


class Op(Generic[P, R]):
    """One operation and its implementations, which all mean what `reference` says.

    Args:
        name: the operation's name, that of its folder or function.
        reference: its meaning.
        modules: name of an implementation → the module that holds it. It is imported where it is
            first wanted, and its `IMPLEMENTATIONS` (operation's name → function) may lack it, as
            where there is no compiler.
    """

    def __init__(self, name: str, reference: Callable[P, R], **modules: str) -> None:
        self.name = name
        self.reference = reference
        self.modules = modules
        self._chosen: dict[str, Callable[P, R]] = {}
        _ops.add(self)

    def on(self, device_type: str) -> Callable[P, R]:
        """The implementation for `torch.device.type`: `cpu`, `cuda`, …"""
        chosen = self._chosen.get(device_type)
        if chosen is None:
            chosen = self._chosen[device_type] = self._choose(device_type)[1]
        return chosen

    def choice(self, device_type: str) -> str:
        """The name of what `on` returns."""
        return self._choose(device_type)[0]

    def forget(self) -> None:
        """Choose anew from now on."""
        self._chosen.clear()

    def _choose(self, device_type: str) -> tuple[str, Callable[P, R]]:
        names = PREFERENCE.get(device_type, ()) if _only is None else (_only,)
        if _invariant:
            names = tuple(each for name in names for each in (name + INVARIANT, name))
        for name in names:
            if name in self.modules and (not name.startswith("gpu") or gpu.present()):
                found = import_module(self.modules[name]).IMPLEMENTATIONS.get(self.name)
                if found is not None:
                    return name, found
        return "reference", self.reference


_ops: WeakSet[Op[Any, Any]] = WeakSet()
_only: str | None = None  # what `only` asked for
_invariant = False  # what `prefer_invariant` asked for


def prefer_invariant(wanted: bool) -> None:
    """From now on, in all of this process, prefer implementations that are `INVARIANT`, or not."""
    global _invariant
    _invariant = wanted
    for op in _ops:
        op.forget()


@contextmanager
def only(name: str) -> Iterator[None]:
    """Within it every operation runs this implementation, on any device, or the reference where it
    has none: to compare them."""
    global _only
    before, _only = _only, name
    for op in _ops:
        op.forget()
    try:
        yield
    finally:
        _only = before
        for op in _ops:
            op.forget()
