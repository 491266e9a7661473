"""The meaning of `score`, in plain torch."""

from __future__ import annotations

import torch

from inferd_kernels.sampling.chunks import row_chunks
from inferd_kernels.sampling.rows import Scores

ID_BITS = 32
ID_MASK = (1 << ID_BITS) - 1


def score(
    logits: torch.Tensor, tokens: torch.Tensor, top: int, extra: torch.Tensor | None = None
) -> Scores:
    if extra is None:
        extra = tokens.new_empty((len(tokens), 0))
    parts = [_score(logits[part], tokens[part], top, extra[part]) for part in row_chunks(logits)]
    return Scores(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _score(logits: torch.Tensor, tokens: torch.Tensor, top: int, extra: torch.Tensor) -> Scores:
    shifted = logits - logits.amax(-1, keepdim=True)
    log_total = shifted.exp().sum(-1, keepdim=True).log_()
    given = shifted.gather(-1, tokens[:, None])
    ids = torch.arange(logits.shape[-1], device=logits.device)
    ahead = (shifted > given) | ((shifted == given) & (ids < tokens[:, None]))
    top_ids = _top_ids(shifted, top)
    return Scores(
        logprobs=(given - log_total)[:, 0],
        ranks=ahead.sum(-1) + 1,
        top_ids=top_ids,
        top_logprobs=shifted.gather(-1, top_ids) - log_total,
        extra_logprobs=shifted.gather(-1, extra) - log_total,
    )


def _top_ids(x: torch.Tensor, top: int) -> torch.Tensor:
    """The `top` largest of each row [N, vocab] float32, ties by id: [N, min(top, vocab)] int64.

    torch.topk breaks ties as it likes; so it gets integers without ties, (x, -id) in one key.
    """
    if not top:
        return torch.empty((len(x), 0), dtype=torch.int64, device=x.device)
    bits = (x + 0.0).view(torch.int32).to(torch.int64)  # + 0.0: -0.0 becomes 0.0
    ordered = bits ^ ((bits >> 63) & 0x7FFFFFFF)  # as integers these compare like the floats
    ids = torch.arange(x.shape[-1], device=x.device)
    keys = (ordered << ID_BITS) | (ID_MASK - ids)
    return ID_MASK - (keys.topk(min(top, x.shape[-1])).values & ID_MASK)
