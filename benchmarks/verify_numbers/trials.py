"""The trials: one model's logprobs against transformers, however its work is cut into steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from msgspec.structs import replace as changed

from benchmarks.verify_numbers.drive import Transcript, drive
from inferd.engines.native.core import NativeCore
from inferd.engines.native.model import Model
from inferd.engines.native.stepping import capture_for
from inferd.messages import AdapterInfo, LoadAdapter, Sampling, Submit
from inferd_scheduler import SchedulerConfig

TOLERANCE = 1e-4
"""Largest difference of a logprob (natural logarithm) that a trial allows, float32."""
OUTPUT = 9  # tokens generated per sequence
LENGTHS = (0.05, 0.9, 0.31, 0.62, 0.45, 0.83)  # of prompts, as parts of what leaves room for OUTPUT
MIXED = 32  # sequences in a batch over adapters and the bare model
NOT_COMPARED = float("nan")


@dataclass(frozen=True, slots=True)
class Subject:
    """A model under test, and the same weights in transformers (float32, eager attention).

    With `adapters`, generation → folder, the reference is PEFT's, which has them by these names;
    sequences then take turns at the adapters and the bare model.
    """

    model: Model
    reference: Any
    limit: int  # tokens, prompt and output together
    adapters: Mapping[str, Path] = field(default_factory=dict)

    def core(self, **changes: Any) -> NativeCore:
        """An engine with room for everything, but for the `changes`."""
        config = SchedulerConfig(
            max_batch_size=MIXED if self.adapters else 8,
            max_batch_tokens=4096,
            num_blocks=800 if self.adapters else 400,
            block_size=4,
            max_model_len=self.limit,
            max_adapters=len(self.adapters),
        )
        capture = capture_for(self.model, enforce_eager=False)
        core = NativeCore(self.model, replace(config, **changes), capture=capture)
        for name, folder in self.adapters.items():
            core.load_adapter(LoadAdapter(name, str(folder)))
        drive(core, ())
        news = core.adapter_news()
        assert all(isinstance(one, AdapterInfo) for one in news), news
        return core

    @torch.inference_mode()
    def expected(self, tokens: list[int], adapter: str) -> torch.Tensor:
        """transformers' log-softmax, [len(tokens), vocab]."""
        without: AbstractContextManager[Any] = nullcontext()
        if adapter:
            self.reference.set_adapter(adapter)
        elif self.adapters:
            without = self.reference.disable_adapter()
        with without:
            ids = torch.tensor([tokens], device=self.model.device)
            logits = self.reference(ids, use_cache=False).logits[0]
        return torch.log_softmax(logits.float(), dim=-1).cpu()


@dataclass(frozen=True, slots=True)
class Difference:
    """The largest |Δ logprob| of a trial; NaN where it compares no such tokens."""

    prompt: float
    output: float

    @property
    def worst(self) -> float:
        return max(self.prompt, self.output) if self.prompt == self.prompt else self.output


def submits(subject: Subject, *, temperature: float = 1.0, scored: bool = True) -> list[Submit]:
    """Sequences of mixed lengths; every second one is sampled with a seed of its own."""
    generator = torch.Generator().manual_seed(17)
    room = subject.limit - OUTPUT
    result = []
    for n in range(MIXED if subject.adapters else len(LENGTHS)):
        count = max(1, int(LENGTHS[n % len(LENGTHS)] * room))
        prompt = torch.randint(subject.model.vocab_size, (count,), generator=generator)
        sampling = Sampling(
            temperature=temperature if n % 2 else 0.0,
            seed=n,
            logprobs=3,
            prompt_logprobs=2 if scored else None,
        )
        adapter = turn(subject, n)
        result.append(Submit(f"r{n}", tuple(prompt.tolist()), OUTPUT, sampling, adapter=adapter))
    return result


def turn(subject: Subject, n: int) -> str:
    """The adapter of sequence n; "", too, has its turn."""
    names = [*subject.adapters, ""]
    return names[n % len(names)]


def compare(subject: Subject, submit: Submit, got: Transcript) -> Difference:
    """One request's logprobs against transformers on the same tokens, the top ones included."""
    assert got.finish.reason == "length"
    assert len(got.tokens) == submit.max_tokens
    prompt = submit.prompt
    expected = subject.expected([*prompt, *got.tokens], submit.adapter)
    output = _largest(expected[len(prompt) - 1 :], got.tokens, got.logprobs)
    if got.prompt is None:
        return Difference(NOT_COMPARED, output)
    assert len(got.prompt) == len(prompt) - 1
    return Difference(_largest(expected, prompt[1:], got.prompt), output)


def _largest(expected: torch.Tensor, tokens: Any, scores: Any) -> float:
    """The largest difference over scores n of tokens[n] under row n of `expected`."""
    worst = 0.0
    for row, token, one in zip(expected, tokens, scores, strict=False):
        assert one.token_id == token
        pairs = [(token, one.logprob), *one.top]
        best = row.topk(max(1, len(one.top))).values.tolist()
        worst = max(worst, *(abs(float(row[i]) - value) for i, value in pairs))
        worst = max(worst, *(abs(a - b) for a, (_, b) in zip(best, one.top, strict=False)), 0.0)
    assert len(tokens) == len(scores)
    return worst


def compare_all(subject: Subject, asked: list[Submit], got: Mapping[str, Transcript]) -> Difference:
    parts = [compare(subject, submit, got[submit.request_id]) for submit in asked]
    return Difference(max(p.prompt for p in parts), max(p.output for p in parts))


def alone(subject: Subject) -> Difference:
    asked = submits(subject)
    core = subject.core(prefix_cache=False)
    got: dict[str, Transcript] = {}
    for submit in asked:
        got |= drive(core, [submit])
    return compare_all(subject, asked, got)


def batched(subject: Subject) -> Difference:
    asked = submits(subject)
    return compare_all(subject, asked, drive(subject.core(), asked))


def chunked(subject: Subject) -> Difference:
    asked = submits(subject)
    core = subject.core(max_batch_size=3, max_batch_tokens=7, max_adapters=2)
    return compare_all(subject, asked, drive(core, asked))


def prefix_hits(subject: Subject) -> Difference:
    """The same prompts again, with another ending, on a warm cache."""
    core = subject.core()
    first = submits(subject, scored=False)
    drive(core, first)
    asked = [
        changed(s, request_id=f"{s.request_id}-again", prompt=(*s.prompt[:-2], 5)) for s in first
    ]
    asked = [submit for submit in asked if len(submit.prompt) > 8]
    got = drive(core, asked)
    assert all(one.cached_tokens > 0 for one in got.values())
    return compare_all(subject, asked, got)


def preempted(subject: Subject) -> Difference:
    """A pool that holds one longest sequence, and prompts in small chunks."""
    asked = submits(subject)
    core = subject.core(
        num_blocks=-(-subject.limit // 4), max_batch_size=6, max_batch_tokens=11, max_adapters=3
    )
    got = drive(core, asked)
    assert sum(one.finish.preemptions for one in got.values()) > 0
    return compare_all(subject, asked, got)


TRIALS: dict[str, Callable[[Subject], Difference]] = {
    "alone": alone,
    "batched": batched,
    "chunked": chunked,
    "prefix": prefix_hits,
    "preempted": preempted,
}


def greedy_is_the_same(subject: Subject, size: int = 32) -> bool:
    """Whether greedy output alone equals that in a batch of `size`."""
    generator = torch.Generator().manual_seed(5)
    asked = [
        Submit(
            f"g{n}",
            tuple(
                torch.randint(
                    subject.model.vocab_size,
                    (1 + n * (subject.limit - OUTPUT - 1) // size,),
                    generator=generator,
                ).tolist()
            ),
            OUTPUT,
            Sampling(temperature=0.0),
            adapter=turn(subject, n),
        )
        for n in range(size)
    ]
    together = drive(subject.core(max_batch_size=size, num_blocks=2000), asked)
    core = subject.core(prefix_cache=False)
    return all(
        drive(core, [submit])[submit.request_id].tokens == together[submit.request_id].tokens
        for submit in asked
    )
