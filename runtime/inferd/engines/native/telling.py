"""The scheduler's events as messages, with what the runner and the clock add to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from inferd.engines.native.runner import Outcome
from inferd.engines.native.sequences import Sequence
from inferd.engines.native.timeline import Timeline
from inferd.errors import InferdError, InvalidRequest
from inferd.messages import Event, Fail, Finish, PromptScored, Tokens
from inferd_scheduler import Event as SchedulerEvent
from inferd_scheduler import Failed, Finished, Scheduled, Token


class Teller:
    """Keeps the timeline of every request that the scheduler has.

    Args:
        sequences: of these, by request id.
        end: called with a sequence that has ended, and with what it failed on in its step, if
            anything, before that is told.
    """

    def __init__(
        self,
        sequences: Mapping[str, Sequence],
        end: Callable[[Sequence, InferdError | None], None],
    ) -> None:
        self.timelines: dict[str, Timeline] = {}
        self.prompt_tokens = self.output_tokens = 0
        self._sequences = sequences
        self._end = end

    def begin(self, request_id: str, submitted: float, num_prompt: int) -> None:
        """The scheduler has it."""
        self.timelines[request_id] = Timeline(submitted, num_prompt)

    def tell(self, events: list[SchedulerEvent], outcome: Outcome, now: float) -> list[Event]:
        """`outcome` is that of the step which `events` come from."""
        messages: list[Event] = []
        for event in events:
            if isinstance(event, Token):
                messages += self._tokens(event, outcome, now)
            elif isinstance(event, Scheduled):
                timeline = self.timelines[event.request_id]
                timeline.queued_s = event.queued_s
                timeline.cached_tokens = event.cached_tokens
                self.prompt_tokens += timeline.num_prompt
            elif isinstance(event, Finished):
                messages.append(self._finish(event))
            elif isinstance(event, Failed):
                messages.append(self._fail(event, outcome.failed.get(event.request_id)))
        return messages

    def _tokens(self, event: Token, outcome: Outcome, now: float) -> list[Event]:
        messages: list[Event] = []
        timeline = self.timelines[event.request_id]
        sequence = self._sequences[event.request_id]
        begun = timeline.token(now)
        if begun is not None and sequence.sampling.prompt_logprobs is not None:
            messages.append(PromptScored(event.request_id, tuple(sequence.prompt_scores)))
        self.output_tokens += 1
        score = outcome.logprobs.get(event.request_id)
        scores = () if score is None else (score,)
        messages.append(Tokens(event.request_id, (event.token,), scores, begun))
        return messages

    def _finish(self, event: Finished) -> Finish:
        timeline = self.timelines.pop(event.request_id)
        self._end(self._sequences[event.request_id], None)
        return Finish(
            event.request_id,
            event.reason,
            event.stop_token,
            decode_s=timeline.decode_s,
            preemptions=event.preemptions,
        )

    def _fail(self, event: Failed, error: InferdError | None) -> Fail:
        """Of what the scheduler ended; `error` is what came of its step, if anything."""
        del self.timelines[event.request_id]
        self._end(self._sequences[event.request_id], error)
        if isinstance(error, InvalidRequest):
            return Fail(event.request_id, "invalid", event.message, param=error.param or "")
        log = "" if error is None else str(error)
        return Fail(event.request_id, event.code, event.message, log)
