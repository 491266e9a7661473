"""Streamed completions in OpenAI's dialect: what is asked, and how the reply is read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import Struct

from inferd.bench.record import Record
from inferd.bench.sse import EventReader
from inferd.bench.transport import Broken, Transport
from inferd.bench.workload import Prompt

_KEPT = 4096  # bytes of a reply that is no stream, for its error's text


class _Delta(Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[Any] | None = None


class _Choice(Struct):
    text: str | None = None
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Details(Struct):
    cached_tokens: int | None = None


class _Usage(Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None


class _Event(Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Event).decode


@dataclass(frozen=True)
class Asked:
    """What all requests of a run share.

    Attributes:
        path: ends in `/completions`; in `/chat/completions` for chats.
        extra: fields of the body, over all others.
    """

    path: str
    model: str
    temperature: float | None = 0.0
    ignore_eos: bool = True
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def chat(self) -> bool:
        return self.path.endswith("/chat/completions")

    def body(self, prompt: Prompt) -> bytes:
        """The request for `prompt`. With `ignore_eos` the reply has exactly its length, on servers
        that know that field and `min_tokens`, which are not OpenAI's."""
        text: dict[str, Any] = {"prompt": prompt.text}
        if self.chat:
            text = {"messages": [{"role": "user", "content": prompt.text}]}
        fields = {"model": self.model, **text, "max_tokens": prompt.output_len, "stream": True}
        fields["stream_options"] = {"include_usage": True}
        if self.temperature is not None:
            fields["temperature"] = self.temperature
        if self.ignore_eos:
            fields |= {"ignore_eos": True, "min_tokens": prompt.output_len}
        return json.dumps(fields | dict(self.extra)).encode()


class StreamReader:
    """Reads one reply into a `Record`; a `Receiver`."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._events = EventReader()
        self._status = 0
        self._streams = False
        self._kept = b""  # of a body that is no stream
        self._done = False  # [DONE] came

    def head(self, status: int, content_type: str) -> None:
        self._status = status
        self._streams = status == 200 and content_type.startswith("text/event-stream")

    def body(self, chunk: bytes, now: float) -> None:
        if not self._streams:
            self._kept += chunk[: _KEPT - len(self._kept)]
            return
        for data in self._events.feed(chunk):
            if data == b"[DONE]":
                self._done = True
            else:
                self._event(data, now)

    def end(self) -> None:
        """The reply has come to its end; what was wrong with it, if anything, goes to the record:
        its first error counts."""
        record = self._record
        if self._status != 200:
            self._wrong(f"http_{self._status}", error_text(self._kept))
        elif not self._streams:
            self._wrong("not_sse", f"the reply is no event stream: {_shown(self._kept)}")
        elif self._events.incomplete or not self._done:
            self._wrong("truncated", "the stream ended without [DONE]")
        elif not record.arrivals:
            self._wrong("no_tokens", "the reply has no text")

    def _event(self, data: bytes, now: float) -> None:
        try:
            event = _decode(data)
        except msgspec.DecodeError as error:
            self._wrong("malformed", f"an event cannot be read: {error}")
            return
        if event.error is not None:
            self._wrong("error_event", error_text(data))
        for choice in event.choices:
            if _says(choice):
                self._record.arrivals.append(now)
            if choice.finish_reason:
                self._record.finish_reason = choice.finish_reason
        if event.usage is not None:
            self._usage(event.usage)

    def _usage(self, usage: _Usage) -> None:
        """The last one counts: servers may tell it with every event."""
        self._record.prompt_tokens = usage.prompt_tokens
        self._record.output_tokens = usage.completion_tokens
        if usage.prompt_tokens_details is not None:
            self._record.cached_tokens = usage.prompt_tokens_details.cached_tokens or 0

    def _wrong(self, kind: str, message: str) -> None:
        if not self._record.error:
            self._record.error, self._record.message = kind, message


def _says(choice: _Choice) -> bool:
    """Whether it carries anything that the model wrote."""
    delta = choice.delta
    if delta is None:
        return bool(choice.text)
    return bool(delta.content or delta.reasoning_content or delta.reasoning or delta.tool_calls)


def error_text(body: bytes) -> str:
    """What an error reply says, in the shapes that servers of this dialect use."""
    try:
        said = json.loads(body)
    except ValueError:
        return _shown(body)
    while isinstance(said, dict):
        found = (said[name] for name in ("error", "message", "detail") if name in said)
        said = next(found, None)
    return said if isinstance(said, str) else _shown(body)


def _shown(body: bytes) -> str:
    text = " ".join(body.decode(errors="replace").split())
    return f"{text[:200]}…" if len(text) > 200 else text or "(empty)"


class Sender:
    """Sends prompts one by one and says what became of each.

    Args:
        clock: seconds, monotonic.
        timeout: seconds from sending to the reply's end.
    """

    def __init__(
        self,
        transport: Transport,
        asked: Asked,
        *,
        clock: Callable[[], float],
        timeout: float,
    ) -> None:
        self._transport = transport
        self._asked = asked
        self._clock = clock
        self._timeout = timeout

    async def send(self, prompt: Prompt, index: int, scheduled: float) -> Record:
        """Never raises for what the server does: that is in the record's `error`."""
        body = self._asked.body(prompt)
        record = Record(index, scheduled, self._clock())
        record.asked_input, record.asked_output = prompt.input_len, prompt.output_len
        reader = StreamReader(record)
        try:
            async with asyncio.timeout(self._timeout):
                await self._transport.exchange("POST", self._asked.path, body, reader)
            reader.end()
        except Broken as broken:
            record.error, record.message = broken.kind, str(broken)
        except TimeoutError:
            record.error = "timeout"
            record.message = f"no complete reply within {self._timeout:g} s"
        record.ended = self._clock()
        return record
