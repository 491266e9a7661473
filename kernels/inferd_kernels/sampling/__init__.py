"""Choosing tokens from logits, and scoring them: pure functions, vectorised over rows.

Semantics, for one row of logits x over the vocabulary:

    adjust   x ← x + bias; x[masked] ← -inf; x[not allowed] ← -inf;
             x ← x / r where x > 0 else x · r      for tokens of the prompt or the output
             x ← x - frequency · count - presence  for tokens of the output
    sample   temperature = 0: argmax x (ties: the lower token id). Otherwise, with
             t = (x - max x) / temperature, drop tokens in this order, each step on what is left:
               min_p   p(token) < min_p · max p
               top_k   t below the k-th largest (tokens equal to the k-th stay)
               top_p   outside the smallest set of likeliest tokens with mass ≥ top_p
                       (tokens as likely as the last of the set stay)
             and return argmax(t + g), g = -log(-log(1 - u)), u = uniform(seed, position, id).
    score    log_softmax(x) in float32, the rank of a token and the top k.
    choose   all of it for a step: adjust, sample, and score what was sampled.

A row's answer depends on nothing but its own logits, parameters, seed and position: not on
its neighbours, the process or the device. So a request's tokens do not change with who shares
its batch, and a generation resumes elsewhere exactly. (The Gumbel-max trick draws from
softmax(t); it goes back to Gumbel, 1954. Order and meaning of the filters follow vLLM.)

Where implementations may differ: e^t by 2 ulp in float32, and log(min_p) by one. So a token whose
t is that near to log(min_p), or whose likelihood or mass is that near to the border of top_p, may
be in for one and out for the other; and of two tokens whose times in the race differ by less than
1e-6 of them, either may win. Everything else is the same to the bit: noise, adjusted logits,
greedy tokens, the border of top_k, ranks and the ids of the top.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from inferd_kernels.dispatch import Op
from inferd_kernels.sampling import adjustments, logprobs, reference, step
from inferd_kernels.sampling.adjustments import NO_INTS, Adjustment
from inferd_kernels.sampling.rows import (
    GREEDY_BELOW,
    HEALTHY,
    NOT_FINITE,
    NOTHING_LEFT,
    Choice,
    Draw,
    PendingChoice,
    Row,
    Scores,
    Want,
)

__all__ = [
    "GREEDY_BELOW",
    "HEALTHY",
    "NOTHING_LEFT",
    "NOT_FINITE",
    "NO_INTS",
    "Adjustment",
    "Choice",
    "Draw",
    "PendingChoice",
    "Row",
    "Scores",
    "Want",
    "adjust",
    "choose",
    "choose_later",
    "sample",
    "score",
]

_CPU, _GPU = "inferd_kernels.sampling.cpu", "inferd_kernels.sampling.gpu"
ADJUST = Op("adjust", adjustments.adjust, cpu=_CPU, gpu=_GPU)
SAMPLE = Op("sample", reference.sample, cpu=_CPU, gpu=_GPU)
SCORE = Op("score", logprobs.score, cpu=_CPU, gpu=_GPU)
CHOOSE = Op("choose", step.choose, cpu=_CPU, gpu=_GPU)


def adjust(logits: torch.Tensor, rows: Sequence[Adjustment | None]) -> torch.Tensor:
    """Adjusted logits [N, vocab] float32; `logits` itself stays as it is.

    Returns `logits` where no row asks for a change. Raises IndexError for a token id outside
    the vocabulary.
    """
    return ADJUST.on(logits.device.type)(logits, rows)


def sample(logits: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
    """Token ids [N] int64 for logits [N, vocab] float32 and N draws.

    In each row the largest logit is finite, and none is NaN. Work is done only for rows that ask
    for it: greedy rows cost an argmax.
    """
    return SAMPLE.on(logits.device.type)(logits, draws)


def score(
    logits: torch.Tensor, tokens: torch.Tensor, top: int, extra: torch.Tensor | None = None
) -> Scores:
    """Score `tokens` [N] int64 under log_softmax(logits), logits [N, vocab] float32.

    Among equal logits the lower token id ranks first, as in greedy sampling; so a greedy token
    has rank 1 and is the first of the top. `extra` [N, m] int64 are further tokens whose
    logprobs are wanted; none by default. In each row the largest logit is finite, and none is NaN.
    """
    return SCORE.on(logits.device.type)(logits, tokens, top, extra)


def choose(logits: torch.Tensor, rows: Sequence[Row]) -> Choice:
    """A step's tokens and their scores, from the model's logits [N, vocab] float32, N ≥ 1.

    A row whose logits are not finite costs the others nothing: see `Choice.health`. Raises
    IndexError for a token id outside the vocabulary.
    """
    return CHOOSE.on(logits.device.type)(logits, rows)


def _choose_now(logits: torch.Tensor, rows: Sequence[Row]) -> PendingChoice:
    choice = choose(logits, rows)
    return PendingChoice(choice.tokens.to(logits.device), lambda: choice)


CHOOSE_LATER = Op("choose_later", _choose_now, gpu=_GPU)


def choose_later(logits: torch.Tensor, rows: Sequence[Row]) -> PendingChoice:
    """`choose`, begun: on a GPU it returns before the device has done it, and waits for nothing.

    `rows` may change as soon as it returns, `logits` only by what is queued on the device later.
    """
    return CHOOSE_LATER.on(logits.device.type)(logits, rows)
