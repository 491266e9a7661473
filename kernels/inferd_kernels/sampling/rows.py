"""What a step asks of each row of logits, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch

from inferd_kernels.sampling.adjustments import Adjustment

GREEDY_BELOW = 1e-5
"""Temperatures below this mean greedy: dividing by them would overflow float32."""


@dataclass(slots=True)
class Draw:
    """How to choose one row's token."""

    temperature: float = 1.0
    top_k: int = 0  # 0: off
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0  # 0 ≤ seed < 2**64
    position: int = 0  # index, in its sequence, of the token being chosen

    @property
    def greedy(self) -> bool:
        return self.temperature < GREEDY_BELOW


class Want(NamedTuple):
    """Which logprobs a row wants beside its token's own."""

    top: int = 0  # of so many likeliest
    extra: tuple[int, ...] = ()  # of these tokens
    processed: bool = False
    """Of the adjusted logits over temperature (greedy: as they are); else of the model's own."""


@dataclass(slots=True, eq=False)
class Row:
    """One row's token: how to choose it, and what to say of it.

    A sequence keeps one and changes `draw.position` and `adjustment` from step to step. All else
    stays, since an implementation may remember it.
    """

    draw: Draw
    want: Want | None = None  # None: no logprobs
    adjustment: Adjustment | None = None
    packed: bytes = b""
    """An implementation's own form of what stays."""


HEALTHY, NOT_FINITE, NOTHING_LEFT = range(3)
"""A row's health: NaN or +inf among its logits, or nothing but -inf, is not finite; the same after
its adjustment alone means that nothing is left."""


class Scores(NamedTuple):
    """N scored positions."""

    logprobs: torch.Tensor  # [N] float32, of the given tokens
    ranks: torch.Tensor  # [N] int64, 1 for the likeliest
    top_ids: torch.Tensor  # [N, k] int64, likeliest first
    top_logprobs: torch.Tensor  # [N, k] float32
    extra_logprobs: torch.Tensor  # [N, m] float32


class Choice(NamedTuple):
    """What `choose` returns for N rows, all on the host."""

    tokens: torch.Tensor  # [N] int64; 0 for rows that are not healthy
    health: torch.Tensor  # [N] int32
    scores: Scores | None
    """Row by row; k and m are the most that a healthy row wants, and what exceeds its own wishes
    has no meaning. None: no healthy row wants any."""


@dataclass(frozen=True, slots=True)
class PendingChoice:
    """What `choose_later` returns: a choice that the device may still be at work on."""

    tokens: torch.Tensor  # [N] int64 on the logits' device: `Choice.tokens`, once it is there
    result: Callable[[], Choice]
    """Waits for the device, and for nothing that was queued there later."""
