"""A step that was planned and not committed yet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from inferd_scheduler.request import Request
from inferd_scheduler.step import Step


@dataclass(slots=True, eq=False)
class Flight:
    """A step, and whose works it holds: first the decoding ones', then the others', in order."""

    step: Step
    decoding: list[Request]
    others: list[Request]
    grown: list[Request]  # of `decoding`, those whose block table grew for it
    _members: frozenset[Request] | None = None

    def __contains__(self, request: Request) -> bool:
        if self._members is None:  # few steps are ever asked
            self._members = frozenset(self)
        return request in self._members

    def __iter__(self) -> Iterator[Request]:
        return chain(self.decoding, self.others)
