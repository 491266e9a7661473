"""The meaning of `sample`, in plain torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from inferd_kernels.sampling.chunks import row_chunks
from inferd_kernels.sampling.noise import seed_tensor, streams, uniform
from inferd_kernels.sampling.rows import Draw

T = TypeVar("T", int, float)

FEW = 256
"""Where filters leave at most so many candidates, only these are looked at."""

NUCLEUS_GUESS = 256
"""Tokens looked at first for top_p; rows whose nucleus is larger sort the whole vocabulary."""


def sample(logits: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
    tokens = logits.argmax(-1)
    random = [i for i, draw in enumerate(draws) if not draw.greedy]
    if not random:
        return tokens
    picked, asked = _rows(logits, random), [draws[i] for i in random]
    chosen = [_draw(picked[part], asked[part]) for part in row_chunks(picked)]
    tokens[torch.tensor(random, device=tokens.device)] = torch.cat(chosen)
    return tokens


def _rows(x: torch.Tensor, index: list[int]) -> torch.Tensor:
    return x if len(index) == len(x) else x[torch.tensor(index, device=x.device)]


def _draw(logits: torch.Tensor, draws: list[Draw]) -> torch.Tensor:
    """Tokens [F] of rows [F, vocab] that are all random."""
    # The maximum goes first, so that it becomes 0 and no quotient overflows upwards.
    x = logits - logits.amax(-1, keepdim=True)
    x /= _column([draw.temperature for draw in draws], x)
    x = _filter(x, [draw.min_p for draw in draws], lambda p: p > 0, keep_min_p)
    x = _filter(x, [draw.top_k for draw in draws], lambda k: 0 < k < x.shape[-1], keep_top_k)
    x = _filter(x, [draw.top_p for draw in draws], lambda p: p < 1, keep_top_p)
    seeds = seed_tensor([draw.seed for draw in draws], x.device)
    stream = streams(seeds, torch.tensor([draw.position for draw in draws], device=x.device))
    width = int((x > -torch.inf).sum(-1).max())
    if width <= min(FEW, x.shape[-1] // 8):
        return _race(*x.topk(width), stream)
    return _race(x, torch.arange(x.shape[-1], device=x.device), stream)


def _race(x: torch.Tensor, ids: torch.Tensor, stream: torch.Tensor) -> torch.Tensor:
    """argmax(x + g) of each row: token ids [F].

    It is the winner of an exponential race, argmin(E / e^x) with E = e^-g = -log(1 - u). As
    E ≥ u, few tokens have a u / e^x small enough to win, and only for those is E computed.

    Args:
        x: [F, C] float32 with maximum 0, the candidates' logits.
        ids: [C] or [F, C] int64, their tokens.
        stream: [F] int64, see `noise`.
    """
    weight = x.exp()
    u = uniform(stream[:, None], ids)
    bound = u / weight
    first = bound.argmin(-1, keepdim=True)
    finish = -torch.log1p(-u.gather(-1, first)) / weight.gather(-1, first)
    row, column = (bound <= finish).nonzero(as_tuple=True)
    finish = -torch.log1p(-u[row, column]) / weight[row, column]
    best = finish.new_full((len(x),), torch.inf).scatter_reduce_(0, row, finish, "amin")
    wins = finish == best[row]
    token = ids.expand(x.shape)[row[wins], column[wins]]
    ties_go_low = token.new_full((len(x),), torch.iinfo(torch.int64).max)
    return ties_go_low.scatter_reduce_(0, row[wins], token, "amin")


def _column(values: Sequence[float], like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None]


def _filter(
    x: torch.Tensor,
    values: list[T],
    active: Callable[[T], bool],
    keep: Callable[[torch.Tensor, list[T]], torch.Tensor],
) -> torch.Tensor:
    """Replace by -inf what `keep` drops, in the rows whose value is active."""
    index = [i for i, value in enumerate(values) if active(value)]
    if not index:
        return x
    part = _rows(x, index)
    kept = part.masked_fill(~keep(part, [values[i] for i in index]), -torch.inf)
    if part is x:
        return kept
    x[torch.tensor(index, device=x.device)] = kept
    return x


def keep_min_p(x: torch.Tensor, min_p: list[float]) -> torch.Tensor:
    """Bool [F, vocab]: at least min_p times as likely as the likeliest; x has maximum 0."""
    return x >= _column(min_p, x).log()


def keep_top_k(x: torch.Tensor, top_k: list[int]) -> torch.Tensor:
    """Bool [F, vocab]: not below the k-th largest."""
    largest = x.topk(max(top_k)).values
    return x >= largest.gather(-1, torch.tensor(top_k, device=x.device)[:, None] - 1)


def keep_top_p(x: torch.Tensor, top_p: list[float]) -> torch.Tensor:
    """Bool [F, vocab]: as likely as the last token of the nucleus (arXiv 1904.09751) or likelier.

    Masses are summed in float64, so that neighbours cannot move a border by rounding.
    """
    likelihood = x.exp()  # relative to the likeliest
    mass = _column(top_p, x).double() * likelihood.sum(-1, keepdim=True, dtype=torch.float64)
    ordered = likelihood.topk(min(NUCLEUS_GUESS, x.shape[-1])).values
    threshold, covered = _border(ordered, mass)
    wide = (~covered).nonzero()[:, 0]
    if len(wide):
        ordered = likelihood[wide].sort(-1, descending=True).values
        threshold[wide] = _border(ordered, mass[wide])[0]
    return likelihood >= threshold


def _border(ordered: torch.Tensor, mass: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The smallest likelihood in the nucleus [F, 1], and whether `ordered` reached `mass` [F]."""
    before = ordered.cumsum(-1, dtype=torch.float64) - ordered
    size = (before < mass).sum(-1, keepdim=True).clamp_(min=1)
    return ordered.gather(-1, size - 1), before[:, -1] + ordered[:, -1] >= mass[:, 0]
