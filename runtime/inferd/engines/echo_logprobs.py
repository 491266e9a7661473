"""The echo engine's logprobs: the token of rank r has probability 2^-r.

An output token has rank 1, prompt token i has rank 1 + i mod 3, and the other ranks go to the
smallest other ids, in order.
"""

from __future__ import annotations

import math

from inferd.messages import Logprob, PromptScored, Sampling, Submit


def score_prompt(submit: Submit, k: int) -> PromptScored:
    sampling = submit.sampling
    scores = (scored(sampling, t, 1 + i % 3, k) for i, t in enumerate(submit.prompt) if i)
    return PromptScored(submit.request_id, tuple(scores))


def scored(sampling: Sampling, token: int, rank: int, k: int) -> Logprob:
    return score(token, rank, k, sampling.logprob_token_ids)


def score(token: int, rank: int, k: int, extra: tuple[int, ...] = ()) -> Logprob:
    """The logprob of `token` at `rank`, with the `k` likeliest and those of `extra`: see the
    module's rule."""
    others = (t for t in range(k + 1) if t != token)
    top = ((token if r == rank else next(others), -r * math.log(2)) for r in range(1, k + 1))
    also = ((t, -_rank(t, token, rank) * math.log(2)) for t in extra)
    return Logprob(token, -rank * math.log(2), rank, tuple(top), tuple(also))


def _rank(token: int, given: int, rank: int) -> int:
    """The rank of `token` where `given` has `rank`: its place among the others, which go round."""
    if token == given:
        return rank
    place = token + 1 if token < given else token
    return place if place < rank else place + 1
