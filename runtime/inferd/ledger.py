"""The one account of memory: who holds how many bytes of which device, reserved and measured.

A holding is reserved before a load, settled by what was measured after it, shrunk while its
engine sleeps, and released when the engine is gone. All calls come from one thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from msgspec import Struct
from msgspec.structs import asdict, replace

from inferd.errors import StartError
from inferd.messages import MemoryUse
from inferd.units import human_bytes

HOST = "cpu"
"""The device whose memory is the machine's."""

Part = Literal["weights", "kv_cache", "adapters", "workspace", "process"]
PARTS: tuple[Part, ...] = ("weights", "kv_cache", "adapters", "workspace", "process")

_log = logging.getLogger("inferd.ledger")


class Need(Struct, frozen=True, omit_defaults=True):
    """Bytes of one device by part; `host` is what a GPU's engine takes of the host beside them."""

    weights: int = 0
    kv_cache: int = 0
    adapters: int = 0
    workspace: int = 0
    process: int = 0
    host: int = 0  # 0 where the device is the host itself

    @property
    def total(self) -> int:
        """Of the device."""
        return self.weights + self.kv_cache + self.adapters + self.workspace + self.process

    def parts(self) -> dict[str, int]:
        """Of the device, by name."""
        return {part: getattr(self, part) for part in PARTS}


class Holding(Struct, frozen=True):
    """One line of the account.

    Args:
        measured: 0 until the system was asked.
        moving: its engine loads, wakes or falls asleep: what it holds is about to change.
    """

    owner: str
    key: str
    parts: dict[str, int]
    reserved: int
    measured: int
    asleep: bool
    moving: bool = False


class DeviceView(Struct, frozen=True):
    """`free` is negative where more was measured than had been reserved."""

    device: str
    budget: int
    reserved: int
    free: int
    holdings: tuple[Holding, ...]


class LedgerView(Struct, frozen=True):
    devices: tuple[DeviceView, ...]


@dataclass(slots=True)
class _Entry:
    owner: str
    key: str
    device: str
    need: Need
    beside: Need  # of the host, where the device is a GPU
    measured: int = 0
    loading: bool = True
    settled: bool = False  # at least once
    asleep: bool = False
    falling: bool = False  # asleep, soon

    def on(self, device: str) -> Need:
        """What it takes of `device`."""
        if device == self.device:
            return self.need
        return self.beside if device == HOST else Need()


class Reservation:
    """Leave to hold memory. Made by `Ledger.reserve` alone."""

    def __init__(self, ledger: Ledger, entry: _Entry) -> None:
        self._ledger = ledger
        self._entry = entry

    @property
    def owner(self) -> str:
        return self._entry.owner

    @property
    def key(self) -> str:
        return self._entry.key

    @property
    def device(self) -> str:
        return self._entry.device

    @property
    def need(self) -> Need:
        return self._entry.need

    @property
    def by_device(self) -> dict[str, int]:
        """Device → bytes."""
        beside = self._entry.beside.total
        return {self.device: self.need.total} | ({HOST: beside} if beside else {})

    @property
    def asleep(self) -> bool:
        return self._entry.asleep

    @property
    def loading(self) -> bool:
        """Whether it was reserved and not yet settled: nobody may be evicted meanwhile."""
        return self._entry.loading

    @property
    def held(self) -> bool:
        """False once it was released."""
        return self._ledger.find(self.owner, self.key) is self

    def settle(self, use: MemoryUse) -> None:
        """Account for what an engine holds as measured, in place of the estimate.

        What fills later stays reserved at its full size: adapters, and the workspace, of which a
        process that has worked keeps some. The first measurement tells what the process takes by
        itself; later ones raise that where all of it together is more than was reserved.
        """
        if not self.held:
            return
        entry, need = self._entry, self._entry.need
        process = use.process or need.process
        if entry.settled:
            process = max(need.process, process + use.workspace - need.workspace)
        entry.need = replace(
            need,
            weights=use.weights or need.weights,
            kv_cache=use.kv_cache or need.kv_cache,
            adapters=max(need.adapters, use.adapters),
            workspace=max(need.workspace, use.workspace),
            process=process,
        )
        entry.measured, entry.loading, entry.settled = use.measured, False, True
        self._ledger.changed(entry.device)

    def prepare_sleep(self) -> bool:
        """Hold the room that sleeping at level 1 takes of the host; False if there is none.

        Call it before the engine sleeps, and `cancel_sleep` after it if that failed.
        """
        entry = self._entry
        if entry.device == HOST or entry.asleep:
            entry.falling = True
            return True
        moved = entry.need.weights + entry.need.adapters
        if entry.beside.weights == 0 and moved > self._ledger.free(HOST):
            return False
        entry.beside = replace(
            entry.beside, weights=entry.need.weights, adapters=entry.need.adapters
        )
        entry.falling = True
        return True

    def cancel_sleep(self) -> None:
        """The engine did not fall asleep: it needs no more of the host than before."""
        entry = self._entry
        entry.falling = False
        if self.held and entry.device != HOST and not entry.asleep:
            entry.beside = replace(entry.beside, weights=0, adapters=0)
            self._ledger.changed(entry.device)

    def shrink(self, use: MemoryUse) -> None:
        """Account for an engine asleep at level 1; its next `reserve` grows this one again.

        A GPU's engine keeps its weights and adapters in the host's memory meanwhile.
        """
        if not self.held:
            return
        entry = self._entry
        kept = Need(use.weights, use.kv_cache, use.adapters, use.workspace, use.process)
        if entry.device != HOST:
            moved = replace(entry.beside, weights=use.weights, adapters=use.adapters)
            entry.beside, kept = moved, replace(kept, weights=0, adapters=0)
        entry.need, entry.measured = kept, use.measured
        entry.loading, entry.asleep, entry.falling = False, True, False
        self._ledger.changed(entry.device)

    def release(self) -> None:
        """Give everything back. Idempotent."""
        if self.held:
            self._ledger.drop(self)


class Ledger:
    """Budgets and who holds what of them.

    Args:
        budgets: device (`cpu`, `cuda:0`) → bytes.
    """

    def __init__(self, budgets: Mapping[str, int]) -> None:
        self._budgets = dict(budgets)
        self._held: dict[tuple[str, str], Reservation] = {}
        self._listener: Callable[[], None] = lambda: None

    def watch(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every change."""
        self._listener = listener

    @property
    def devices(self) -> tuple[str, ...]:
        return tuple(self._budgets)

    def budget(self, device: str) -> int:
        """Bytes. Raises StartError(bad_option) for a device that has none."""
        if device not in self._budgets:
            known = ", ".join(self._budgets)
            raise StartError(
                "bad_option", f"There is no memory budget for {device!r}", hint=f"Devices: {known}"
            )
        return self._budgets[device]

    def reserved(self, device: str) -> int:
        return sum(entry.on(device).total for entry in self._entries())

    def free(self, device: str) -> int:
        """Bytes; negative where more was measured than had been reserved."""
        return self.budget(device) - self.reserved(device)

    @property
    def owners(self) -> set[str]:
        return {owner for owner, _ in self._held}

    def find(self, owner: str, key: str) -> Reservation | None:
        return self._held.get((owner, key))

    def of(self, owner: str) -> list[Reservation]:
        """What `owner` holds."""
        return [held for held in self._held.values() if held.owner == owner]

    def held(self, reservation: Reservation, device: str) -> Need:
        """What `reservation` takes of `device`."""
        return reservation._entry.on(device)

    def lacks(self, owner: str, key: str, device: str, need: Need) -> dict[str, int]:
        """Device → bytes too few for `reserve`; not above 0 where it has room to spare."""
        held, wanted = self.find(owner, key), _wanted(device, need)
        lacks = {}
        for name in self._budgets:
            growth = wanted[name].total if name in wanted else 0
            growth -= self.held(held, name).total if held else 0
            lacks[name] = growth - self.free(name) if growth > 0 else min(0, -self.free(name))
        return lacks

    def reserve(self, owner: str, key: str, device: str, need: Need) -> Reservation:
        """Hold `need` of `device` for (owner, key); what these hold already becomes `need`.

        Raises StartError(out_of_memory); then nothing has changed.
        """
        self.budget(device)
        wanted_by = _wanted(device, need)
        for name, lack in self.lacks(owner, key, device, need).items():
            if lack > 0:
                wanted = wanted_by[name].total
                raise StartError(
                    "out_of_memory",
                    f"{owner} needs {human_bytes(wanted)} of {name}, which is {human_bytes(lack)} "
                    "more than is free",
                    bytes_needed=wanted,
                    bytes_free=wanted - lack,
                )
        beside = Need() if device == HOST else wanted_by[HOST]
        found = self.find(owner, key)
        assert found is None or found.device == device, f"{owner}/{key} moved to {device}"
        if found is None:
            entry = _Entry(owner, key, device, wanted_by[device], beside)
            found = self._held[owner, key] = Reservation(self, entry)
        else:
            entry = found._entry
            entry.need, entry.beside = wanted_by[device], beside
            entry.loading, entry.asleep = True, False
        self._listener()
        return found

    def drop(self, reservation: Reservation) -> None:
        """What `Reservation.release` does."""
        del self._held[reservation.owner, reservation.key]
        self._listener()

    def changed(self, device: str) -> None:
        """A holding on `device` is of another size."""
        if self.free(device) < 0:
            over = human_bytes(-self.free(device))
            _log.warning("%s: %s more are in use than the budget allows", device, over)
        self._listener()

    def snapshot(self) -> LedgerView:
        return LedgerView(tuple(self._view(device) for device in self._budgets))

    def check(self) -> None:
        """Raise AssertionError if an invariant is broken."""
        for (owner, key), held in self._held.items():
            assert (owner, key) == (held.owner, held.key)
            assert held.device in self._budgets
            for need in (held._entry.need, held._entry.beside):
                assert all(count >= 0 for count in asdict(need).values()), f"{owner}: {need}"

    def _view(self, device: str) -> DeviceView:
        lines = [(entry, entry.on(device)) for entry in self._entries()]
        holdings = tuple(
            Holding(
                entry.owner,
                entry.key,
                need.parts(),
                need.total,
                entry.measured if device == entry.device else 0,
                entry.asleep,
                entry.loading or entry.falling,
            )
            for entry, need in lines
            if need.total
        )
        budget, reserved = self._budgets[device], self.reserved(device)
        return DeviceView(device, budget, reserved, budget - reserved, holdings)

    def _entries(self) -> Iterator[_Entry]:
        return (held._entry for held in self._held.values())


def _wanted(device: str, need: Need) -> dict[str, Need]:
    """Device → what `need` takes of it."""
    if device == HOST:
        assert need.host == 0, "the host's own memory is counted in the other parts"
        return {HOST: need}
    return {device: replace(need, host=0), HOST: Need(process=need.host)}
