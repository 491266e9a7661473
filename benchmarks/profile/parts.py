"""A native core whose parts are timed while it decodes."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import msgspec

from inferd.engines.base import EngineSpec
from inferd.engines.native import runner
from inferd.engines.native.core import NativeCore, create
from inferd.engines.native.decoder import Decoder
from inferd.engines.native.model import Batch
from inferd.messages import Event, Sampling, Submit, Tokens

PROMPT = 32  # tokens of each sequence's prompt
WARM = 5  # steps before the timed ones


@dataclass
class Watch:
    """Seconds of the current step, by part."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def timed(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            begin = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                self.seconds[part] += time.perf_counter() - begin

        return timed


@dataclass(frozen=True, slots=True)
class Profile:
    """Medians over steps, in milliseconds."""

    rows: int
    step: float
    parts: dict[str, float]
    operations: dict[str, float]  # of the forward pass, where it is a program


def profile(spec: EngineSpec, rows: int, steps: int) -> Profile:
    """Decode `rows` sequences for so many steps."""
    core = create(spec, lambda progress: None)
    try:
        return _profile(core, rows, steps)
    finally:
        core.close()


def _profile(core: NativeCore, rows: int, steps: int) -> Profile:
    watch, operations = Watch(), Watch()
    inside: Any = core
    _submit(core, rows, steps)
    for _ in range(WARM):
        core.step()
    _watch(inside, watch, operations)
    found: list[dict[str, float]] = []
    ops: list[dict[str, float]] = []
    while core.busy and len(found) < steps:
        watch.seconds.clear()
        operations.seconds.clear()
        begin = time.perf_counter()
        events: list[Event] = core.step()
        whole = time.perf_counter() - begin - sum(operations.seconds.values())
        watch.timed("encode", msgspec.msgpack.encode)(events)
        if sum(isinstance(event, Tokens) for event in events) == rows:
            found.append({**watch.seconds, "step": whole})
            ops.append({k: v for k, v in operations.seconds.items() if k != "again"})
    assert found, "no step had a token for every sequence"
    parts = _medians(found)
    step = parts.pop("step")
    parts["other"] = step - sum(value for part, value in parts.items() if part != "encode")
    return Profile(rows, step, parts, _medians(ops))


def _submit(core: NativeCore, rows: int, steps: int) -> None:
    for n in range(rows):
        prompt = tuple((7 * n + i) % 1000 + 3 for i in range(PROMPT))
        sampling = Sampling(temperature=1.0, seed=n)
        refused = core.submit(Submit(f"r{n}", prompt, steps + WARM + 5, sampling))
        assert not refused, refused


def _watch(core: Any, watch: Watch, operations: Watch) -> None:
    """Put a watch around each part of a step."""
    scheduler, model = core._scheduler, core._model
    scheduler.plan = watch.timed("plan", scheduler.plan)
    scheduler.commit = watch.timed("commit", scheduler.commit)
    batcher = core._stepping.batcher
    batcher.build = watch.timed("batch", batcher.build)
    forward = watch.timed("forward", core._runner._forward)
    model.logits = watch.timed("logits", model.logits)
    core._teller.tell = watch.timed("events", core._teller.tell)
    sampler: Any = runner
    sampler.choose_later = watch.timed("choose", sampler.choose_later)
    sampler.output_logprobs = watch.timed("logprobs", sampler.output_logprobs)

    def forward_twice(batch: Batch) -> Any:
        """Once as it is, and once more with each operation timed, which gives the same."""
        hidden = forward(batch)
        if isinstance(model, Decoder) and model.recorded:
            begin = time.perf_counter()
            for name, seconds in model.program(batch).run_timed(batch):
                operations.seconds[name] += seconds
            rest = time.perf_counter() - begin - sum(operations.seconds.values())
            operations.seconds["again"] += rest
        return hidden

    core._runner._forward = forward_twice


def _medians(found: list[dict[str, float]]) -> dict[str, float]:
    """Milliseconds."""
    keys = found[0].keys()
    return {key: 1000 * median(one.get(key, 0.0) for one in found) for key in keys}
