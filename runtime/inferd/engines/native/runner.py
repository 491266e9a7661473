"""Runs one step: batch, forward, sampling, logprobs; a fault stays with the request it hit."""

from __future__ import annotations

import logging
from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate

import torch

from inferd.engines.native.batching import StepBatcher
from inferd.engines.native.constraint import Masks
from inferd.engines.native.model import Batch, Model
from inferd.engines.native.scoring import output_logprobs, score_prompt
from inferd.engines.native.sequences import Sequence
from inferd.engines.native.splitting import PartlyFailed
from inferd.errors import EngineError, InferdError, InvalidRequest
from inferd.messages import Logprob
from inferd_kernels.lora import LoraSegments, segments
from inferd_kernels.sampling import HEALTHY, NOTHING_LEFT, PendingChoice, choose_later
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


Chosen = tuple[list[Sequence], PendingChoice]
"""Whose tokens, row by row."""


@dataclass(slots=True, eq=False)
class Flight:
    """A step that was begun and is not finished."""

    step: Step
    sequences: list[Sequence]
    """Of its works. They may have left the runner since, and others have come by the same ids."""
    outcome: Outcome = field(default_factory=Outcome)
    """What is known of it already."""
    hidden: torch.Tensor | None = None  # of its forward pass, until it is sampled; None: it failed
    choices: list[Chosen] = field(default_factory=list)


Reached = tuple[int, Work, Sequence]
"""A work of a step, where its rows end in the flat batch, and its sequence, which is still here."""


class Runner:
    """A model, its KV cache (in the batcher) and the sampling state of every sequence.

    The owner adds to `sequences` what a step may name, and removes what has ended. Two steps may be
    in flight, the second begun when the first is sampled, each finished before the next is sampled:

        begin(1)  sample(1)  begin(2)  finish(1)  sample(2)  begin(3)  finish(2)  ...

    so that a device has a forward pass to do while the host takes in what the one before gave. Only
    `finish` waits for the device, and `sample` where it scores a prompt.

    Args:
        forward: in place of the model's own.
    """

    def __init__(
        self,
        model: Model,
        batcher: StepBatcher,
        forward: Callable[[Batch], torch.Tensor] | None = None,
    ) -> None:
        self.model = model
        self.sequences: dict[str, Sequence] = {}
        self._batcher = batcher
        self._forward = forward or model.forward
        self._masks = Masks()
        self._flights: list[Flight] = []  # in the order in which they were begun

    def close(self) -> None:
        self._masks.close()

    def run(self, step: Step) -> Outcome:
        """One step from end to end. Raises only if the device itself is lost, as its parts do."""
        flight = self.begin(step)
        self.sample(flight)
        return self.finish(flight)

    @torch.inference_mode()
    def begin(self, step: Step) -> Flight:
        """Launch the forward pass. A step in flight must have been sampled."""
        assert len(self._flights) < 2, "two steps are in flight"
        flight = Flight(step, [self.sequences[work.request_id] for work in step.works])
        self._flights.append(flight)
        if len(self._flights) == 1:
            self._begin_masks(flight)
        try:
            flight.hidden = self._forward(self._batcher.build(step))
        except PartlyFailed as error:
            flight.hidden = error.hidden
            for b, why in error.failed.items():
                flight.outcome.fail(step.works[b].request_id, f"forward pass failed: {why!r}")
        except Exception as error:
            _log.exception("step %d failed: %d sequences", step.number, len(step.works))
            for work in step.works:
                flight.outcome.fail(work.request_id, f"forward pass failed: {error!r}")
            self._recover()
        return flight

    @torch.inference_mode()
    def sample(self, flight: Flight) -> None:
        """Launch the choice of tokens for those that are still here."""
        assert flight is self._flights[0], "the step before this one is not finished"
        self._masks.wait()
        hidden, flight.hidden = flight.hidden, None
        if hidden is None:
            return
        here, failed = self._here(flight), flight.outcome.failed
        for reached in here:
            self._prepare(reached, hidden, flight.outcome)
        sampling = [r for r in here if r[1].samples and r[1].request_id not in failed]
        if sampling:
            self._sample(flight, sampling, pick(hidden, [end - 1 for end, _, _ in sampling]))

    @torch.inference_mode()
    def finish(self, flight: Flight) -> Outcome:
        """What came of it; with that, masks for the step behind it can be computed."""
        assert flight is self._flights[0], "the step before this one is not finished"
        assert flight.hidden is None, "the step was not sampled"
        del self._flights[0]
        for sequences, pending in flight.choices:
            self._take(sequences, pending, flight.outcome)
        if self._flights:
            self._begin_masks(self._flights[0])
        return flight.outcome

    def _here(self, flight: Flight) -> list[Reached]:
        """Those that have neither failed nor left since it was begun."""
        works, current, failed = flight.step.works, self.sequences.get, flight.outcome.failed
        ends = accumulate([len(work.tokens) for work in works])
        return [
            (end, work, sequence)
            for end, work, sequence in zip(ends, works, flight.sequences, strict=True)
            if current(work.request_id) is sequence and work.request_id not in failed
        ]

    def _begin_masks(self, flight: Flight) -> None:
        """For those that sample under a grammar, and whose last token was not the end."""
        each = zip(flight.step.works, flight.sequences, strict=True)
        samples = [sequence for work, sequence in each if work.samples]
        constraints = [s.constraint for s in samples if s.constraint is not None and not s.stopped]
        self._masks.begin(constraints)

    def _recover(self) -> None:
        """After an exception: raises where the device is lost."""
        if self.model.device.type == "cuda":
            torch.cuda.synchronize(self.model.device)
            torch.cuda.empty_cache()

    def _prepare(self, reached: Reached, hidden: torch.Tensor, outcome: Outcome) -> None:
        """See whether its grammar lets it go on; score what it computed of its prompt."""
        end, work, sequence = reached
        if sequence.constraint is not None and sequence.constraint.error:
            outcome.refuse(work.request_id, sequence.constraint.error)
        if not sequence.scores_prompt:
            return
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

    def _sample(self, flight: Flight, each: list[Reached], hidden: torch.Tensor) -> None:
        """Choose a token for each work from its row of `hidden`; if that fails, one by one."""
        try:
            self._sample_together(flight, each, hidden)
        except Exception as error:
            if len(each) == 1:
                request_id = each[0][1].request_id
                _log.exception("sampling for %s failed", request_id)
                flight.outcome.fail(request_id, f"sampling failed: {error!r}")
                return
            for i, reached in enumerate(each):
                self._sample(flight, [reached], hidden[i : i + 1])

    def _sample_together(self, flight: Flight, each: list[Reached], hidden: torch.Tensor) -> None:
        works = [work for _, work, _ in each]
        sequences = [sequence for _, _, sequence in each]
        logits = self.model.logits(hidden, self._segments(works, [1] * len(works)))
        pending = choose_later(logits, [sequence.row() for sequence in sequences])
        self._batcher.sampled([work.row for work in works], pending.tokens)
        flight.choices.append((sequences, pending))

    def _take(self, sequences: list[Sequence], pending: PendingChoice, outcome: Outcome) -> None:
        """Wait for a choice, and note it."""
        try:
            choice = pending.result()
            outcome.logprobs.update(output_logprobs(choice, sequences))
        except Exception as error:
            _log.exception("sampling failed: %d sequences", len(sequences))
            for sequence in sequences:
                outcome.fail(sequence.request_id, f"sampling failed: {error!r}")
            self._recover()
            return
        chosen = zip(sequences, choice.tokens.tolist(), choice.health.tolist(), strict=True)
        for sequence, token, health in chosen:
            if health == HEALTHY:
                outcome.tokens[sequence.request_id] = token
                sequence.append(token)
            else:
                _no_token(sequence, health, outcome)


def pick(hidden: torch.Tensor, rows: Seq[int]) -> torch.Tensor:
    """Ascending rows of it. An index would have to be copied to the device; slices need not."""
    if rows[-1] - rows[0] == len(rows) - 1:
        return hidden[rows[0] : rows[-1] + 1]
    pieces: list[list[int]] = []
    for row in rows:
        if pieces and pieces[-1][1] == row:
            pieces[-1][1] += 1
        else:
            pieces.append([row, row + 1])
    return torch.cat([hidden[begin:end] for begin, end in pieces])


def _no_token(sequence: Sequence, health: int, outcome: Outcome) -> None:
    """Nothing can be sampled from the logits of `sequence`."""
    if sequence.constraint is not None and health == NOTHING_LEFT:
        outcome.refuse(sequence.request_id, "the model excludes all that its grammar allows")
    else:
        outcome.fail(sequence.request_id, "the model's logits are not finite")
