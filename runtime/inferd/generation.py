"""One accepted request: its engine streams, merged, and their events as outputs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import TypeVar

import msgspec
from anyio import CancelScope

from inferd.adapters.entry import Lease
from inferd.engines.base import Engine, is_terminal
from inferd.errors import (
    BusyError,
    EngineDead,
    EngineError,
    InferdError,
    InvalidRequest,
)
from inferd.messages import (
    Done,
    Event,
    Fail,
    Finish,
    Generate,
    Output,
    PromptScored,
    Start,
    Submit,
    Tokens,
    Usage,
)
from inferd.metrics import RequestMetrics
from inferd.text.choice import Choice, scored_prompt
from inferd.text.model import TextModel
from inferd.text.prompt import Prepared, prompt_param

T = TypeVar("T")

_THREAD_SCORES = 4096  # scored prompt tokens from which on other streams would feel the work


class Streams:
    """The streams of a request's sequences, as one. Every opened stream is closed by `close`."""

    def __init__(self, engine: Engine, count: int) -> None:
        self._engine = engine
        self._single = count == 1
        self._open: dict[int, AsyncExitStack] = {}
        self._only: AsyncIterator[Event] | None = None  # the stream itself when it is alone
        self._arrived: asyncio.Queue[tuple[int, Event | Exception]] = asyncio.Queue()
        self._ended: InferdError | None = None  # by `end_all`
        self._wait: asyncio.Timeout | None = None  # of who waits now, where it can be cut short
        self._abort: asyncio.Task[None] | None = None

    async def begin(self, index: int, submit: Submit) -> None:
        """Submit sequence `index`. Raises `Unavailable`, and the error of `end_all`."""
        events, stack = await self._until_ended(lambda: self._enter(index, submit))
        if self._single:
            self._only = events
        else:
            task = asyncio.create_task(self._pump(index, events))
            stack.push_async_callback(_cancel, task)

    async def next_until_ended(self) -> tuple[int, Event]:
        """As `next`; raises the error of `end_all` instead, as soon as that is called."""
        return await self._until_ended(self.next)

    def end_all(self, error: InferdError) -> None:
        """Abort everything, on behalf of somebody else than who reads."""
        self._ended = error
        if self._wait is not None:
            self._wait.reschedule(0.0)  # whoever reads closes the streams
        else:
            self._abort = asyncio.get_running_loop().create_task(self.close())

    async def _enter(
        self, index: int, submit: Submit
    ) -> tuple[AsyncIterator[Event], AsyncExitStack]:
        stack = AsyncExitStack()
        events = await stack.enter_async_context(self._engine.stream(submit))
        self._open[index] = stack
        return events, stack

    async def _until_ended(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do `work`; raises the error of `end_all` as soon as that is called. Costs each event
        5 µs, so those that nobody else can end do without."""
        self._check()
        try:
            async with asyncio.timeout(None) as self._wait:
                return await work()
        except TimeoutError:
            self._check()
            raise
        finally:
            self._wait = None

    def _check(self) -> None:
        if self._ended is not None:
            raise self._ended

    async def next(self) -> tuple[int, Event]:
        """The next event and its sequence. Raises what a stream raised."""
        if self._only is not None:
            event = await anext(self._only, None)
            if event is None:
                raise _unfinished()
            return 0, event
        index, item = await self._arrived.get()
        if isinstance(item, Exception):
            raise item
        return index, item

    async def end(self, index: int) -> None:
        """Abort sequence `index` if it still runs."""
        stack = self._open.pop(index, None)
        if stack is not None:
            with CancelScope(shield=True):
                await stack.aclose()

    async def close(self) -> None:
        """Abort all that still run; the others too where aborting one is interrupted."""
        with CancelScope(shield=True):
            async with AsyncExitStack() as every:
                while self._open:
                    every.push_async_exit(self._open.popitem()[1])
            if self._abort is not None and self._abort is not asyncio.current_task():
                await asyncio.wait({self._abort})

    async def _pump(self, index: int, events: AsyncIterator[Event]) -> None:
        try:
            async for event in events:
                self._arrived.put_nowait((index, event))
                if is_terminal(event):
                    return
            self._arrived.put_nowait((index, _unfinished()))
        except Exception as error:
            self._arrived.put_nowait((index, error))


class Generation:
    """A request on its way through an engine.

    With several choices and a prompt of more than a block, choice 0 goes first, and the others
    follow upon its first event: they then find the prompt in the prefix cache. A prompt is
    scored once, for choice 0, and told for each.
    """

    def __init__(
        self,
        engine: Engine,
        text: TextModel,
        request: Generate,
        prepared: Prepared,
        submits: Sequence[Submit],
        metrics: RequestMetrics,
        *,
        lease: Lease | None = None,
        served_by: str = "",
    ) -> None:
        self._text = text
        self._param = prompt_param(request)
        self._grammar_param = "tools" if request.format is None else "format"
        self._prepared = prepared
        self._submits = submits
        self._metrics = metrics
        self._choices = [Choice(i, request, prepared, text) for i in range(len(submits))]
        self._streams = Streams(engine, len(submits))
        self._lease = lease
        self._served_by = served_by
        self._first_choice: list[int] | None = [] if lease and lease.shadowed else None
        self._staggered = (
            len(prepared.prompt) > engine.info.block_size or request.prompt_logprobs is not None
        )
        self._begun = 0
        self._cached_tokens = 0
        self.over = False  # ended, well or with an error

    async def begin(self) -> None:
        """Submit. Raises `Unavailable`; nothing runs then."""
        if self._lease is not None:
            self._lease.on_revoke(self._streams.end_all)
        try:
            await self._begin_up_to(1 if self._staggered else len(self._submits))
        except BaseException:
            await self.close()
            raise
        prepared = self._prepared
        self._metrics.accepted(len(prepared.prompt), len(self._submits), prepared.max_tokens)

    async def close(self) -> None:
        """Abort what still runs."""
        await self._streams.close()

    async def outputs(self) -> AsyncGenerator[Output, None]:
        """See `Service.stream`."""
        try:
            index, event = await self._next()
            yield self._start()
            await self._begin_up_to(len(self._submits))
            while True:
                for output in await self._turn(index, event):
                    yield output
                if all(choice.ended for choice in self._choices):
                    break
                index, event = await self._next()
            self.over = True
            self._metrics.done()
            self._tell_lease()
            yield self._usage()
        except Exception as error:
            self.over = True
            self._metrics.failed(error)
            raise

    async def _begin_up_to(self, count: int) -> None:
        while self._begun < count:
            await self._streams.begin(self._begun, self._submits[self._begun])
            self._begun += 1

    async def _next(self) -> tuple[int, Tokens | PromptScored | Finish]:
        """The next event that still matters; a failure is raised."""
        following = self._streams.next if self._lease is None else self._streams.next_until_ended
        while True:
            index, event = await following()
            if self._choices[index].ended:
                continue  # it was on its way when a stop string ended the choice
            if isinstance(event, Fail):
                raise error_of(event, self._param, self._grammar_param)
            return index, event

    async def _turn(self, index: int, event: Tokens | PromptScored | Finish) -> Sequence[Output]:
        match event:
            case PromptScored():
                return await self._scored(event)
            case Tokens():
                return await self._tokens(index, event)
            case Finish():
                return await self._finish(index, event)

    async def _scored(self, event: PromptScored) -> Sequence[Output]:
        prompt, tokenizer = self._prepared.prompt, self._text.tokenizer
        if len(event.logprobs) < _THREAD_SCORES:
            first = scored_prompt(0, event, prompt, tokenizer)
        else:
            first = await asyncio.to_thread(scored_prompt, 0, event, prompt, tokenizer)
        return [msgspec.structs.replace(first, index=i) for i in range(len(self._submits))]

    async def _tokens(self, index: int, event: Tokens) -> Sequence[Output]:
        choice = self._choices[index]
        if self._first_choice is not None and index == 0:
            self._first_choice += event.token_ids
        if event.begun is not None:
            self._metrics.begun(index, event.begun)
            if index == 0:
                self._cached_tokens = event.begun.cached_tokens
        chunk = choice.tokens(event)
        if chunk is None:
            return ()
        self._metrics.tokens(index, len(chunk.token_ids))
        if choice.done is None:
            return (chunk,)
        await self._streams.end(index)  # a stop string: the engine need not go on
        return (chunk, self._done(choice, choice.done))

    async def _finish(self, index: int, event: Finish) -> Sequence[Output]:
        await self._streams.end(index)
        choice = self._choices[index]
        chunk, done = choice.finish(event)
        return [*([chunk] if chunk else []), self._done(choice, done)]

    def _done(self, choice: Choice, done: Done) -> Done:
        reason = "stop" if done.reason == "tool_calls" else done.reason  # vLLM's labels
        self._metrics.choice_done(choice.index, reason, choice.completion_tokens)
        return done

    def _start(self) -> Start:
        return Start(
            self._prepared.prompt,
            self._prepared.prompt_text,
            adapter=self._lease.generation if self._lease is not None else "",
            served_by=self._served_by,
        )

    def _tell_lease(self) -> None:
        if self._lease is not None and self._first_choice is not None:
            salt = self._submits[0].cache_salt
            self._lease.served(self._prepared.prompt, tuple(self._first_choice), salt)

    def _usage(self) -> Usage:
        return Usage(
            prompt_tokens=len(self._prepared.prompt),
            completion_tokens=sum(choice.completion_tokens for choice in self._choices),
            cached_tokens=self._cached_tokens,
            runtime_s=self._metrics.elapsed,
            reasoning_tokens=sum(choice.reasoning_tokens for choice in self._choices),
        )


def error_of(fail: Fail, param: str, grammar_param: str) -> InferdError:
    """The exception for an engine's `Fail`.

    `param` names the prompt's field, `grammar_param` the one that the grammar came from.
    """
    match fail.code:
        case "invalid":
            params = {"grammar": grammar_param, "adapter": "model"}
            return InvalidRequest(fail.message, params.get(fail.param))
        case "too_long":
            error = InvalidRequest(fail.message, param)
            error.code = "context_length_exceeded"
            return error
        case "overloaded":
            return BusyError(log=fail.log or fail.message)
        case "capacity" | "engine":
            return EngineError(fail.message, log=fail.log)
        case "dead":
            return EngineDead(fail.message, log=fail.log)


def _unfinished() -> EngineError:
    return EngineError(log="the engine's stream ended without a terminal event")


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
