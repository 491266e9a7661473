"""HTTP/1.1 as a load generator needs it: connections that are kept, bodies handed on as they come.

A general client costs several times as much per streamed token, and what the client's processor
takes is missing from the server where both share a machine.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast
from urllib.parse import urlsplit

import httptools

_LARGEST_READ = 1 << 20  # bytes up to and including the read in which a head ends


class Broken(Exception):
    """No complete reply came. `kind`: connect, disconnected or malformed."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Receiver(Protocol):
    """Takes one reply."""

    def head(self, status: int, content_type: str) -> None: ...

    def body(self, chunk: bytes, now: float) -> None:
        """`now`: when the bytes arrived, by the client's clock."""


@dataclass(frozen=True)
class Server:
    """Where requests go."""

    host: str
    port: int
    secure: bool
    prefix: str  # of every path; no slash at its end

    @classmethod
    def of(cls, url: str) -> Server:
        """Raises ValueError, in words, where `url` is not a server's."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not the URL of a server, like http://127.0.0.1:8000")
        secure = parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        return cls(parts.hostname, port, secure, parts.path.rstrip("/"))

    @property
    def authority(self) -> str:
        """The Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"


class Connection(asyncio.Protocol):
    """One connection with one request at a time.

    Args:
        on_idle_lost: called when the server closes it while nothing runs.
    """

    def __init__(
        self, clock: Callable[[], float], on_idle_lost: Callable[[Connection], None]
    ) -> None:
        self._clock = clock
        self._on_idle_lost = on_idle_lost
        self._transport: asyncio.Transport | None = None
        self._receiver: Receiver | None = None
        self._done: asyncio.Future[None] | None = None
        self._now = 0.0
        self._content_type = ""
        self._head_bytes = 0
        self._headed = False  # the reply's head is complete
        self._keep = True  # the connection may be used again
        self._until_close = True  # the body ends where the connection does

    @property
    def usable(self) -> bool:
        """Whether another request may be sent on it."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def answered(self) -> bool:
        """Whether any byte of the last reply came."""
        return self._headed or self._head_bytes > 0

    async def exchange(self, request: bytes, receiver: Receiver) -> None:
        """Send `request` and hand on its reply. Raises `Broken`."""
        self._head_bytes, self._headed = 0, False
        if self._transport is None or self._transport.is_closing():
            raise Broken("disconnected", "the server closed the connection")
        self._receiver = receiver
        self._parser = httptools.HttpResponseParser(self)
        self._content_type = ""
        self._keep, self._until_close = True, True
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            await self._done
        finally:
            complete = self._done.done() and not self._done.cancelled()
            self._done = self._receiver = None
            if not (complete and self._keep):
                self.close()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # ------------------------------------------------------------ asyncio's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        self._now = self._clock()
        if self._done is None:
            self.close()  # nothing was asked
            return
        if not self._headed:
            self._head_bytes += len(data)  # the parser holds a header until it is complete
            if self._head_bytes > _LARGEST_READ:
                self._fail("malformed", "the reply's head is too large")
                return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail("malformed", f"the reply is not HTTP: {error}")

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._done is None:
            self._on_idle_lost(self)
        elif error is None and self._headed and self._until_close:
            self._end()
        else:
            said = f": {error}" if error else ""
            self._fail("disconnected", f"the server closed the connection{said}")

    # ------------------------------------------------------------ httptools' calls

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"content-type":
            self._content_type = value.decode("latin-1")
        elif name in (b"content-length", b"transfer-encoding"):
            self._until_close = False

    def on_headers_complete(self) -> None:
        self._headed = True
        if self._receiver is not None:
            self._receiver.head(self._parser.get_status_code(), self._content_type)

    def on_body(self, body: bytes) -> None:
        if self._receiver is not None:
            self._receiver.body(body, self._now)

    def on_message_complete(self) -> None:
        self._keep = self._parser.should_keep_alive()
        self._end()

    def _end(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    def _fail(self, kind: str, message: str) -> None:
        self._keep = False
        if self._done is not None and not self._done.done():
            self._done.set_exception(Broken(kind, message))


class Transport:
    """Connections to one server, kept for the next request; closed by `close`.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, server: Server, key: str, *, clock: Callable[[], float]) -> None:
        self._server = server
        self._clock = clock
        self._idle: list[Connection] = []
        self._tls = ssl.create_default_context() if server.secure else None
        lines = [f"Host: {server.authority}", "User-Agent: inferd-bench", "Accept: */*"]
        if key:
            lines.append(f"Authorization: Bearer {key}")
        self._headers = "\r\n".join(lines)

    async def exchange(self, method: str, path: str, body: bytes, receiver: Receiver) -> None:
        """Send one request and hand on its reply. Raises `Broken`.

        A kept connection that ends before any byte of the reply was closed while idle: the request
        goes once more, on a connection of its own.
        """
        request = self._request(method, path, body)
        kept = self._kept()
        if kept is not None:
            try:
                return await self._exchange(kept, request, receiver)
            except Broken:
                if kept.answered:
                    raise
        await self._exchange(await self._connect(), request, receiver)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _request(self, method: str, path: str, body: bytes) -> bytes:
        head = (
            f"{method} {self._server.prefix}{path} HTTP/1.1\r\n{self._headers}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode("utf-8", "surrogateescape") + body

    async def _exchange(self, connection: Connection, request: bytes, receiver: Receiver) -> None:
        await connection.exchange(request, receiver)
        if connection.usable:
            self._idle.append(connection)

    def _kept(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return None

    async def _connect(self) -> Connection:
        server = self._server
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: Connection(self._clock, self._forget),
                server.host,
                server.port,
                ssl=self._tls,
            )
        except OSError as error:
            raise Broken("connect", f"cannot connect to {server.authority}: {error}") from error
        return connection

    def _forget(self, connection: Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)
