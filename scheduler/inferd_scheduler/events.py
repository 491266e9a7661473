"""What the scheduler tells: one stream of events, each about one request.

Every accepted request gets exactly one terminal event: `Finished` or `Failed`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

FinishReason = Literal["stop", "length", "abort"]
FailureCode = Literal["capacity", "engine"]


class Token(NamedTuple):
    """One new output token. A tuple, since hundreds are made per step."""

    request_id: str
    token: int


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A request ran for the first time (not after a preemption)."""

    request_id: str
    queued_s: float  # from submit to the step's plan
    cached_tokens: int  # prompt tokens whose KV came from the prefix cache


@dataclass(frozen=True, slots=True)
class Preempted:
    """A request lost its blocks and waits again; its tokens are kept."""

    request_id: str


@dataclass(frozen=True, slots=True)
class Finished:
    """Terminal: the request ended well, or was aborted."""

    request_id: str
    reason: FinishReason
    stop_token: int | None = None  # it was also sent as the last `Token`
    cached_tokens: int = 0
    preemptions: int = 0


@dataclass(frozen=True, slots=True)
class Failed:
    """Terminal: `capacity`: the sequence outgrew the KV pool; `engine`: its computation failed."""

    request_id: str
    code: FailureCode
    message: str


Event: TypeAlias = Token | Scheduled | Preempted | Finished | Failed
