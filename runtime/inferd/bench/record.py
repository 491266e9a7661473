"""What became of one request."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from itertools import pairwise


@dataclass(slots=True)
class Record:
    """One request's times, counts and error. Times are seconds of the client's clock.

    `scheduled` is when the request should have gone out by the load's plan, `sent` when the client
    began with it, before it opened a connection. What lies between is the client's own lateness,
    or its wait for `--max-concurrency`.
    """

    index: int
    scheduled: float
    sent: float = 0.0
    ended: float = 0.0
    arrivals: array[float] = field(default_factory=lambda: array("d"))
    """When each event with text came."""
    prompt_tokens: int | None = None  # by the server's usage; None: it told none
    output_tokens: int | None = None
    cached_tokens: int = 0  # of the prompt, whose KV the server had, by its usage
    asked_input: int = 0
    asked_output: int = 0
    finish_reason: str = ""
    error: str = ""  # its kind; "" for a request that ended well
    message: str = ""

    @property
    def ok(self) -> bool:
        return not self.error

    @property
    def ttft(self) -> float:
        """Time to first token: `sent` → the first event with text."""
        return self.arrivals[0] - self.sent

    @property
    def e2el(self) -> float:
        """End-to-end latency: `sent` → the reply's end."""
        return self.ended - self.sent

    @property
    def wait(self) -> float:
        """`scheduled` → `sent`."""
        return self.sent - self.scheduled

    @property
    def tokens(self) -> int:
        """Output tokens by usage; events with text where the server told no usage."""
        return len(self.arrivals) if self.output_tokens is None else self.output_tokens

    @property
    def tpot(self) -> float | None:
        """Time per output token: first event → last, over the tokens after the first.
        None for replies of a single token."""
        if self.tokens < 2:
            return None
        return (self.arrivals[-1] - self.arrivals[0]) / (self.tokens - 1)

    @property
    def itl(self) -> list[float]:
        """Inter-token latencies: between events with text, one after the other. An event may carry
        several tokens."""
        times = self.arrivals
        return [later - sooner for sooner, later in pairwise(times)]
