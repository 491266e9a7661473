"""The meaning of `choose`, in plain torch: adjust, look for faults, sample, score."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from inferd_kernels.sampling.adjustments import adjust
from inferd_kernels.sampling.logprobs import score
from inferd_kernels.sampling.reference import sample
from inferd_kernels.sampling.rows import (
    HEALTHY,
    NOT_FINITE,
    NOTHING_LEFT,
    Choice,
    Row,
    Scores,
    Want,
)


def choose(logits: torch.Tensor, rows: Sequence[Row]) -> Choice:
    adjusted = adjust(logits, [row.adjustment for row in rows])
    health = _health(logits, adjusted)
    alive = (health == HEALTHY).nonzero()[:, 0].tolist()
    tokens = torch.zeros(len(rows), dtype=torch.int64)
    if alive:
        picked = adjusted if len(alive) == len(rows) else adjusted[_index(alive, logits)]
        tokens[alive] = sample(picked, [rows[i].draw for i in alive]).cpu()
    wanting = [i for i in alive if rows[i].want is not None]
    scores = _scores(logits, adjusted, tokens, rows, wanting) if wanting else None
    return Choice(tokens, health, scores)


def _health(logits: torch.Tensor, adjusted: torch.Tensor) -> torch.Tensor:
    # NaN and +inf show in the maximum; a row of nothing but -inf has no token to choose.
    found = torch.where(adjusted.amax(-1).isfinite(), HEALTHY, NOTHING_LEFT)
    return torch.where(logits.amax(-1).isfinite(), found, NOT_FINITE).int().cpu()


def _scores(
    logits: torch.Tensor,
    adjusted: torch.Tensor,
    tokens: torch.Tensor,
    rows: Sequence[Row],
    wanting: list[int],
) -> Scores:
    """Scores of all rows, from those of the rows that want them."""
    wants = [rows[i].want or Want() for i in wanting]
    index = _index(wanting, logits)
    x = logits[index]
    processed = [n for n, want in enumerate(wants) if want.processed]
    if processed:
        scales = torch.tensor([_scale(rows[wanting[n]]) for n in processed], device=x.device)
        place = _index(processed, x)
        x[place] = adjusted[index[place]] / scales[:, None]
    width = max(len(want.extra) for want in wants)
    extra = [[*want.extra, *[0] * (width - len(want.extra))] for want in wants]
    scored = score(
        x,
        tokens.to(x.device)[index],
        max(want.top for want in wants),
        torch.tensor(extra, dtype=torch.int64, device=x.device),
    )
    return Scores(*(_spread(column.cpu(), wanting, len(rows)) for column in scored))


def _spread(column: torch.Tensor, wanting: list[int], count: int) -> torch.Tensor:
    """Its rows at their places among `count`."""
    spread = column.new_zeros((count, *column.shape[1:]))
    spread[wanting] = column
    return spread


def _scale(row: Row) -> float:
    """What processed logits are divided by."""
    return 1.0 if row.draw.greedy else row.draw.temperature


def _index(rows: list[int], like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(rows, device=like.device)
