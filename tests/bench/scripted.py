"""A server that says what a test wrote, byte for byte, to each request in turn."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Script:
    """Replies, the requests they answered, and how many connections there were.

    A reply is a list of byte strings, each in a write of its own; `None` in it closes the
    connection, `...` keeps silent for ever.
    """

    replies: list[Sequence[Any]]
    url: str = ""
    requests: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    connections: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)  # a request came


@asynccontextmanager
async def scripted(
    *replies: Sequence[Any], tls: ssl.SSLContext | None = None
) -> AsyncIterator[Script]:
    script = Script(list(replies))
    answering: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        answering.add(task)
        script.connections += 1
        try:
            while script.replies and await _read(reader, script):
                for part in script.replies.pop(0):
                    if part is None:
                        return
                    if part is ...:
                        await asyncio.Event().wait()
                    writer.write(part)
                    await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()
            answering.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    host, port = server.sockets[0].getsockname()
    script.url = f"{'https' if tls else 'http'}://{host}:{port}"
    try:
        yield script
    finally:
        server.close()
        for task in answering:
            task.cancel()
        await asyncio.gather(*answering, return_exceptions=True)


async def _read(reader: asyncio.StreamReader, script: Script) -> bool:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    script.requests.append((first, headers, json.loads(body) if body else None))
    script.asked.set()
    return True


def reply(body: bytes, status: str = "200 OK", kind: str = "application/json") -> bytes:
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(content: Any) -> bytes:
    text = content if isinstance(content, str) else json.dumps(content)
    return chunk(f"data: {text}\n\n".encode())


def text(words: str, finish: str | None = None) -> bytes:
    return event({"choices": [{"index": 0, "text": words, "finish_reason": finish}]})


def usage(prompt: int, completion: int, cached: int = 0) -> bytes:
    counts: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": completion}
    if cached:
        counts["prompt_tokens_details"] = {"cached_tokens": cached}
    return event({"choices": [], "usage": counts})


def stream(*parts: bytes) -> list[bytes]:
    """A whole stream of these events."""
    return [SSE, *parts, event("[DONE]"), END]
