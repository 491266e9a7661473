"""What is stored of adapters, and what is shown of them."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

AdapterState = Literal["active", "waiting", "failed", "draining"]
"""active: requests are served. waiting: its base model is not deployed now. failed: its base is,
but the engine would not hold it (see `error`). draining: unloaded, while requests still run."""


class GenerationRecord(Struct, frozen=True, omit_defaults=True):
    """One immutable adapter: where it came from, and what it is."""

    generation: str  # 32 hex digits of a SHA-256 over its config and tensors
    source: str  # a folder or a hub id, as it was asked for
    revision: str | None = None  # the hub's commit
    created: int = 0  # Unix time in seconds
    rank: int = 0
    num_bytes: int = 0  # of its weights in the engine's dtype
    modules: tuple[str, ...] = ()


class Trial(Struct, frozen=True):
    """A candidate beside the current generation, and its share of the requests, in percent."""

    generation: str
    percent: float


class AdapterRecord(Struct, frozen=True, omit_defaults=True):
    """A name, as it is stored."""

    name: str
    base: str  # the deployment's name
    generation: str
    created: int  # Unix time in seconds
    generations: dict[str, GenerationRecord]  # exactly those that are named in here
    previous: tuple[str, ...] = ()  # newest last
    canary: Trial | None = None
    shadow: Trial | None = None

    def referred(self) -> frozenset[str]:
        """The generations that the engine has to hold for this name: the previous one too, so
        that a rollback is a move of the pointer and nothing else."""
        trials = {each.generation for each in (self.canary, self.shadow) if each is not None}
        return frozenset({self.generation, *trials, *self.previous[-1:]})


class ShadowReport(Struct, frozen=True):
    """A candidate's logprobs of live requests' tokens, less the current generation's."""

    generation: str
    percent: float
    requests: int = 0  # scored
    tokens: int = 0
    mean_abs: float = 0.0  # mean |Δ logprob| per token
    max_abs: float = 0.0
    mean: float = 0.0  # mean Δ logprob per token; above 0: the candidate finds replies likelier
    dropped: int = 0  # not scored, since the queue was full
    failed: int = 0


class AdapterStatus(Struct, frozen=True):
    """A name, as it is shown."""

    name: str
    base: str
    state: AdapterState
    generation: str
    created: int
    updated: int  # Unix time at which its current generation was loaded
    source: str
    revision: str | None
    rank: int
    num_bytes: int
    modules: tuple[str, ...]
    in_flight: int  # requests, of all generations
    served: dict[str, int] = field(default_factory=dict)  # generation → requests since the start
    previous: tuple[GenerationRecord, ...] = ()  # newest last
    canary: Trial | None = None
    shadow: ShadowReport | None = None
    error: str = ""
