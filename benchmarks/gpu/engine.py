"""An engine over a model of random weights, driven as a daemon's child process drives it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from time import perf_counter

from benchmarks.gpu.shapes import Sizes
from inferd.engines.native.core import NativeCore
from inferd.engines.native.decoder import Decoder
from inferd.engines.native.stepping import capture_for
from inferd.messages import Event, Fail, Sampling, Submit, Tokens
from inferd_scheduler import SchedulerConfig

BLOCK = 16  # tokens
RESTS = 64  # pieces of idle work that a warm engine gets to do, at most
SKIPPED = 4  # decoding steps that begin a window and are not counted

_numbers = count()


@dataclass(frozen=True, slots=True)
class Turn:
    """One call of `step`: when it returned, and the tokens that it brought."""

    end: float  # seconds
    tokens: int


@dataclass(frozen=True, slots=True)
class Run:
    """All sequences, from the first submission to the last end. Seconds."""

    began: float
    turns: tuple[Turn, ...]

    @property
    def seconds(self) -> float:
        return self.turns[-1].end - self.began

    @property
    def tokens(self) -> int:
        return sum(turn.tokens for turn in self.turns)

    def decoding(self, batch: int, most: int | None = None) -> tuple[float, int]:
        """(seconds, steps) of the turns in which all of `batch` sequences got a token, but the
        first few; of `most` steps at most. Raises ValueError where there are too few."""
        full = [n for n, turn in enumerate(self.turns) if turn.tokens == batch]
        steady = full[min(SKIPPED, len(full) // 2) :]
        steady = steady if most is None else steady[: most + 1]
        if len(steady) < 2 or steady[-1] - steady[0] != len(steady) - 1:
            raise ValueError(f"{len(full)} full turns of {len(self.turns)} are no window")
        return self.turns[steady[-1]].end - self.turns[steady[0]].end, len(steady) - 1


def make(
    model: Decoder,
    *,
    batch: int,
    length: int,
    max_batch_tokens: int,
    adapters: int = 0,
    rank: int = 1,
    eager: bool = False,
) -> NativeCore:
    """With room for `batch` sequences of `length` tokens; without a prefix cache, so that every
    prompt is computed."""
    config = SchedulerConfig(
        max_batch_size=batch,
        max_batch_tokens=max_batch_tokens,
        num_blocks=batch * -(-length // BLOCK) + batch,
        block_size=BLOCK,
        max_model_len=length,
        prefix_cache=False,
        max_adapters=adapters,
    )
    return NativeCore(
        model,
        config,
        max_adapter_rank=rank,
        adapter_host_bytes=8 << 30,
        capture=capture_for(model, enforce_eager=eager),
        ahead=True,  # on a CPU, too: a rehearsal
    )


def random_tokens(vocab_size: int, number: int, length: int) -> list[tuple[int, ...]]:
    """Prompts, other ones at each call."""
    chance = random.Random(next(_numbers))
    return [tuple(chance.choices(range(vocab_size), k=length)) for _ in range(number)]


def run(
    core: NativeCore,
    texts: Sequence[tuple[int, ...]],
    output: int,
    *,
    adapters: Sequence[str] = ("",),
    clock: Callable[[], float] = perf_counter,
) -> Run:
    """Greedy sequences that nothing ends before `output` tokens; they take turns at `adapters`.
    Raises RuntimeError where one fails."""
    events: list[Event] = []
    began = clock()
    for n, text in enumerate(texts):
        adapter = adapters[n % len(adapters)]
        sampling = Sampling(temperature=0.0)
        events += core.submit(
            Submit(f"gpu{next(_numbers)}", text, output, sampling, adapter=adapter)
        )
    turns = []
    while core.busy:
        new = core.step()
        turns.append(Turn(clock(), sum(len(e.token_ids) for e in new if isinstance(e, Tokens))))
        events += new
    wrong = [event for event in events if isinstance(event, Fail)]
    if wrong:
        raise RuntimeError(
            f"{len(wrong)} of {len(texts)} failed: {wrong[0].message} {wrong[0].log}"
        )
    return Run(began, tuple(turns))


def rest(core: NativeCore) -> None:
    """The idle gap after first answers, in which graphs are captured."""
    for _ in range(RESTS):
        if not core.rest():
            return


def decode(
    core: NativeCore, model: Decoder, sizes: Sizes, batch: int, adapters: Sequence[str] = ("",)
) -> Run:
    """`batch` sequences of the usual context, after the same has warmed up."""
    for output in (min(SKIPPED, sizes.output - 1), sizes.output):
        texts = random_tokens(model.vocab_size, batch, sizes.context)
        done = run(core, texts, output, adapters=adapters)
        rest(core)
    return done
