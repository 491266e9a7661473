"""The native engine's inside: scheduler and runner turned into the `Core` protocol."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from msgspec.structs import replace as changed

from inferd.engines.base import AdapterNews, EngineSpec, Progress
from inferd.engines.native.adapters.reading import read
from inferd.engines.native.adapters.slots import Slots
from inferd.engines.native.adapters.table import Adapters, Read
from inferd.engines.native.capturing import Capture
from inferd.engines.native.grammars import Grammars
from inferd.engines.native.intake import Arrival, Intake, fail_of, to_request
from inferd.engines.native.model import Model
from inferd.engines.native.pipeline import Pipeline
from inferd.engines.native.report import MemoryGauge, describe, kv_bytes
from inferd.engines.native.resting import Rest
from inferd.engines.native.runner import Outcome, Runner
from inferd.engines.native.sequences import Sequence
from inferd.engines.native.splitting import with_room
from inferd.engines.native.start import start
from inferd.engines.native.stepping import Stepping, capture_for
from inferd.engines.native.telling import Teller
from inferd.engines.native.validation import refusal
from inferd.engines.native.vocabulary import of_checkpoint
from inferd.errors import InferdError, InvalidRequest, StartError
from inferd.messages import (
    Awake,
    EngineInfo,
    EngineStats,
    Event,
    Fail,
    Finish,
    LoadAdapter,
    MemoryUse,
    Slept,
    Submit,
)
from inferd.units import human_bytes
from inferd_scheduler import (
    Refused,
    Scheduler,
    SchedulerConfig,
    Step,
)

_log = logging.getLogger("inferd.engines.native")


class NativeCore:
    """A model behind continuous batching. All calls come from one thread.

    Args:
        config: the scheduler's bounds; the KV cache is allocated after them.
        clock: seconds, monotonic.
        load_s: how long loading took, for `info`.
        grammars: compiles them; without it they are refused.
        max_adapter_rank: adapters of larger ranks are refused.
        adapter_host_bytes: of adapters in host memory; `config.max_adapters` are in slots.
        deterministic: what `info` says; the caller has chosen the kernels.
        ahead: whether a step is begun before the one before it is finished; None: not on a CPU,
            where nothing is gained.
        capture: makes graphs of decode steps; None: steps run as they are.
    """

    def __init__(
        self,
        model: Model,
        config: SchedulerConfig,
        *,
        clock: Callable[[], float] = time.monotonic,
        load_s: float = 0.0,
        grammars: Grammars | None = None,
        max_adapter_rank: int = 64,
        adapter_host_bytes: int = 1 << 30,
        deterministic: bool = False,
        ahead: bool | None = None,
        capture: Capture | None = None,
    ) -> None:
        why_not = "" if config.max_adapters else "this engine takes no adapters (--max-adapters 0)"
        if model.adaptable is None:
            why_not = f"{model.architecture} runs on {model.runner}'s code, without adapters"
            config = replace(config, max_adapters=0)
        self._model = model
        self._config = config
        ahead = model.device.type != "cpu" if ahead is None else ahead
        self._stepping = Stepping(model, config, on_device=ahead, capture=capture)
        self._runner = Runner(model, self._stepping.batcher, self._stepping.forward)
        self._scheduler = Scheduler(config)
        self._pipeline = Pipeline(
            self._scheduler, self._runner, self._fill_slots, clock, ahead=ahead
        )
        self._rest = Rest(model.weights, model.device)
        self._gauge = MemoryGauge(model.device)
        modules = {} if model.adaptable is None else model.adaptable.modules
        self._slots = Slots(
            modules, config.max_adapters, model.device, model.dtype, max_rank=max_adapter_rank
        )
        self._adapters = Adapters(
            reader(model, max_adapter_rank) if config.max_adapters else None,
            host_bytes=adapter_host_bytes,
            evict=self._evict,
            why_not=why_not,
        )
        self._grammars = grammars
        self._intake = Intake(grammars, self._adapters, clock, config.max_queue_requests)
        self._clock = clock
        self._teller = Teller(self._runner.sequences, self._ended)
        self._departed: list[str] = []  # adapters of those that ended in the step in flight
        rank = max_adapter_rank if config.max_adapters else 0
        self._info = describe(model, config, load_s, rank)
        memory = self._memory(fresh=True)
        self._info = changed(self._info, memory=memory, deterministic=deterministic)

    @property
    def info(self) -> EngineInfo:
        return self._info

    @property
    def busy(self) -> bool:
        works = self._scheduler.has_work or self._pipeline.in_flight
        return works or len(self._intake) > 0 or self._adapters.busy

    def submit(self, submit: Submit) -> list[Event]:
        wrong = refusal(submit, self._info.vocab_size)
        if submit.request_id in self._intake:
            wrong = f"request_id: {submit.request_id!r} is in use"
        if wrong is not None:
            return [Fail(submit.request_id, "invalid", wrong)]
        try:
            arrival = self._intake.add(submit)
        except InferdError as error:
            return [fail_of(submit.request_id, error)]
        return [] if arrival is None else self._accept(arrival)

    def abort(self, request_id: str) -> list[Event]:
        if self._intake.remove(request_id):
            return [Finish(request_id, "abort")]
        now = self._clock()
        return self._teller.tell(self._scheduler.abort(request_id, now), Outcome(), now)

    def step(self) -> list[Event]:
        idle = not (self._scheduler.has_work or self._pipeline.in_flight)
        messages = self._intake.take(self._accept, idle=idle)
        turn = self._pipeline.turn()
        if turn is not None:
            self._end_departed()
            messages += self._teller.tell(*turn)
        return messages

    def rest(self) -> bool:
        return self._stepping.rest()

    def load_adapter(self, load: LoadAdapter) -> None:
        self._adapters.load(load)

    def drop_adapter(self, adapter: str) -> None:
        self._adapters.drop(adapter)

    def adapter_news(self) -> list[AdapterNews]:
        return self._adapters.news()

    def sleep(self) -> Slept:
        assert not self._scheduler.has_work, "a request is with the scheduler"
        assert not len(self._intake), "a request waits"
        self._pipeline.drain()
        self._end_departed()
        self._scheduler.forget_all()
        self._slots.clear_all()
        self._stepping.sleep()
        self._rest.leave_device()
        return Slept(self._memory(fresh=True))

    def wake(self) -> Awake:
        self._rest.return_to_device()
        self._stepping.wake()
        return Awake(self._memory(fresh=True))

    def stats(self) -> EngineStats:
        stats = self._scheduler.stats()
        return EngineStats(
            running=stats.num_running,
            waiting=stats.num_waiting + len(self._intake),
            kv_blocks_used=stats.num_blocks - stats.num_free_blocks,
            kv_blocks_total=stats.num_blocks,
            steps=stats.total_steps,
            preemptions=stats.total_preemptions,
            prefix_queries=stats.total_prefix_queries,
            prefix_hits=stats.total_prefix_hits,
            prompt_tokens=self._teller.prompt_tokens,
            output_tokens=self._teller.output_tokens,
            memory=self._memory(),
            adapters_held=len(self._adapters),
            adapters_in_slots=stats.num_adapters,
            adapter_loads=stats.total_adapter_loads,
            adapter_evictions=stats.total_adapter_evictions,
        )

    def check(self) -> None:
        if self._grammars is not None and not self.busy:
            self._grammars.warm()
        self._scheduler.check()
        stats = self._scheduler.stats()
        timelines = self._teller.timelines
        assert len(timelines) == stats.num_running + stats.num_waiting
        assert self._runner.sequences.keys() == timelines.keys()
        assert not any(request_id in self._intake for request_id in timelines)
        adapters = [each.adapter for each in self._runner.sequences.values() if each.adapter]
        self._adapters.check(self._intake.adapters(), [*adapters, *self._departed])

    def close(self) -> None:
        for request_id in [*self._teller.timelines, *self._intake]:
            self.abort(request_id)
        try:
            self._pipeline.drain()
            self._end_departed()
        except Exception:
            _log.exception("the step in flight was lost")  # with the device, as a rule
        self._runner.close()
        self._adapters.close()
        self._intake.close()

    def _memory(self, *, fresh: bool = False) -> MemoryUse:
        """On the device; of what sleeps beside it, weights and adapters."""
        asleep = self._stepping.asleep
        in_host = asleep or self._model.device.type == "cpu"
        return self._gauge.read(
            weights=self._info.weight_bytes,
            kv_cache=0 if asleep else self._info.kv_cache_bytes,
            adapters=self._adapters.host_bytes if in_host else self._slots.num_bytes,
            beside=asleep and self._model.device.type != "cpu",
            fresh=fresh,
        )

    def _accept(self, arrival: Arrival) -> list[Event]:
        """Hand a request to the scheduler."""
        submit = arrival.submit
        sequence = Sequence(submit, arrival.constraint)  # before anything changes, should it raise
        try:
            self._scheduler.submit(to_request(submit), arrival.submitted)
        except Refused as refused:
            return [Fail(submit.request_id, refused.code, refused.message)]
        self._runner.sequences[submit.request_id] = sequence
        self._teller.begin(submit.request_id, arrival.submitted, len(submit.prompt))
        if submit.adapter:
            self._adapters.begin(submit.adapter)
        return []

    def _fill_slots(self, step: Step) -> dict[int, Exception]:
        """Put into slots what the step needs there; what went wrong, by slot."""
        wrong: dict[int, Exception] = {}
        for slot, adapter in step.slot_loads:
            try:
                factors = self._adapters.factors(adapter)
                with_room(partial(self._slots.fill, slot, adapter, factors))
            except RuntimeError as error:  # torch's, from the device's allocator
                _log.exception("putting %s into slot %d failed", adapter, slot)
                wrong[slot] = error
        return wrong

    def _evict(self, adapter: str) -> None:
        """Out of its slot; nothing runs with it."""
        forgotten = self._scheduler.forget_adapter(adapter)
        assert forgotten, f"{adapter} is still in use"
        self._slots.remove(adapter)

    def _end_departed(self) -> None:
        """The step that was in flight when they ended is done."""
        departed, self._departed = self._departed, []
        for adapter in departed:
            self._adapters.end(adapter)

    def _ended(self, sequence: Sequence, error: InferdError | None) -> None:
        """It has left the scheduler; what it used in a step in flight stays until that is done."""
        del self._runner.sequences[sequence.request_id]
        if isinstance(error, InvalidRequest):
            self._intake.forget_grammar(sequence.grammar)
        if sequence.adapter and self._pipeline.holds(sequence):
            self._departed.append(sequence.adapter)
        elif sequence.adapter:
            self._adapters.end(sequence.adapter)


def reader(model: Model, max_rank: int) -> Read:
    """What reads adapters for a model that takes them."""
    assert model.adaptable is not None
    return partial(
        read,
        base=model.adaptable,
        dtype=model.dtype,
        max_rank=max_rank,
        pinned=model.device.type == "cuda",
    )


def create(spec: EngineSpec, on_progress: Callable[[Progress], None]) -> NativeCore:
    """Load a model and build its engine; the `CoreFactory` of `native`. Raises `StartError`."""
    began = time.monotonic()
    model, config = start(spec, on_progress)
    grammars = Grammars(of_checkpoint(Path(spec.model), model.vocab_size))
    try:
        return NativeCore(
            model,
            config,
            load_s=time.monotonic() - began,
            grammars=grammars,
            max_adapter_rank=spec.max_adapter_rank,
            adapter_host_bytes=spec.adapter_host_bytes,
            deterministic=spec.deterministic,
            capture=capture_for(model, enforce_eager=spec.enforce_eager),
        )
    except RuntimeError as error:  # torch's, from either device's allocator
        needed = kv_bytes(model, config)
        raise StartError(
            "out_of_memory",
            f"The KV cache's {human_bytes(needed)} could not be allocated",
            hint=f"--kv-cache-bytes {needed // 2}",
            bytes_needed=needed,
            log=repr(error),
        ) from error
