"""What all runners share: commands as JSON lines on stdin, one JSON line on stdout for each.

Loaded once, measured when told. What libraries print goes to stderr, so stdout is the protocol's.
Only the standard library: this file runs in every environment.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, TextIO

Ids = list[int]
Command = Callable[..., dict[str, Any]]


class Window:
    """The part of a generation that counts as decoding, for any number of sequences at once.

    It opens with the first token of the last sequence to begin, and closes when a sequence has all
    its tokens or the time is up: in between, every step decodes every sequence.
    """

    def __init__(self, tokens: int, seconds: float) -> None:
        self._limit, self._seconds = tokens, seconds
        self._opened: tuple[float, int] | None = None
        self.seconds, self.tokens = 0.0, 0

    def note(self, counts: Sequence[int], now: float) -> bool:
        """After a step: the output tokens of each sequence so far. True when it is over."""
        total = sum(counts)
        if self._opened is None:
            if min(counts) > 0:
                self._opened = now, total
            return False
        began, before = self._opened
        self.seconds, self.tokens = now - began, total - before
        return max(counts) >= self._limit or self.seconds >= self._seconds


class Subject(Protocol):
    """A loaded model of one engine."""

    vocabulary: int

    def describe(self) -> dict[str, Any]:
        """Versions and settings, for the result file."""

    def decode(self, prompts: Sequence[Ids], window: Window) -> None:
        """Continue all prompts greedily, telling `window` of each step until it is over."""

    def prefill(self, prompts: Sequence[Ids]) -> None:
        """Compute one token after each prompt."""

    def score(self, sequences: Sequence[Ids]) -> list[list[float]]:
        """Logprobs of each sequence's tokens but the first."""


@contextmanager
def replies() -> Iterator[TextIO]:
    """Stdout for the protocol alone: what else is written there goes to stderr."""
    with os.fdopen(os.dup(1), "w", buffering=1) as out:
        os.dup2(2, 1)
        yield out


def answer(out: TextIO, ready: dict[str, Any], commands: Mapping[str, Command]) -> None:
    """Say that all is ready, then do each line's command with the line's other fields."""
    print(json.dumps(ready), file=out)
    for line in sys.stdin:
        fields = json.loads(line)
        print(json.dumps(commands[fields.pop("do")](**fields)), file=out)


def decode(
    subject: Subject, *, sequences: int, context: int, tokens: int, seconds: float
) -> dict[str, Any]:
    """Always the same prompts, so that an engine may have kept what it computed of them."""
    window = Window(tokens, seconds)
    prompts = [prompt(subject.vocabulary, context, seed=100 + n) for n in range(sequences)]
    subject.decode(prompts, window)
    return {"tokens": window.tokens, "seconds": window.seconds}


def prefill(subject: Subject, *, sequences: int, context: int, seed: int) -> dict[str, Any]:
    """Another `seed` gives prompts that no cache can know."""
    prompts = [prompt(subject.vocabulary, context, seed=seed * 1000 + n) for n in range(sequences)]
    began = time.perf_counter()
    subject.prefill(prompts)
    return {"tokens": sequences * context, "seconds": time.perf_counter() - began}


def score(subject: Subject, *, sequences: list[Ids]) -> dict[str, Any]:
    return {"logprobs": subject.score(sequences)}


def serve(make: Callable[[], Subject], more: Mapping[str, Command] | None = None) -> None:
    """Make the subject, have it say one token, then answer commands until stdin ends.

    Args:
        more: commands beside `decode`, `prefill` and `score`; the subject is their first argument.
    """
    began = time.perf_counter()
    with replies() as out:
        subject = make()
        loaded = time.perf_counter() - began
        subject.prefill([prompt(subject.vocabulary, 16, seed=1)])
        ready = {"loaded_s": loaded, "first_token_s": time.perf_counter() - began}
        commands: dict[str, Command] = {
            "decode": decode,
            "prefill": prefill,
            "score": score,
            **(more or {}),
        }
        bound = {name: partial(command, subject) for name, command in commands.items()}
        answer(out, ready | subject.describe(), bound)


def prompt(vocabulary: int, length: int, *, seed: int) -> Ids:
    """Random ids; the last of the vocabulary ends a text and is left out."""
    return random.Random(seed).choices(range(vocabulary - 1), k=length)
