"""inferd's native engine without HTTP: the core in this process, one `step` at a time."""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import msgspec

from benchmarks.peers.runners.loop import Ids, Window, serve
from inferd.engines.base import EngineSpec
from inferd.engines.native.core import create
from inferd.messages import Event, Fail, PromptScored, Sampling, Submit, Tokens


class Ours:
    def __init__(self, folder: str, options: str) -> None:
        fields = json.loads(options)
        spec = msgspec.convert({"model": folder, "max_model_len": 1024} | fields, EngineSpec)
        if unknown := fields.keys() - set(EngineSpec.__struct_fields__):
            raise SystemExit(f"this engine has no option {', '.join(sorted(unknown))}")
        self._core = create(spec, lambda progress: None)
        self._settings, self._numbers = fields, itertools.count()
        self.vocabulary = self._core.info.vocab_size

    def describe(self) -> dict[str, Any]:
        versions = {name: version(name) for name in ("inferd", "torch")}
        info = msgspec.to_builtins(self._core.info)
        shown = ("dtype", "quantization", "weight_bytes", "kv_cache_bytes", "num_threads")
        return {
            "versions": versions,
            "settings": self._settings | {key: info[key] for key in shown if key in info},
        }

    def decode(self, prompts: Sequence[Ids], window: Window) -> None:
        places = self._submit(prompts, Sampling(temperature=0.0), 512)
        counts, over = [0] * len(prompts), False
        while not over:
            for event in self._step():
                if isinstance(event, Tokens):
                    counts[places[event.request_id]] += len(event.token_ids)
            over = window.note(counts, time.perf_counter())
        for request_id in places:
            self._core.abort(request_id)
        self._finish()

    def prefill(self, prompts: Sequence[Ids]) -> None:
        self._submit(prompts, Sampling(temperature=0.0), 1)
        self._finish()

    def score(self, sequences: Sequence[Ids]) -> list[list[float]]:
        places = self._submit(sequences, Sampling(temperature=0.0, prompt_logprobs=0), 1)
        scores: list[list[float]] = [[] for _ in sequences]
        for event in self._finish():
            if isinstance(event, PromptScored):
                scores[places[event.request_id]] = [each.logprob for each in event.logprobs]
        return scores

    def generate(self, prompts: Sequence[Ids], tokens: int) -> list[list[tuple[int, float]]]:
        places = self._submit(prompts, Sampling(temperature=0.0, logprobs=0), tokens)
        chosen: list[list[tuple[int, float]]] = [[] for _ in prompts]
        for event in self._finish():
            if isinstance(event, Tokens):
                pairs = ((each.token_id, each.logprob) for each in event.logprobs)
                chosen[places[event.request_id]] += pairs
        return chosen

    def _submit(self, prompts: Sequence[Ids], sampling: Sampling, tokens: int) -> dict[str, int]:
        """The requests' ids, and the place of the prompt of each."""
        places = {str(next(self._numbers)): place for place in range(len(prompts))}
        for request_id, place in places.items():
            prompt = tuple(prompts[place])
            _check(self._core.submit(Submit(request_id, prompt, tokens, sampling)))
        return places

    def _finish(self) -> list[Event]:
        """Step until nothing runs."""
        events: list[Event] = []
        while self._core.busy:
            events += self._step()
        return events

    def _step(self) -> list[Event]:
        return _check(self._core.step())


def generate(subject: Ours, *, prompts: list[Ids], tokens: int) -> dict[str, Any]:
    return {"chosen": subject.generate(prompts, tokens)}


def _check(events: list[Event]) -> list[Event]:
    for event in events:
        if isinstance(event, Fail):
            raise RuntimeError(event.message)
    return events


if __name__ == "__main__":
    serve(lambda: Ours(*sys.argv[1:]), {"generate": generate})
