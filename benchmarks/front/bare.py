"""The least that streaming over HTTP costs: a server that writes prepared events to sockets.

    python -m benchmarks.front.bare DELAY

Prints its port. Each connection's request gets its `max_tokens` events, one every DELAY seconds to
all that run, each in a chunk and a write of its own, as a daemon sends tokens.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import ClassVar, cast

import uvloop

HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
    b"date: Mon, 01 Jan 2024 00:00:00 GMT\r\ncache-control: no-cache\r\n\r\n"
)


def chunk(data: str) -> bytes:
    event = f"data: {data}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(event), event)


EVENT = chunk(
    '{"id":"cmpl-0123456789abcdef0123456789abcdef","object":"text_completion",'
    '"created":1700000000,"model":"demo","choices":[{"index":0,"text":" word",'
    '"finish_reason":null}]}'
)


def last(tokens: int) -> bytes:
    usage = f'{{"prompt_tokens":1,"completion_tokens":{tokens}}}'
    return chunk(f'{{"choices":[],"usage":{usage}}}') + chunk("[DONE]") + b"0\r\n\r\n"


class Stream(asyncio.Protocol):
    """A connection; each of its requests runs until its tokens are out."""

    running: ClassVar[set[Stream]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._request = b""

    def data_received(self, data: bytes) -> None:
        self._request += data
        _, _, body = self._request.partition(b"\r\n\r\n")
        try:
            self._tokens = self._left = json.loads(body)["max_tokens"]
        except ValueError:
            return  # more of it is to come
        self._request = b""
        self._transport.write(HEAD)
        self.running.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.running.discard(self)

    def token(self) -> None:
        self._transport.write(EVENT)
        self._left -= 1
        if not self._left:
            self.running.discard(self)
            self._transport.write(last(self._tokens))


async def main(delay: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Stream, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    while True:
        await asyncio.sleep(delay)
        for stream in list(Stream.running):
            stream.token()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(float(sys.argv[1])))
