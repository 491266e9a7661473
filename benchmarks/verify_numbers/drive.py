"""Drives a native core in this process and keeps what it says about every request."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from inferd.engines.native.core import NativeCore
from inferd.messages import Begun, Fail, Finish, Logprob, PromptScored, Submit, Tokens


@dataclass(slots=True)
class Transcript:
    """All that came back for one request."""

    tokens: list[int] = field(default_factory=list)
    logprobs: list[Logprob] = field(default_factory=list)
    prompt: tuple[Logprob, ...] | None = None
    begun: Begun | None = None
    end: Finish | Fail | None = None

    @property
    def cached_tokens(self) -> int:
        assert self.begun is not None
        return self.begun.cached_tokens

    @property
    def finish(self) -> Finish:
        """How it ended, which must have been well."""
        assert isinstance(self.end, Finish), self.end
        return self.end


def drive(core: NativeCore, submits: Iterable[Submit]) -> dict[str, Transcript]:
    """Submit all at once and step until nothing is left; check the invariants at every turn."""
    transcripts: dict[str, Transcript] = {}
    events = []
    for submit in submits:
        transcripts[submit.request_id] = Transcript()
        events += core.submit(submit)
    while events or core.busy:
        for event in events:
            record(transcripts[event.request_id], event)
        events = core.step() if core.busy else []
        core.check()
    return transcripts


def record(transcript: Transcript, event: Tokens | PromptScored | Finish | Fail) -> None:
    """Add an event; nothing may follow the end, nor a prompt's scores its first token."""
    assert transcript.end is None, f"{event} after {transcript.end}"
    if isinstance(event, Tokens):
        assert (event.begun is not None) == (not transcript.tokens)
        transcript.begun = transcript.begun or event.begun
        transcript.tokens += event.token_ids
        transcript.logprobs += event.logprobs
    elif isinstance(event, PromptScored):
        assert transcript.prompt is None
        assert not transcript.tokens
        transcript.prompt = event.logprobs
    else:
        transcript.end = event
