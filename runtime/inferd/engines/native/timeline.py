"""When what happened to one request."""

from __future__ import annotations

from inferd.messages import Begun


class Timeline:
    """Times in the clock's seconds."""

    __slots__ = (
        "cached_tokens",
        "first_token",
        "last_token",
        "num_prompt",
        "queued_s",
        "submitted",
    )

    def __init__(self, submitted: float, num_prompt: int) -> None:
        self.submitted = submitted
        self.num_prompt = num_prompt
        self.queued_s = 0.0
        self.cached_tokens = 0
        self.first_token: float | None = None
        self.last_token = 0.0

    def token(self, now: float) -> Begun | None:
        """Note a token that came now; what led to it if it is the first."""
        self.last_token = now
        if self.first_token is not None:
            return None
        self.first_token = now
        return Begun(
            self.queued_s, now - self.submitted - self.queued_s, max(0, self.cached_tokens)
        )

    @property
    def decode_s(self) -> float:
        """First token → last."""
        return 0.0 if self.first_token is None else self.last_token - self.first_token
