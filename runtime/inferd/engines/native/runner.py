"""Runs one step: batch, forward, sampling, logprobs; a fault stays with the request it hit."""

from __future__ import annotations

import logging
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from functools import partial

import torch

from inferd.engines.native.batching import Batcher
from inferd.engines.native.constraint import Constraint, Masks
from inferd.engines.native.model import Model
from inferd.engines.native.scoring import output_logprobs, score_prompt
from inferd.engines.native.sequences import Sequence
from inferd.errors import EngineError, InferdError, InvalidRequest
from inferd.messages import Logprob
from inferd_kernels.lora import LoraSegments, segments
from inferd_kernels.sampling import HEALTHY, NOTHING_LEFT, choose
from inferd_scheduler import Result, Step, Work

_log = logging.getLogger("inferd.engines.native")


@dataclass(slots=True)
class Outcome:
    """What came of a step, by request id. A request in `failed` is in none of the others."""

    tokens: dict[str, int] = field(default_factory=dict)
    logprobs: dict[str, Logprob] = field(default_factory=dict)
    failed: dict[str, InferdError] = field(default_factory=dict)

    def result(self, step: Step) -> Result:
        """The scheduler's form of it."""
        return Result(
            tokens=[self.tokens.get(work.request_id) for work in step.works],
            failed={name: error.message for name, error in self.failed.items()},
        )

    def fail(self, request_id: str, log: str) -> None:
        """The engine could not go on with it."""
        self._drop(request_id, EngineError(log=log))

    def refuse(self, request_id: str, why: str) -> None:
        """Its grammar does not let it go on."""
        self._drop(request_id, InvalidRequest(f"The answer cannot go on: {why}", "grammar"))

    def _drop(self, request_id: str, error: InferdError) -> None:
        self.tokens.pop(request_id, None)
        self.logprobs.pop(request_id, None)
        self.failed[request_id] = error


class Runner:
    """A model, its KV cache (in the batcher) and the sampling state of every sequence.

    The owner adds to `sequences` what a step may name, and removes what has ended.
    """

    def __init__(self, model: Model, batcher: Batcher) -> None:
        self.model = model
        self.sequences: dict[str, Sequence] = {}
        self._batcher = batcher
        self._masks = Masks()

    def close(self) -> None:
        self._masks.close()

    @torch.inference_mode()
    def run(self, step: Step) -> Outcome:
        """One forward pass. Raises only if the device itself is lost."""
        outcome = Outcome()
        constrained = self._constrained(step.works)
        self._masks.begin([constraint for _, constraint in constrained])
        try:
            batch = self._batcher.build(step, self.model.device)
            hidden = self.model.forward(batch)
        except Exception as error:
            self._masks.wait()
            self._forward_failed(step, error, outcome)
            return outcome
        self._masks.wait()
        for request_id, constraint in constrained:
            if constraint.error:
                outcome.refuse(request_id, constraint.error)
        self._score_prompts(step.works, hidden, outcome)
        sampling = [
            b
            for b, work in enumerate(step.works)
            if work.samples and work.request_id not in outcome.failed
        ]
        if sampling:
            works = [step.works[b] for b in sampling]
            if len(works) < len(hidden):  # of each sequence that samples, the last row
                hidden = hidden[batch.cu_seqlens_q[1:].long()[sampling] - 1]
            self._sample(works, hidden, outcome)
        for request_id, token in outcome.tokens.items():
            self.sequences[request_id].append(token)
        return outcome

    def _constrained(self, works: Seq[Work]) -> list[tuple[str, Constraint]]:
        """Those that sample under a grammar."""
        sampling = (self.sequences[work.request_id] for work in works if work.samples)
        return [(seq.request_id, seq.constraint) for seq in sampling if seq.constraint is not None]

    def _forward_failed(self, step: Step, error: Exception, outcome: Outcome) -> None:
        _log.exception("step %d failed: %d sequences", step.number, len(step.works))
        for work in step.works:
            outcome.fail(work.request_id, f"forward pass failed: {error!r}")
        if self.model.device.type == "cuda":
            torch.cuda.synchronize(self.model.device)  # raises where the context is lost
            torch.cuda.empty_cache()

    def _score_prompts(self, works: Seq[Work], hidden: torch.Tensor, outcome: Outcome) -> None:
        end = 0
        for work in works:
            end += len(work.tokens)
            sequence = self.sequences[work.request_id]
            if not sequence.scores_prompt:
                continue
            mine = hidden[end - len(work.tokens) : end]
            try:
                logits = partial(self._logits_of, work)
                score_prompt(sequence, work.start, mine, logits, self.model.vocab_size)
            except Exception as error:
                _log.exception("scoring the prompt of %s failed", work.request_id)
                outcome.fail(work.request_id, f"scoring the prompt failed: {error!r}")

    def _logits_of(self, work: Work, hidden: torch.Tensor) -> torch.Tensor:
        """Logits of rows of one sequence."""
        return self.model.logits(hidden, self._segments([work], [len(hidden)]))

    def _segments(self, works: Seq[Work], sizes: Seq[int]) -> LoraSegments | None:
        """Of rows that are not a step's."""
        slots = [work.slot for work in works]
        return segments(slots, sizes, self.model.device) if max(slots) >= 0 else None

    def _sample(self, works: list[Work], hidden: torch.Tensor, outcome: Outcome) -> None:
        """Choose a token for each work from its row of `hidden`; if that fails, one by one."""
        try:
            self._sample_together(works, hidden, outcome)
        except Exception as error:
            if len(works) == 1:
                _log.exception("sampling for %s failed", works[0].request_id)
                outcome.fail(works[0].request_id, f"sampling failed: {error!r}")
                return
            for i, work in enumerate(works):
                self._sample([work], hidden[i : i + 1], outcome)

    def _sample_together(self, works: list[Work], hidden: torch.Tensor, outcome: Outcome) -> None:
        sequences = [self.sequences[work.request_id] for work in works]
        logits = self.model.logits(hidden, self._segments(works, [1] * len(works)))
        choice = choose(logits, [sequence.row() for sequence in sequences])
        scored = output_logprobs(choice, sequences)
        chosen = zip(sequences, choice.tokens.tolist(), choice.health.tolist(), strict=True)
        for sequence, token, health in chosen:
            if health == HEALTHY:
                outcome.tokens[sequence.request_id] = token
            else:
                _no_token(sequence, health, outcome)
        outcome.logprobs.update(scored)


def _no_token(sequence: Sequence, health: int, outcome: Outcome) -> None:
    """Nothing can be sampled from the logits of `sequence`."""
    if sequence.constraint is not None and health == NOTHING_LEFT:
        outcome.refuse(sequence.request_id, "the model excludes all that its grammar allows")
    else:
        outcome.fail(sequence.request_id, "the model's logits are not finite")
