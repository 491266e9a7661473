"""A runner whose model is a counter: each step gives every sequence a token, a second long."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.peers.runners.loop import Ids, Window, serve


class Counting:
    vocabulary = 100

    def describe(self) -> dict[str, Any]:
        sys.stdout.write("what a library prints\n")
        return {"versions": {}, "settings": {"arguments": sys.argv[1:]}}

    def decode(self, prompts: Sequence[Ids], window: Window) -> None:
        count = 1
        while not window.note([count] * len(prompts), float(count)):
            count += 1

    def prefill(self, prompts: Sequence[Ids]) -> None:
        if sys.argv[1:] == ["fail"]:
            sys.exit("it cannot")

    def score(self, sequences: Sequence[Ids]) -> list[list[float]]:
        if sys.argv[1:] == ["fail later"]:
            sys.exit("it cannot go on")
        return [[-float(token) for token in ids[1:]] for ids in sequences]


def measure(subject: Counting) -> dict[str, float]:
    return {"read_bytes_per_s": 1e9}


if __name__ == "__main__":
    serve(Counting, {"measure": measure})
