"""A model-free engine that repeats its prompt: everything above engines is tested against it.

Output token i is `prompt[i mod len(prompt)]` (or `script[i mod len(script)]`); where that is a
stop token and `min_tokens` are not reached, the next one in the cycle that is no stop token.
With an adapter it says the adapter's tokens instead (`echo_adapters`). Logprobs follow a rule too
(`echo_logprobs`).

`EngineSpec.model` sets options: `echo:delay=0.01,vocab_size=512` (`echo_options`, which also holds
the faults that tests inject). A model text that does not begin with `echo:` sets none.
"""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Callable

from inferd.engines.base import AdapterNews, EngineSpec, Progress
from inferd.engines.echo_adapters import EchoAdapters
from inferd.engines.echo_logprobs import score_prompt, scored
from inferd.engines.echo_options import Options, describe, parse
from inferd.errors import StartError
from inferd.messages import (
    Awake,
    Begun,
    EngineInfo,
    EngineStats,
    Event,
    Fail,
    FailCode,
    Finish,
    FinishReason,
    LoadAdapter,
    MemoryUse,
    Slept,
    Submit,
    Tokens,
)


class Sequence:
    """One request's state: its prompt, its output so far, and when what happened."""

    def __init__(self, submit: Submit, now: float) -> None:
        self.submit = submit
        self.output = list(submit.output)
        self.submitted = now
        self.scheduled: float | None = None
        self.first_token: float | None = None

    @property
    def length(self) -> int:
        """Prompt and output, in tokens."""
        return len(self.submit.prompt) + len(self.output)


class EchoCore:
    """See the module. Waiting requests run in the order they came in."""

    def __init__(
        self,
        spec: EngineSpec,
        options: Options,
        *,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
        load_s: float = 0.0,
    ) -> None:
        self._spec = spec
        self._options = options
        self._clock = clock
        self._sleep = sleep
        self._script = tuple(int(part) for part in options.script.split("-") if part)
        self._running: dict[str, Sequence] = {}
        self._waiting: deque[Sequence] = deque()
        self._blocks_used = 0  # held by running sequences
        self._adapters = EchoAdapters(
            spec.max_adapters,
            spec.max_adapter_rank,
            options.vocab_size,
            options.adapter_delay,
            clock,
        )
        self._asleep = False
        self._steps = self._prompt_tokens = self._output_tokens = 0
        self._info = describe(spec, options, load_s)

    @property
    def info(self) -> EngineInfo:
        return self._info

    @property
    def busy(self) -> bool:
        return bool(self._running or self._waiting or self._adapters.loading)

    def submit(self, submit: Submit) -> list[Event]:
        assert not self._asleep, "submitted while asleep"
        if submit.grammar:
            message = "the echo engine cannot follow a grammar"
            return [Fail(submit.request_id, "invalid", message, param="grammar")]
        if submit.adapter and not self._adapters.knows(submit.adapter):
            return [_no_adapter(submit)]
        refusal = self._refusal(submit)
        if refusal is not None:
            code, message = refusal
            return [Fail(submit.request_id, code, message)]
        self._waiting.append(Sequence(submit, self._clock()))
        if submit.adapter:
            self._adapters.enter(submit.adapter)
        return []

    def abort(self, request_id: str) -> list[Event]:
        if sequence := self._running.get(request_id):
            self._leave(sequence)
        elif sequence := self._find_waiting(request_id):
            self._forget(sequence)
        return [self._finish(sequence, "abort")] if sequence else []

    def step(self) -> list[Event]:
        assert not (self._asleep and (self._running or self._waiting))
        self._adapters.turn(wait=not self._running)
        events: list[Event] = self._admit()
        if not self._running:
            return events
        self._sleep(self._options.delay)
        self._steps += 1
        for sequence in list(self._running.values()):
            new = self._advance(sequence)
            if isinstance(new[-1], Finish | Fail):
                self._leave(sequence)
            events += new
        return events

    def rest(self) -> bool:
        return False

    def load_adapter(self, load: LoadAdapter) -> None:
        self._adapters.load(load)

    def drop_adapter(self, adapter: str) -> None:
        self._adapters.drop(adapter)

    def adapter_news(self) -> list[AdapterNews]:
        return self._adapters.news()

    def sleep(self) -> Slept:
        assert not self.busy, "told to sleep while it works"
        self._sleep(self._options.sleep_delay)
        self._asleep = True
        return Slept(self._memory())

    def wake(self) -> Awake:
        if self._options.wake == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        self._sleep(self._options.wake_delay)
        self._asleep = False
        return Awake(self._memory())

    def stats(self) -> EngineStats:
        return EngineStats(
            running=len(self._running),
            waiting=len(self._waiting),
            kv_blocks_used=self._blocks_used,
            kv_blocks_total=self._info.num_blocks,
            steps=self._steps,
            prefix_queries=self._prompt_tokens,
            prompt_tokens=self._prompt_tokens,
            output_tokens=self._output_tokens,
            memory=self._memory(),
            adapters_held=self._adapters.num_held,
            adapters_in_slots=self._adapters.num_running,
        )

    def check(self) -> None:
        assert len(self._running) <= self._spec.max_batch_size
        held = sum(self._blocks(s.length) for s in self._running.values())
        assert self._blocks_used == held <= self._info.num_blocks
        waiting = {s.submit.request_id for s in self._waiting}
        assert len(waiting) == len(self._waiting)
        assert not waiting & self._running.keys()
        self._adapters.check()

    def close(self) -> None:
        self._adapters.clear()
        self._running.clear()
        self._waiting.clear()
        self._blocks_used = 0

    def _refusal(self, submit: Submit) -> tuple[FailCode, str] | None:
        """Why `submit` cannot be accepted."""
        limit = self._info.max_model_len
        if not submit.prompt:
            return "invalid", "prompt holds no tokens"
        if len(submit.output) >= submit.max_tokens:
            return "invalid", "max_tokens must exceed the tokens already generated"
        if any(not 0 <= t < self._info.vocab_size for t in submit.prompt + submit.output):
            return "invalid", f"a token id is outside 0 … {self._info.vocab_size - 1}"
        if submit.request_id in self._running or self._find_waiting(submit.request_id):
            return "invalid", "request_id is in use"
        if len(submit.prompt) + submit.max_tokens > limit:
            return "too_long", f"prompt and max_tokens exceed the model's {limit} tokens"
        if self._blocks(len(submit.prompt) + submit.max_tokens) > self._info.num_blocks:
            return "too_long", "the sequence does not fit the KV cache"
        tokens = sum(s.length for s in self._waiting) + len(submit.prompt) + len(submit.output)
        free_rows = self._spec.max_batch_size - len(self._running)
        if len(self._waiting) >= self._spec.max_queue_requests + free_rows:
            return "overloaded", "too many requests are waiting"
        if self._waiting and tokens > self._spec.max_queue_tokens:
            return "overloaded", "too many tokens are waiting"
        return None

    def _admit(self) -> list[Event]:
        """Begin what can begin. Who waits for an adapter to load holds up nobody; who waits for a
        slot holds up later ones with adapters, so that slots become free for it."""
        events: list[Event] = []
        slots = True
        for sequence in list(self._waiting):
            adapter = sequence.submit.adapter
            if len(self._running) == self._spec.max_batch_size or not self._fits(sequence):
                break
            if adapter and self._adapters.lost(adapter):
                self._forget(sequence)
                events.append(_no_adapter(sequence.submit))
            elif not adapter or (slots and self._adapters.can_begin(adapter)):
                self._begin(sequence)
            elif self._adapters.loaded(adapter):
                slots = False
        return events

    def _fits(self, sequence: Sequence) -> bool:
        return self._blocks_used + self._blocks(sequence.length + 1) <= self._info.num_blocks

    def _begin(self, sequence: Sequence) -> None:
        self._waiting.remove(sequence)
        sequence.scheduled = self._clock()
        self._running[sequence.submit.request_id] = sequence
        self._blocks_used += self._blocks(sequence.length)
        self._prompt_tokens += len(sequence.submit.prompt)
        if sequence.submit.adapter:
            self._adapters.begin(sequence.submit.adapter)

    def _advance(self, sequence: Sequence) -> list[Event]:
        """One token, and what goes before and after it."""
        submit, sampling = sequence.submit, sequence.submit.sampling
        token = self._next_token(sequence)
        fault = self._fault(submit.request_id, token)
        if fault is not None:
            return [fault]
        events: list[Event] = []
        begun = self._begun(sequence)
        if begun is not None and sampling.prompt_logprobs is not None:
            events.append(score_prompt(submit, sampling.prompt_logprobs))
        self._blocks_used -= self._blocks(sequence.length)
        sequence.output.append(token)
        self._blocks_used += self._blocks(sequence.length)
        self._output_tokens += 1
        logprobs = (
            () if sampling.logprobs is None else (scored(sampling, token, 1, sampling.logprobs),)
        )
        events.append(Tokens(submit.request_id, (token,), logprobs, begun))
        if token in sampling.stop_token_ids and len(sequence.output) > sampling.min_tokens:
            events.append(self._finish(sequence, "stop", token))
        elif len(sequence.output) >= submit.max_tokens:
            events.append(self._finish(sequence, "length"))
        elif self._blocks_used > self._info.num_blocks:
            events.append(Fail(submit.request_id, "capacity", "the KV cache is full"))
        return events

    def _next_token(self, sequence: Sequence) -> int:
        """A pure function of prompt, position and sampling, so that generation can resume."""
        submit = sequence.submit
        cycle = self._script or submit.prompt
        if submit.adapter:
            cycle = self._adapters.says(submit.adapter)
        sampling, position = sequence.submit.sampling, len(sequence.output)
        banned = sampling.stop_token_ids if position < sampling.min_tokens else ()
        for offset in range(len(cycle)):
            token = cycle[(position + offset) % len(cycle)]
            if token not in banned:
                return token
        return next(t for t in range(len(banned) + 1) if t not in banned)

    def _fault(self, request_id: str, token: int) -> Fail | None:
        """The fault that the options attach to `token`."""
        options = self._options
        if token == options.crash_token:
            os.kill(os.getpid(), signal.SIGKILL)
        if token == options.hang_token:
            _hang()
        if token == options.raise_token:
            raise RuntimeError(f"token {token} raises, as raise_token asks")
        if token == options.fail_token:
            return Fail(request_id, "engine", "The engine failed on this request", "fail_token")
        return None

    def _begun(self, sequence: Sequence) -> Begun | None:
        """Note the first token; None if it was there before."""
        if sequence.first_token is not None:
            return None
        assert sequence.scheduled is not None
        sequence.first_token = self._clock()
        return Begun(
            sequence.scheduled - sequence.submitted, sequence.first_token - sequence.scheduled
        )

    def _finish(
        self, sequence: Sequence, reason: FinishReason, stop_token_id: int | None = None
    ) -> Finish:
        first = sequence.first_token
        decode_s = 0.0 if first is None else self._clock() - first
        return Finish(sequence.submit.request_id, reason, stop_token_id, decode_s=decode_s)

    def _blocks(self, tokens: int) -> int:
        return -(-tokens // self._spec.block_size)

    def _leave(self, sequence: Sequence) -> None:
        del self._running[sequence.submit.request_id]
        self._blocks_used -= self._blocks(sequence.length)
        if sequence.submit.adapter:
            self._adapters.leave(sequence.submit.adapter, began=True)

    def _forget(self, sequence: Sequence) -> None:
        """It never ran."""
        self._waiting.remove(sequence)
        if sequence.submit.adapter:
            self._adapters.leave(sequence.submit.adapter, began=False)

    def _memory(self) -> MemoryUse:
        return MemoryUse(
            weights=self._options.load_bytes,
            kv_cache=0 if self._asleep else self._spec.kv_cache_bytes or 0,
            adapters=self._adapters.num_bytes,
        )

    def _find_waiting(self, request_id: str) -> Sequence | None:
        return next((s for s in self._waiting if s.submit.request_id == request_id), None)


def _no_adapter(submit: Submit) -> Fail:
    message = f"adapter {submit.adapter!r} is not loaded"
    return Fail(submit.request_id, "invalid", message, param="adapter")


def create(spec: EngineSpec, on_progress: Callable[[Progress], None]) -> EchoCore:
    """Build an echo core; the `CoreFactory` that the catalog names."""
    began = time.perf_counter()
    options = parse(spec.model)
    if options.start == "fail":
        raise StartError(
            "out_of_memory",
            "The weights need 2 GiB and 1 GiB is free",
            hint="Use a smaller model",
            bytes_needed=2 << 30,
            bytes_free=1 << 30,
            log="start=fail",
        )
    if options.start == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if options.start == "hang":
        _hang()
    for quarter in range(5 if options.load_bytes else 0):
        on_progress(Progress("weights", options.load_bytes * quarter // 4, options.load_bytes))
        time.sleep(options.load_delay)
    return EchoCore(spec, options, load_s=time.perf_counter() - began)


def _hang() -> None:
    """Block for ever, as a hung driver call does."""
    while True:
        time.sleep(3600)
