"""Adapters by name: what requests and lists ask; nothing changes here but leases."""

from __future__ import annotations

from inferd.adapters.entry import Entry, Lease
from inferd.adapters.records import AdapterStatus
from inferd.errors import NotFound


class Lookup:
    """The names, and those unloaded ones with which requests still run."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._draining: list[Entry] = []

    # ------------------------------------------------------------ requests

    def parse(self, model: str) -> tuple[str, str] | None:
        """(name, beginning of a generation or "") where `model` names an adapter: `NAME` or
        `NAME:GENERATION`. None: it does not."""
        if model in self._entries:
            return model, ""
        name, _, version = model.rpartition(":")
        if name in self._entries and version:
            return name, version
        return (model, "") if self._drains(model) is not None else None

    def find(self, name: str) -> AdapterStatus | None:
        """The adapter of this name; one that drains only if there is no other."""
        entry = self._entries.get(name) or self._drains(name)
        return entry.status() if entry is not None else None

    def base_of(self, name: str) -> str:
        """The deployment that `name` belongs to. Raises `NotFound`."""
        return self._entry(name).record.base

    def pin(self, name: str, *, version: str = "") -> Lease:
        """A lease for one request, to be released in one place; a canary decides here.

        Args:
            version: the beginning of a generation that is loaded; "": what the name points to.
        Raises:
            NotFound: no such adapter or generation, or it drains.
            Unavailable: its base is not deployed, or the engine would not hold it.
        """
        return self._entry(name).pin(version)

    # ------------------------------------------------------------ looking

    def list(self) -> tuple[AdapterStatus, ...]:
        """All adapters, oldest first; then those that drain."""
        active = sorted(self._entries.values(), key=lambda e: (e.record.created, e.record.name))
        return tuple(entry.status() for entry in (*active, *self._draining))

    def status(self, name: str) -> AdapterStatus:
        """Raises `NotFound`."""
        found = self.find(name)
        if found is None:
            raise no_such(name)
        return found

    def _entry(self, name: str) -> Entry:
        entry = self._entries.get(name)
        if entry is None:
            if self._drains(name) is not None:
                raise NotFound(f"The adapter `{name}` is being unloaded.", param="model")
            raise no_such(name)
        return entry

    def _drains(self, name: str) -> Entry | None:
        found = [each for each in self._draining if each.record.name == name]
        return found[-1] if found else None


def no_such(name: str) -> NotFound:
    return NotFound(f"The adapter `{name[:200]}` does not exist.", param="model")
