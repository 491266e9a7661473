"""The states of a deployment, which may follow which, and why one failed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from msgspec import Struct

from inferd.errors import StartError

State = Literal[
    "initializing",
    "downloading",
    "deploying",
    "running",
    "stopping",
    "stopped",
    "failed",
    "deleted",
]

STATES: tuple[State, ...] = get_args(State)

MOVES: Mapping[State, frozenset[State]] = {
    "initializing": frozenset({"downloading", "stopping", "failed"}),
    "downloading": frozenset({"deploying", "stopping", "failed"}),
    "deploying": frozenset({"running", "stopping", "failed"}),
    "running": frozenset({"stopping", "failed"}),
    "stopping": frozenset({"stopped", "deleted"}),
    "stopped": frozenset({"initializing", "stopping"}),
    "failed": frozenset({"initializing", "stopping"}),
    "deleted": frozenset(),
}
"""All legal moves. `stopping` leads to `deleted` where a deployment is to go for good."""

COMING: frozenset[State] = frozenset({"initializing", "downloading", "deploying"})
"""On the way to `running`: requests may wait."""


class Failure(Struct, frozen=True, omit_defaults=True):
    """Why a deployment failed, for programs and for people.

    Args:
        code: as of `StartError`, or `internal_error`.
        message: what happened, in a sentence.
        hint: the smallest change that would help, in a sentence; empty where unknown.
        state: in which it failed.
        bytes_needed, bytes_free: where memory was short.
    """

    code: str
    message: str
    hint: str = ""
    state: State = "initializing"
    bytes_needed: int | None = None
    bytes_free: int | None = None

    @classmethod
    def of(cls, error: StartError, state: State) -> Failure:
        return cls(
            error.code or error.type,
            error.message,
            error.hint,
            state,
            error.bytes_needed,
            error.bytes_free,
        )
