"""What sampling and scoring must remember of a sequence; the scheduler knows the rest."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from inferd.engines.native.constraint import Constraint
from inferd.messages import Logprob, Sampling, Submit
from inferd_kernels.sampling import NO_INTS, Adjustment, Draw, Row, Want


class TokenCounts:
    """The distinct tokens of a prompt and output, with their counts in the output."""

    def __init__(self, prompt: Iterable[int]) -> None:
        distinct = list(dict.fromkeys(prompt))
        self._place = {token: i for i, token in enumerate(distinct)}
        self._ids = np.array(distinct, np.int64)
        self._counts = np.zeros(len(distinct), np.int64)

    def add(self, token: int) -> None:
        """Count one more output token."""
        place = self._place.setdefault(token, len(self._place))
        if place == len(self._ids):  # full: double, so that adding stays cheap
            self._ids = np.concatenate((self._ids, np.empty_like(self._ids)))
            self._counts = np.concatenate((self._counts, np.zeros_like(self._counts)))
        self._ids[place] = token
        self._counts[place] += 1

    @property
    def ids(self) -> np.ndarray:
        """[U] int64, each once."""
        return self._ids[: len(self._place)]

    @property
    def counts(self) -> np.ndarray:
        """[U] int64, in the output; 0 for a token of the prompt alone."""
        return self._counts[: len(self._place)]


class Sequence:
    """One request's sampling state. Preemption leaves it as it is: its tokens are kept."""

    def __init__(self, submit: Submit, constraint: Constraint | None = None) -> None:
        """`constraint` has read `submit.output` already."""
        sampling = submit.sampling
        self.request_id = submit.request_id
        self.grammar = submit.grammar
        self.adapter = submit.adapter
        self.constraint = constraint
        self.prompt = submit.prompt
        self.sampling = sampling
        self.num_output = 0
        self.prompt_scores: list[Logprob] = []  # of prompt tokens 1 …, as far as computed
        self._bias_ids = np.array([token for token, _ in sampling.logit_bias], np.int64)
        self._bias = np.array([bias for _, bias in sampling.logit_bias], np.float32)
        self._stop_ids = np.array(sorted(set(sampling.stop_token_ids)), np.int64)
        self.stopped = False  # by its last token; known of those under a grammar
        self._counts = TokenCounts(submit.prompt) if _penalizes(sampling) else None
        self._row = Row(_draw(sampling), _want(sampling))
        for token in submit.output:
            self._count(token)

    def append(self, token: int) -> None:
        """An output token was sampled."""
        self._count(token)
        if self.constraint is not None:
            self.constraint.append(token)
            self.stopped = token in self.sampling.stop_token_ids  # it has no `min_tokens`

    def _count(self, token: int) -> None:
        self.num_output += 1
        if self._counts is not None:
            self._counts.add(token)

    def row(self) -> Row:
        """How to choose and to score the next token; the same object each time."""
        self._row.draw.position = len(self.prompt) + self.num_output
        self._row.adjustment = self.adjustment()
        return self._row

    def adjustment(self) -> Adjustment | None:
        """What to change in the next token's logits; None: nothing."""
        masks = self.num_output < self.sampling.min_tokens and len(self._stop_ids) > 0
        allowed = None if self.constraint is None else self.constraint.allowed
        if not (masks or self._counts or len(self._bias_ids) or allowed is not None):
            return None
        return Adjustment(
            self._bias_ids,
            self._bias,
            self._stop_ids if masks else NO_INTS,
            allowed,
            self._counts.ids if self._counts else NO_INTS,
            self._counts.counts if self._counts else NO_INTS,
            self.sampling.repetition_penalty,
            self.sampling.presence_penalty,
            self.sampling.frequency_penalty,
        )

    def bias(self) -> Adjustment:
        """The logit bias alone."""
        return Adjustment(bias_ids=self._bias_ids, bias=self._bias)

    @property
    def scores_prompt(self) -> bool:
        """Whether prompt tokens remain to be scored."""
        return (
            self.sampling.prompt_logprobs is not None
            and len(self.prompt_scores) < len(self.prompt) - 1
        )


def _penalizes(sampling: Sampling) -> bool:
    return (
        sampling.repetition_penalty != 1
        or sampling.presence_penalty != 0
        or sampling.frequency_penalty != 0
    )


def _draw(sampling: Sampling) -> Draw:
    return Draw(
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        min_p=sampling.min_p,
        seed=sampling.seed,
    )


def _want(sampling: Sampling) -> Want | None:
    if sampling.logprobs is None:
        return None
    processed = sampling.logprobs_mode == "processed"
    return Want(sampling.logprobs, sampling.logprob_token_ids, processed)
