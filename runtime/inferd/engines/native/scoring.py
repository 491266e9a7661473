"""Logprobs of sampled and of prompt tokens, as messages.

`raw` scores are of the model's logits. `processed` ones are of the logits after logit bias,
masking of stop tokens, penalties and temperature (greedy: 1), but before top_k, top_p and min_p:
a filtered token still has the probability that it was filtered for. Prompt tokens were not
sampled, so for them only bias and temperature apply.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Seq

import torch

from inferd.engines.native.sequences import Sequence
from inferd.messages import Logprob
from inferd_kernels.sampling import GREEDY_BELOW, HEALTHY, Choice, Scores, adjust, score

Wishes = tuple[int, tuple[int, ...]]
"""How many alternatives, and which other tokens."""

SLICE_BYTES = 64 << 20
"""Logits of a prompt are computed in slices of at most so many bytes, or of one row."""


def output_logprobs(choice: Choice, sequences: Seq[Sequence]) -> dict[str, Logprob]:
    """Scores of the tokens just sampled, by request id, for the sequences that want them.

    Row n of `choice` is that of sequences[n].
    """
    if choice.scores is None:
        return {}
    wanting = [
        n
        for n, health in enumerate(choice.health.tolist())
        if health == HEALTHY and sequences[n].sampling.logprobs is not None
    ]
    tokens, scores = choice.tokens, choice.scores
    if len(wanting) < len(sequences):
        index = torch.tensor(wanting, dtype=torch.int64)
        tokens, scores = tokens[index], Scores(*(column[index] for column in scores))
        sequences = [sequences[n] for n in wanting]
    wishes = [_wishes(sequence, sequence.sampling.logprobs) for sequence in sequences]
    scored = _as_messages(tokens.tolist(), scores, wishes)
    return {sequence.request_id: one for sequence, one in zip(sequences, scored, strict=True)}


def score_prompt(
    sequence: Sequence,
    start: int,
    hidden: torch.Tensor,
    logits_of: Callable[[torch.Tensor], torch.Tensor],
    vocab_size: int,
) -> None:
    """Score the prompt tokens that follow positions start … start + len(hidden) - 1.

    Those already scored (before a preemption) are passed over, so that none appears twice.
    Raises ValueError where a logit is not finite.
    """
    prompt, scores = sequence.prompt, sequence.prompt_scores
    assert start <= len(scores), "a prompt position was skipped"
    end = min(start + len(hidden), len(prompt) - 1)
    rows = max(1, SLICE_BYTES // (4 * vocab_size))
    for begin in range(len(scores), end, rows):
        stop = min(begin + rows, end)
        logits = logits_of(hidden[begin - start : stop - start])
        if not bool(logits.amax(-1).isfinite().all()):
            raise ValueError(f"prompt logits at positions {begin} … {stop - 1} are not finite")
        if sequence.sampling.logprobs_mode == "processed":
            logits = adjust(logits, [sequence.bias()] * len(logits)) / _temperature(sequence)
        tokens = list(prompt[begin + 1 : stop + 1])
        scores += _score(logits, tokens, *_wishes(sequence, sequence.sampling.prompt_logprobs))


def _wishes(sequence: Sequence, top: int | None) -> Wishes:
    return top or 0, sequence.sampling.logprob_token_ids


def _score(
    logits: torch.Tensor, tokens: list[int], top: int, extra: tuple[int, ...]
) -> list[Logprob]:
    """The scores of `tokens` under logits [N, vocab]."""
    ids = torch.tensor(extra, dtype=torch.int64, device=logits.device).expand(len(tokens), -1)
    scored = score(logits, torch.tensor(tokens, device=logits.device), top, ids)
    return _as_messages(tokens, scored, [(top, extra)] * len(tokens))


def _as_messages(tokens: list[int], scores: Scores, wishes: Seq[Wishes]) -> list[Logprob]:
    """The scores of each of `tokens`, with as many alternatives and others as it wishes."""
    columns = zip(tokens, *(column.tolist() for column in scores), wishes, strict=True)
    return [
        Logprob(
            token,
            logprob,
            rank,
            tuple(zip(ids[:top], values[:top], strict=True)),
            tuple(zip(extra, others[: len(extra)], strict=True)),
        )
        for token, logprob, rank, ids, values, others, (top, extra) in columns
    ]


def _temperature(sequence: Sequence) -> float:
    temperature = sequence.sampling.temperature
    return 1.0 if temperature < GREEDY_BELOW else temperature
