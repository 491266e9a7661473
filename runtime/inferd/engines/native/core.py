"""The native engine's inside: scheduler and runner turned into the `Core` protocol."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from inferd.engines.base import AdapterNews, EngineSpec, Progress
from inferd.engines.native.batching import Batcher, allocate_kv
from inferd.engines.native.constraint import Constraint
from inferd.engines.native.grammars import Grammars
from inferd.engines.native.model import Model
from inferd.engines.native.pending import Pending, PendingRequests
from inferd.engines.native.runner import Outcome, Runner
from inferd.engines.native.sequences import Sequence
from inferd.engines.native.start import start
from inferd.engines.native.validation import refusal
from inferd.engines.native.vocabulary import of_checkpoint
from inferd.errors import BusyError, InferdError, InvalidRequest, StartError
from inferd.messages import (
    AdapterDropped,
    AdapterFailed,
    Awake,
    Begun,
    EngineInfo,
    EngineStats,
    Event,
    Fail,
    Finish,
    LoadAdapter,
    MemoryUse,
    PromptScored,
    Slept,
    Submit,
    Tokens,
)
from inferd.units import human_bytes
from inferd_scheduler import Event as SchedulerEvent
from inferd_scheduler import (
    Failed,
    Finished,
    Refused,
    Request,
    Scheduled,
    Scheduler,
    SchedulerConfig,
    Token,
)

PENDING_WAIT_S = 0.01  # so late may a command be seen while nothing but compilers work
COMPILE_S = 30.0  # beside a busy machine's other work; the limits allow a second by itself

_log = logging.getLogger("inferd.engines.native")


class Timeline:
    """When what happened to one request, in the clock's seconds."""

    __slots__ = (
        "cached_tokens",
        "first_token",
        "last_token",
        "num_prompt",
        "queued_s",
        "submitted",
    )

    def __init__(self, submitted: float, num_prompt: int) -> None:
        self.submitted = submitted
        self.num_prompt = num_prompt
        self.queued_s = 0.0
        self.cached_tokens = 0
        self.first_token: float | None = None
        self.last_token = 0.0

    def token(self, now: float) -> Begun | None:
        """Note a token that came now; what led to it if it is the first."""
        self.last_token = now
        if self.first_token is not None:
            return None
        self.first_token = now
        return Begun(
            self.queued_s, now - self.submitted - self.queued_s, max(0, self.cached_tokens)
        )

    @property
    def decode_s(self) -> float:
        """First token → last."""
        return 0.0 if self.first_token is None else self.last_token - self.first_token


class NativeCore:
    """A model behind continuous batching. All calls come from one thread.

    Args:
        config: the scheduler's bounds; the KV cache is allocated after them.
        clock: seconds, monotonic.
        load_s: how long loading took, for `info`.
        grammars: compiles them; without it they are refused.
    """

    def __init__(
        self,
        model: Model,
        config: SchedulerConfig,
        *,
        clock: Callable[[], float] = time.monotonic,
        load_s: float = 0.0,
        grammars: Grammars | None = None,
    ) -> None:
        kv_cache = allocate_kv(
            model.kv_specs, config.num_blocks, config.block_size, model.dtype, model.device
        )
        max_blocks = -(-config.max_model_len // config.block_size)
        batcher = Batcher(kv_cache, config.block_size, config.max_batch_size, max_blocks)
        self._runner = Runner(model, batcher)
        self._scheduler = Scheduler(config)
        self._grammars = grammars
        self._pending = PendingRequests()
        self._clock = clock
        self._timelines: dict[str, Timeline] = {}
        self._news: list[AdapterNews] = []
        self._prompt_tokens = self._output_tokens = 0
        self._info = describe(model, config, load_s)

    @property
    def info(self) -> EngineInfo:
        return self._info

    @property
    def busy(self) -> bool:
        return self._scheduler.has_work or len(self._pending) > 0

    def submit(self, submit: Submit) -> list[Event]:
        wrong = refusal(submit, self._info.vocab_size)
        if submit.request_id in self._pending:
            wrong = f"request_id: {submit.request_id!r} is in use"
        if wrong is not None:
            return [Fail(submit.request_id, "invalid", wrong)]
        if submit.grammar:
            return self._compile(submit)
        return self._accept(submit, self._clock(), None)

    def abort(self, request_id: str) -> list[Event]:
        if self._pending.remove(request_id) is not None:
            return [Finish(request_id, "abort")]
        now = self._clock()
        return self._translate(self._scheduler.abort(request_id, now), Outcome(), now)

    def step(self) -> list[Event]:
        messages = self._take_compiled()
        step = self._scheduler.plan(self._clock())
        if step is None:
            return messages
        outcome = self._runner.run(step)
        now = self._clock()
        events = self._scheduler.commit(step, outcome.result(step), now)
        return messages + self._translate(events, outcome, now)

    def load_adapter(self, load: LoadAdapter) -> None:
        message = f"the {self._info.runner} runner takes no adapters"
        self._news.append(AdapterFailed(load.adapter, "unsupported", message))

    def drop_adapter(self, adapter: str) -> None:
        self._news.append(AdapterDropped(adapter))

    def adapter_news(self) -> list[AdapterNews]:
        news, self._news = self._news, []
        return news

    def sleep(self) -> Slept:
        assert not self.busy, "something runs or waits"
        return Slept(MemoryUse(weights=self._info.weight_bytes))

    def wake(self) -> Awake:
        return Awake(self._info.memory)

    def stats(self) -> EngineStats:
        stats = self._scheduler.stats()
        return EngineStats(
            running=stats.num_running,
            waiting=stats.num_waiting + len(self._pending),
            kv_blocks_used=stats.num_blocks - stats.num_free_blocks,
            kv_blocks_total=stats.num_blocks,
            steps=stats.total_steps,
            preemptions=stats.total_preemptions,
            prefix_queries=stats.total_prefix_queries,
            prefix_hits=stats.total_prefix_hits,
            prompt_tokens=self._prompt_tokens,
            output_tokens=self._output_tokens,
        )

    def check(self) -> None:
        self._scheduler.check()
        stats = self._scheduler.stats()
        assert len(self._timelines) == stats.num_running + stats.num_waiting
        assert self._runner.sequences.keys() == self._timelines.keys()
        assert not any(request_id in self._pending for request_id in self._timelines)

    def close(self) -> None:
        for request_id in [*self._timelines, *self._pending]:
            self.abort(request_id)
        self._runner.close()
        if self._grammars is not None:
            self._grammars.close()

    def _compile(self, submit: Submit) -> list[Event]:
        """Let its grammar be compiled; `_take_compiled` goes on with it."""
        if self._grammars is None:
            message = "this engine has no tokenizer, which grammars need"
            return [Fail(submit.request_id, "invalid", message, param="grammar")]
        if len(self._pending) >= self._scheduler.config.max_queue_requests:
            message = f"{len(self._pending)} requests wait for their grammars"
            return [Fail(submit.request_id, "overloaded", message)]
        try:
            compiled = self._grammars.compile(submit.grammar)
        except BusyError as busy:
            return [Fail(submit.request_id, "overloaded", busy.message)]
        self._pending.add(Pending(submit, compiled, self._clock()))
        return []

    def _take_compiled(self) -> list[Event]:
        """Go on with the requests whose grammars are ready; without other work, wait a little."""
        if not self._pending:
            return []
        if not self._scheduler.has_work:
            self._pending.wait(PENDING_WAIT_S)
        messages: list[Event] = []
        for pending in self._pending.take(before=self._clock() - COMPILE_S):
            messages += self._begin(pending)
        return messages

    def _begin(self, pending: Pending) -> list[Event]:
        submit = pending.submit
        if not pending.compiled.done():
            message = f"the grammar took more than {COMPILE_S:.0f} s to compile"
            return [Fail(submit.request_id, "invalid", message, param="grammar")]
        try:
            compiled = pending.compiled.result()
            constraint = compiled.begin(submit.sampling.stop_token_ids, submit.output)
        except InvalidRequest as error:
            return [Fail(submit.request_id, "invalid", error.message, param="grammar")]
        except Exception as error:
            _log.exception("compiling the grammar of %s failed", submit.request_id)
            message = "The engine failed on this request's grammar"
            return [Fail(submit.request_id, "engine", message, repr(error))]
        return self._accept(submit, pending.submitted, constraint)

    def _accept(
        self, submit: Submit, submitted: float, constraint: Constraint | None
    ) -> list[Event]:
        """Hand a request to the scheduler."""
        sequence = Sequence(submit, constraint)  # before anything changes, should it raise
        try:
            self._scheduler.submit(to_request(submit), submitted)
        except Refused as refused:
            return [Fail(submit.request_id, refused.code, refused.message)]
        self._runner.sequences[submit.request_id] = sequence
        self._timelines[submit.request_id] = Timeline(submitted, len(submit.prompt))
        return []

    def _translate(self, events: list[SchedulerEvent], outcome: Outcome, now: float) -> list[Event]:
        """The scheduler's events as messages, with what the runner knows about them."""
        messages: list[Event] = []
        for event in events:
            if isinstance(event, Token):
                messages += self._tokens(event, outcome, now)
            elif isinstance(event, Scheduled):
                timeline = self._timelines[event.request_id]
                timeline.queued_s = event.queued_s
                timeline.cached_tokens = event.cached_tokens
                self._prompt_tokens += timeline.num_prompt
            elif isinstance(event, Finished):
                messages.append(self._finish(event))
            elif isinstance(event, Failed):
                messages.append(self._fail(event, outcome.failed.get(event.request_id)))
        return messages

    def _tokens(self, event: Token, outcome: Outcome, now: float) -> list[Event]:
        messages: list[Event] = []
        timeline = self._timelines[event.request_id]
        sequence = self._runner.sequences[event.request_id]
        begun = timeline.token(now)
        if begun is not None and sequence.sampling.prompt_logprobs is not None:
            messages.append(PromptScored(event.request_id, tuple(sequence.prompt_scores)))
        self._output_tokens += 1
        score = outcome.logprobs.get(event.request_id)
        scores = () if score is None else (score,)
        messages.append(Tokens(event.request_id, (event.token,), scores, begun))
        return messages

    def _finish(self, event: Finished) -> Finish:
        timeline = self._forget(event.request_id)
        return Finish(
            event.request_id,
            event.reason,
            event.stop_token,
            decode_s=timeline.decode_s,
            preemptions=event.preemptions,
        )

    def _fail(self, event: Failed, error: InferdError | None) -> Fail:
        """Of what the scheduler ended; `error` is what came of its step, if anything."""
        grammar = self._runner.sequences[event.request_id].grammar
        self._forget(event.request_id)
        if isinstance(error, InvalidRequest):
            if self._grammars is not None:
                self._grammars.forget(grammar)
            return Fail(event.request_id, "invalid", event.message, param=error.param or "")
        log = "" if error is None else str(error)
        return Fail(event.request_id, event.code, event.message, log)

    def _forget(self, request_id: str) -> Timeline:
        del self._runner.sequences[request_id]
        return self._timelines.pop(request_id)


def to_request(submit: Submit) -> Request:
    """The scheduler's view of a sequence."""
    sampling = submit.sampling
    return Request(
        submit.request_id,
        submit.prompt,
        submit.max_tokens,
        output=submit.output,
        stop_token_ids=sampling.stop_token_ids,
        caller=submit.caller,
        priority=submit.priority,
        salt=submit.cache_salt,
        reuse_prefix=sampling.prompt_logprobs is None,  # a cached position has no logits
        min_tokens=sampling.min_tokens,
    )


def describe(model: Model, config: SchedulerConfig, load_s: float) -> EngineInfo:
    """What the engine tells about itself."""
    per_token = sum(spec.bytes_per_token(model.dtype) for spec in model.kv_specs)
    return EngineInfo(
        engine="native",
        architecture=model.architecture,
        runner=model.runner,
        vocab_size=model.vocab_size,
        max_model_len=config.max_model_len,
        max_batch_size=config.max_batch_size,
        max_batch_tokens=config.max_batch_tokens,
        block_size=config.block_size,
        num_blocks=config.num_blocks,
        dtype=str(model.dtype).removeprefix("torch."),
        device=str(model.device),
        weight_bytes=model.weight_bytes,
        kv_cache_bytes=per_token * config.num_blocks * config.block_size,
        load_s=load_s,
    )


def create(spec: EngineSpec, on_progress: Callable[[Progress], None]) -> NativeCore:
    """Load a model and build its engine; the `CoreFactory` of `native`. Raises `StartError`."""
    began = time.monotonic()
    model, config = start(spec, on_progress)
    grammars = Grammars(of_checkpoint(Path(spec.model), model.vocab_size))
    try:
        return NativeCore(model, config, load_s=time.monotonic() - began, grammars=grammars)
    except RuntimeError as error:  # torch's, from either device's allocator
        needed = describe(model, config, 0.0).kv_cache_bytes
        raise StartError(
            "out_of_memory",
            f"The KV cache's {human_bytes(needed)} could not be allocated",
            hint=f"--kv-cache-bytes {needed // 2}",
            bytes_needed=needed,
            log=repr(error),
        ) from error
