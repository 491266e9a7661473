"""What starts of models have shown, kept for the next time."""

from __future__ import annotations

import hashlib
from typing import Protocol

import msgspec
from msgspec import Struct

from inferd.engines.base import EngineSpec
from inferd.messages import MemoryUse

GRAIN_BYTES = 4 << 20
"""Measurements are rounded up to this, since no two starts take quite the same."""


class Measured(Struct, frozen=True):
    """What no estimate can know of a model and its options, as it was the last time. Bytes."""

    process: int


class Records(Protocol):
    """A table of the store."""

    def get(self, key: str) -> Measured | None: ...

    def put(self, key: str, value: Measured) -> None: ...


class Measurements:
    """What starts have shown, kept for the next time. Calls block while the disk works."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def recall(self, spec: EngineSpec) -> Measured | None:
        """What an earlier start with such options showed."""
        return self._records.get(_key(spec))

    def note(self, spec: EngineSpec, use: MemoryUse) -> None:
        """`use` is what a start with `spec` showed."""
        if use.process:
            process = -(-use.process // GRAIN_BYTES) * GRAIN_BYTES
            self._records.put(_key(spec), Measured(process))


def _key(spec: EngineSpec) -> str:
    """The model and the options that decide what a process takes beside its model."""
    options = (spec.dtype, spec.quantization, spec.num_threads, spec.enforce_eager)
    said = (spec.engine, spec.model, spec.device, *options)
    return hashlib.sha256(msgspec.json.encode(said)).hexdigest()[:32]
