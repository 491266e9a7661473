"""`adjust`, `sample`, `score`, `choose` and `choose_later` in Triton; no vocabulary is sorted.

A step is a chain of kernels, each for all rows that need it. How often a row's logits are read:

    greedy                                1: `scan` finds the likeliest
    temperature, min_p                    2: and `race`
    top_k, top_p or both                  4: and `weigh` and `collect`; chunks in which no token can
                                             stay are not read again by `collect` and `race`
    adjusted                              2 more, and 1 written: the row is copied, its tokens are
                                             changed (`touch`), the copy is scanned
    scored                                1 more: `tally`

A border (the k-th largest logit; the least likelihood in the nucleus) is found by its bits: `weigh`
counts into 1024 bins, `collect` lists what is in the border's bin (for top_k also what is above),
`cut` finds the border in that list, bit by bit. Equal logits stay or go together.

A step's parameters go to the device in one copy, and its results come back in one; nothing waits
but `PendingChoice.result`, for these alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import triton

from inferd_kernels.sampling import gpu_draw, gpu_kernels, gpu_scores
from inferd_kernels.sampling.adjustments import Adjustment
from inferd_kernels.sampling.gpu_results import Results
from inferd_kernels.sampling.gpu_table import ROW, Step, adjusting, scoring, step_of, words_in
from inferd_kernels.sampling.rows import Choice, Draw, PendingChoice, Row, Scores

_EXACT = {"enable_fp_fusion": False}
"""Products are rounded before they are added to, as the reference's are."""


def adjust(logits: torch.Tensor, rows: Sequence[Adjustment | None]) -> torch.Tensor:
    if all(row is None for row in rows):
        return logits
    logits = _lines(logits)
    run = _Run.begin(adjusting(rows, logits.shape[1]), logits)
    run.scan()
    run.touch()
    return run.adjusted[: len(rows), : logits.shape[1]]


def sample(logits: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
    return _begin(logits, [Row(draw) for draw in draws]).tokens


def score(
    logits: torch.Tensor, tokens: torch.Tensor, top: int, extra: torch.Tensor | None = None
) -> Scores:
    """A token outside the vocabulary has no logprob: NaN, since only the device knows of it."""
    logits = _lines(logits)
    count, vocab = logits.shape
    num_extra = 0 if extra is None else extra.shape[1]
    run = _Run.begin(scoring(count, min(top, vocab), num_extra), logits)
    results = Results(run.step, logits.device)
    run.scan()
    others = run.words if extra is None else extra.to(torch.int32).contiguous()
    run.score(tokens.contiguous(), others, results)
    return results.scores()


def choose(logits: torch.Tensor, rows: Sequence[Row]) -> Choice:
    return choose_later(logits, rows).result()


def choose_later(logits: torch.Tensor, rows: Sequence[Row]) -> PendingChoice:
    results = _begin(logits, rows)
    return PendingChoice(results.tokens, results.fetch())


def _begin(logits: torch.Tensor, rows: Sequence[Row]) -> Results:
    logits = _lines(logits)
    assert len(rows) == len(logits), "a row for each line of logits"
    step = step_of(rows, logits.shape[1])
    run = _Run.begin(step, logits)
    results = Results(step, logits.device)
    run.scan()
    if step.touches:
        run.touch()
    if step.changes:
        run.scan_adjusted()
    if len(step.filtered):
        run.find_borders()
    if len(step.random):
        run.race()
    run.finish(results)
    if len(step.scored):
        run.score(results.tokens, run.words, results)
    return results


def _lines(logits: torch.Tensor) -> torch.Tensor:
    """float32 logits whose rows each lie in one piece."""
    assert logits.dtype == torch.float32, logits.dtype
    return logits if logits.stride(1) == 1 else logits.contiguous()


@dataclass(slots=True, eq=False)
class _Run:
    """A step's kernels, and the memory between them.

    Attributes:
        adjusted: [A, line] float32, the adjusted rows.
        largest, likeliest: of each chunk of each row, and then of each adjusted one: the largest
            logit, and its token.
        times, winners: of each chunk of each row that draws: when the first token arrives in the
            race, and which.
        values, likelihoods: borders of each row that looks for them: logits, and likelihoods' bits.
    """

    step: Step
    logits: torch.Tensor
    words: torch.Tensor
    adjusted: torch.Tensor
    largest: torch.Tensor
    likeliest: torch.Tensor
    times: torch.Tensor
    winners: torch.Tensor
    values: torch.Tensor
    likelihoods: torch.Tensor
    vocab: int
    line: int
    chunks: int
    padded: int

    @classmethod
    def begin(cls, step: Step, logits: torch.Tensor) -> _Run:
        vocab = logits.shape[1]
        line = -(-vocab // 32) * 32
        chunks = -(-vocab // gpu_kernels.CHUNK.value)
        device = logits.device

        def empty(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
            return torch.empty(shape, dtype=dtype, device=device)

        scanned, racing = step.count + step.changes, len(step.random)
        return cls(
            step=step,
            logits=logits,
            words=step.send(device),
            adjusted=empty(_padded(step.changes), line),
            largest=empty(scanned, chunks),
            likeliest=empty(scanned, chunks, dtype=torch.int32),
            times=empty(racing, chunks, dtype=torch.float64),
            winners=empty(racing, chunks, dtype=torch.int32),
            values=empty(len(step.filtered)),
            likelihoods=empty(len(step.filtered), dtype=torch.int32),
            vocab=vocab,
            line=line,
            chunks=chunks,
            padded=triton.next_power_of_2(chunks),
        )

    @property
    def _source(self) -> tuple[torch.Tensor, ...]:
        return self.logits, self.adjusted, self.words

    @property
    def _shape(self) -> tuple[int, ...]:
        return self.logits.stride(0), self.line, self.vocab, self.chunks

    @property
    def _changes(self) -> int:
        return words_in(ROW) * self.step.count

    def _launch(self, kernel: Any, programs: int, *arguments: Any, **options: Any) -> None:
        kernel[(programs,)](*arguments, num_warps=8, **_EXACT, **options)

    def scan(self) -> None:
        self._launch(
            gpu_kernels.scan,
            self.step.count * self.chunks,
            *self._source,
            self._changes,
            self.largest,
            self.likeliest,
            0,
            *self._shape,
            COPY=self.step.changes > 0,
        )

    def touch(self) -> None:
        self._launch(
            gpu_kernels.touch,
            self.step.changes,
            *self._source,
            self._changes,
            self.logits.stride(0),
            self.line,
        )

    def scan_adjusted(self) -> None:
        self._launch(
            gpu_kernels.scan,
            self.step.changes * self.chunks,
            self.adjusted,
            self.adjusted,
            self.words,
            0,
            self.largest,
            self.likeliest,
            self.step.count,
            self.line,
            self.line,
            self.vocab,
            self.chunks,
            COPY=False,
        )

    def find_borders(self) -> None:
        step, device = self.step, self.logits.device
        rows = len(step.filtered)
        unit = 2.0 ** (62 - (self.vocab - 1).bit_length())  # of mass: 1 / a likelihood of 1
        sums = torch.zeros(rows, gpu_draw.SUMS.value, dtype=torch.int64, device=device)
        lists = torch.empty(_padded(rows), self.line, dtype=torch.int32, device=device)
        where = (*self._source, step.filtered.place, self.largest, sums)
        programs = rows * self.chunks
        for kernel, more in ((gpu_draw.weigh, unit), (gpu_draw.collect, lists)):
            self._launch(
                kernel, programs, *where, more, step.count, *self._shape, CHUNKS=self.padded
            )
        self._launch(
            gpu_draw.cut,
            rows,
            self.words,
            step.filtered.place,
            sums,
            lists,
            self.values,
            self.likelihoods,
            unit,
            self.line,
        )

    def race(self) -> None:
        self._launch(
            gpu_draw.race,
            len(self.step.random) * self.chunks,
            *self._source,
            self.step.random.place,
            self.largest,
            self.values,
            self.likelihoods,
            self.times,
            self.winners,
            self.step.count,
            *self._shape,
            CHUNKS=self.padded,
        )

    def finish(self, results: Results) -> None:
        gpu_kernels.finish[(self.step.count,)](
            self.words,
            self.largest,
            self.likeliest,
            self.times,
            self.winners,
            results.tokens,
            results.health,
            self.step.count,
            self.chunks,
            CHUNKS=self.padded,
            num_warps=1,
        )

    def score(self, tokens: torch.Tensor, extra: torch.Tensor, results: Results) -> None:
        """`extra` [≥ 0] int32 has the further tokens at the places that the lines name."""
        step, device = self.step, self.logits.device
        programs, top = len(step.scored) * self.chunks, step.top
        masses = torch.empty(programs, device=device)
        aheads = torch.empty(programs, dtype=torch.int32, device=device)
        keys = torch.empty(programs, top, dtype=torch.int64, device=device)
        where = (*self._source, step.scored.place, self.largest, tokens, masses, aheads, keys)
        self._launch(
            gpu_scores.tally,
            programs,
            *where,
            step.count,
            top,
            *self._shape,
            CHUNKS=self.padded,
        )
        gpu_scores.report[(len(step.scored),)](
            *where,
            extra,
            *results.scored,
            step.count,
            top,
            step.extra,
            *self._shape,
            CHUNKS=self.padded,
            num_warps=1,
            **_EXACT,
        )


def _padded(rows: int) -> int:
    """So that steps of about as many rows take the same memory."""
    return triton.next_power_of_2(rows) if rows else 0


IMPLEMENTATIONS: dict[str, Callable[..., Any]] = {
    "adjust": adjust,
    "sample": sample,
    "score": score,
    "choose": choose,
    "choose_later": choose_later,
}
