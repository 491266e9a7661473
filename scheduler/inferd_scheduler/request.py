"""What a request is, and which moves between its states are legal."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import Enum


class State(Enum):
    """Where a request stands. The last three are terminal."""

    NEW = "new"  # not submitted yet
    WAITING = "waiting"  # in the queue; holds neither row nor blocks
    RUNNING = "running"  # holds a row, and blocks for all its tokens but perhaps the last
    FINISHED = "finished"  # stop or length
    ABORTED = "aborted"
    FAILED = "failed"


class Move(Enum):
    """What can happen to a request."""

    SUBMIT = "submit"
    ADMIT = "admit"
    PREEMPT = "preempt"
    FINISH = "finish"
    FAIL = "fail"
    ABORT = "abort"


MOVES: dict[tuple[State, Move], State] = {
    (State.NEW, Move.SUBMIT): State.WAITING,
    (State.WAITING, Move.ADMIT): State.RUNNING,
    (State.WAITING, Move.ABORT): State.ABORTED,
    (State.RUNNING, Move.PREEMPT): State.WAITING,
    (State.RUNNING, Move.FINISH): State.FINISHED,
    (State.RUNNING, Move.FAIL): State.FAILED,
    (State.RUNNING, Move.ABORT): State.ABORTED,
}
"""Every legal move; any other is a bug."""

TERMINAL = frozenset({State.FINISHED, State.ABORTED, State.FAILED})


class Request:
    """One sequence to generate, and how far it has come.

    The scheduler alone writes to it after `submit`; others may read the properties. `output` are
    tokens that were generated elsewhere: generation resumes after them, and they count towards
    `max_tokens` and `min_tokens`.
    """

    __slots__ = (
        "adapter",
        "ahead",
        "arrival",
        "block_table",
        "cached_tokens",
        "caller",
        "charged",
        "due",
        "filled",
        "grown",
        "keys",
        "limit",
        "max_tokens",
        "min_tokens",
        "num_given",
        "num_prompt",
        "pending",
        "preemptions",
        "priority",
        "request_id",
        "reuse_prefix",
        "row",
        "salt",
        "slot",
        "state",
        "stop_token_ids",
        "submitted",
        "tokens",
    )

    def __init__(
        self,
        request_id: str,
        prompt: Sequence[int],
        max_tokens: int,
        *,
        output: Sequence[int] = (),
        stop_token_ids: Collection[int] = (),
        caller: str = "",
        priority: int = 0,
        salt: str = "",
        adapter: str = "",
        reuse_prefix: bool = True,
        min_tokens: int = 0,
    ) -> None:
        self.request_id = request_id
        self.num_prompt = len(prompt)
        self.num_given = self.num_prompt + len(output)  # tokens that were not sampled here
        self.tokens: list[int] = [*prompt, *output]
        self.max_tokens = max_tokens  # output tokens, counting those in `output`
        self.min_tokens = min_tokens  # stop tokens do not end it before so many output tokens
        self.stop_token_ids = frozenset(stop_token_ids)
        self.caller = caller  # fair share is by caller
        self.priority = priority  # smaller first
        self.salt = salt  # prefixes are shared only within one salt (a tenant)
        self.adapter = (
            adapter  # what its slot must hold, and part of what its KV depends on; "": none
        )
        self.reuse_prefix = reuse_prefix  # False: every prompt position must be computed once

        self.state = State.NEW
        self.arrival = -1  # order of submission
        self.submitted = 0.0  # the caller's `now` at submission, seconds
        self.limit = 0  # the total at which it ends with `length`
        self.pending = len(self.tokens)  # tokens whose KV is not computed yet
        self.ahead = 0  # of these, while it fills, those that steps in flight compute
        self.row = -1  # its place in the batch while it runs, else -1
        self.slot = -1  # of its adapter while it runs, else -1
        self.block_table: list[int] = []
        self.keys: list[bytes] = []  # of its leading full blocks, as far as they were needed
        self.filled = 0  # leading blocks that are full and offered to the prefix index
        self.cached_tokens = -1  # prompt tokens found in the prefix cache; -1: never scheduled
        self.preemptions = 0
        self.charged = 0  # leading tokens that its caller's fair share has paid for
        self.grown: tuple[int, ...] = ()  # blocks added for the last step planned, while decoding
        self.due = 0  # the step that brings it to a decision, or 0; see `Batch`

    def move(self, move: Move) -> None:
        """Change state; KeyError, a bug of ours, if the move is illegal."""
        self.state = MOVES[self.state, move]

    @property
    def total(self) -> int:
        """Tokens known: prompt and output."""
        return len(self.tokens)

    @property
    def computed(self) -> int:
        """Leading tokens whose KV is in the blocks."""
        return len(self.tokens) - self.pending

    @property
    def prompt(self) -> Sequence[int]:
        return self.tokens[: self.num_prompt]

    @property
    def output(self) -> Sequence[int]:
        return self.tokens[self.num_prompt :]

    @property
    def num_output(self) -> int:
        """Output tokens, counting those that were given at submission."""
        return len(self.tokens) - self.num_prompt

    @property
    def stopped(self) -> bool:
        """Whether its last output token ends it."""
        enough = self.num_output >= max(1, self.min_tokens)
        return enough and self.tokens[-1] in self.stop_token_ids

    @property
    def may_reuse(self) -> bool:
        """Whether cached prefixes may serve it: allowed, or its prompt was computed here before."""
        return self.reuse_prefix or len(self.tokens) > self.num_given

    def __repr__(self) -> str:
        return (
            f"<Request {self.request_id!r} {self.state.value} row={self.row} "
            f"{self.computed}/{self.total} blocks={len(self.block_table)}>"
        )
