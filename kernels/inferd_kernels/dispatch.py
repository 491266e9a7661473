"""Which implementation of an operation runs on a device; decided once per device type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

PREFERENCE: Mapping[str, tuple[str, ...]] = {
    "cpu": ("cpu", "reference"),
    "cuda": ("gpu", "reference"),
}
"""Device type → names of implementations, best first. Other devices run the reference."""


class Op(Generic[P, R]):
    """One operation and its implementations, which all mean what `reference` says.

    Args:
        name: the operation's name, that of its folder or function.
        implementations: name → function; `reference` must be among them.
    """

    def __init__(self, name: str, implementations: Mapping[str, Callable[P, R]]) -> None:
        assert "reference" in implementations
        self.name = name
        self.implementations = dict(implementations)
        self._chosen: dict[str, Callable[P, R]] = {}

    def on(self, device_type: str) -> Callable[P, R]:
        """The implementation for `torch.device.type`: `cpu`, `cuda`, …"""
        chosen = self._chosen.get(device_type)
        if chosen is None:
            chosen = self._chosen[device_type] = self.implementations[self.choice(device_type)]
        return chosen

    def choice(self, device_type: str) -> str:
        """The name of what `on` returns."""
        names = PREFERENCE.get(device_type, ("reference",))
        return next(name for name in names if name in self.implementations)
