"""A model-free engine that notices every wrong step. For tests; nothing else imports it.

Its KV cache holds, per position's slot, the digest of all tokens up to there. So it sees at once a
block that is stale, shared wrongly or overwritten, and a chunk that starts at the wrong place. Its
next token is a pure function of the tokens so far, so a token that is lost or repeated by
preemption or resumption changes all that follow.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from zlib import crc32

from inferd_scheduler.config import SchedulerConfig
from inferd_scheduler.request import Request
from inferd_scheduler.step import UNKNOWN, Result, Step, Work

VOCAB_SIZE = 50


def digests(root: int, tokens: Iterable[int]) -> list[int]:
    """The digest of each prefix of `tokens`, from one token up (a linear congruence mod 2**64)."""
    found = []
    for token in tokens:
        root = (root * 6364136223846793005 + token + 1442695040888963407) % 2**64
        found.append(root)
    return found


def root_of(request: Request) -> int:
    """What the KV of `request` depends on besides its tokens."""
    return crc32(repr((request.adapter, request.salt)).encode())


def next_token(digest: int) -> int:
    return (digest >> 33) % VOCAB_SIZE


def expected_output(request: Request, max_model_len: int) -> list[int]:
    """All output tokens of a request that has not run yet, given ones included."""
    tokens = list(request.tokens)
    while len(tokens) < limit_of(request, max_model_len):
        tokens.append(next_token(digests(root_of(request), tokens)[-1]))
        enough = len(tokens) - request.num_prompt >= request.min_tokens
        if enough and tokens[-1] in request.stop_token_ids:
            break
    return tokens[request.num_prompt :]


def limit_of(request: Request, max_model_len: int) -> int:
    """The total at which it ends."""
    return min(request.num_prompt + request.max_tokens, max_model_len)


@dataclass(slots=True)
class _Sequence:
    root: int
    adapter: str
    tokens: list[int]
    limit: int
    failed: int = 0  # the step, if any


@dataclass(slots=True)
class _Row:
    request_id: str
    computed: int
    block_table: list[int] = field(default_factory=list)


class CheckedEngine:
    """Runs steps and raises AssertionError at the first wrong one.

    Like an engine with two steps in flight it goes on with a sequence that has ended meanwhile, and
    with one that failed in the step before.
    """

    def __init__(self, config: SchedulerConfig) -> None:
        self.config = config
        self.computed_tokens: dict[str, int] = {}  # positions computed so far, by request id
        self._sequences: dict[str, _Sequence] = {}
        self._rows: dict[int, _Row] = {}
        self._slots = [0] * (config.num_blocks * config.block_size)
        self._adapters = [""] * config.max_adapters  # what each adapter slot holds
        self._number = 0
        self._sampled: set[int] = set()  # rows, in the last step

    def expect(self, request: Request) -> None:
        """Learn the tokens of a request that was just accepted."""
        self._sequences[request.request_id] = _Sequence(
            root_of(request),
            request.adapter,
            list(request.tokens),
            limit_of(request, self.config.max_model_len),
        )
        self.computed_tokens[request.request_id] = 0

    def run(self, step: Step, failing: Collection[str] = ()) -> Result:
        """Compute `step`; the sequences in `failing` leave garbage in the slots they write."""
        works = step.works
        self._number += 1
        assert step.number == self._number
        assert works
        assert len({work.row for work in works}) == len({work.request_id for work in works})
        assert len({slot for slot, _ in step.slot_loads}) == len(step.slot_loads)
        assert sum(len(work.tokens) for work in works) == step.num_tokens
        assert step.num_tokens <= self.config.max_batch_tokens
        for request_id in step.preempted:
            self._rows = {r: row for r, row in self._rows.items() if row.request_id != request_id}
        for slot, adapter in step.slot_loads:
            assert adapter
            self._adapters[slot] = adapter
        for work in works:
            self._place(work)
        for work in works:
            sequence = self._sequences[work.request_id]
            assert sequence.failed in (0, step.number - 1), "it failed before the last step"
            if work.request_id in failing and not sequence.failed:
                sequence.failed = step.number
        tokens = [self._compute(work) for work in works]
        self._sampled = {work.row for work in works if work.samples}
        reasons = {w.request_id: "poisoned" for w in works if w.request_id in failing}
        return Result(tokens, reasons)

    def _place(self, work: Work) -> None:
        """Bring the work's row up to date, and check the claim that `start` tokens are there."""
        assert 0 <= work.row < self.config.max_batch_size
        if work.first:
            self._rows[work.row] = _Row(work.request_id, work.start)
        row = self._rows[work.row]
        assert row.request_id == work.request_id, "the row is somebody else's"
        assert row.computed == work.start, "a chunk starts where the last one ended"
        row.block_table.extend(work.new_blocks)
        row.computed += len(work.tokens)
        assert work.tokens
        held = self._adapters[work.slot] if work.slot >= 0 else ""
        assert held == self._sequences[work.request_id].adapter, "another adapter's slot"
        assert row.computed <= len(row.block_table) * self.config.block_size

    def _compute(self, work: Work) -> int | None:
        """Write the work's slots, then read the whole sequence as attention would."""
        sequence, row = self._sequences[work.request_id], self._rows[work.row]
        end = work.start + len(work.tokens)
        slots = self._slots_of(row.block_table)
        assert end < sequence.limit, "a token that nobody needs"
        self.computed_tokens[work.request_id] += len(work.tokens)
        if work.tokens == (UNKNOWN,):
            assert work.row in self._sampled, "a token that the step before did not sample"
        if sequence.failed:
            for position in range(work.start, end):
                self._slots[slots[position]] = -1
            return None
        if work.tokens != (UNKNOWN,):
            assert list(work.tokens) == sequence.tokens[work.start : end]
        assert work.samples == (end == len(sequence.tokens))
        truth = digests(sequence.root, sequence.tokens[:end])
        for position in range(work.start, end):
            self._slots[slots[position]] = truth[position]
        assert [self._slots[slot] for slot in slots[:end]] == truth, "wrong KV"
        if not work.samples:
            return None
        sequence.tokens.append(next_token(truth[-1]))
        return sequence.tokens[-1]

    def _slots_of(self, block_table: Sequence[int]) -> list[int]:
        size = self.config.block_size
        return [block * size + offset for block in block_table for offset in range(size)]
