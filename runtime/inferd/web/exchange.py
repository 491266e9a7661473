"""One HTTP request and the way to answer it; what every endpoint is given."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any

from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from inferd.announce import headers_of
from inferd.messages import Caller, Start
from inferd.web.disconnect import while_connected

_log = logging.getLogger("inferd.web")


class Exchange:
    """A request whose body was read. `id` is unique on this server and made by it; `shown_id`
    is what the reply's headers call it."""

    def __init__(self, scope: Scope, body: bytes, send: Send) -> None:
        self.body = body
        self.id: str = scope["state"]["request_id"]
        self.shown_id: str = scope["state"]["shown_id"]
        self.caller: Caller = scope["state"]["caller"]
        self.path_params: dict[str, str] = scope["path_params"]
        self._scope = scope
        self._send = send
        self._starts: list[Start] = []

    def began(self, start: Start) -> None:
        """A stream of this request began; the reply's headers will say what answers."""
        self._starts.append(start)

    async def send(self, message: Message) -> None:
        if self._starts and message["type"] == "http.response.start":
            said = [(name.encode(), value.encode()) for name, value in headers_of(self._starts)]
            message = {**message, "headers": [*message["headers"], *said]}
        await self._send(message)

    @property
    def headers(self) -> Headers:
        """By name, whatever its case."""
        return Headers(scope=self._scope)

    @property
    def query(self) -> QueryParams:
        return QueryParams(self._scope["query_string"])


class Endpoint:
    """An ASGI app that reads the body and runs `answer` for as long as the client is there."""

    def __init__(self, answer: Callable[[Exchange], Coroutine[Any, Any, None]]) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await Request(scope, receive).body()
        exchange = Exchange(scope, body, send)
        if not await while_connected(receive, self._answer(exchange)):
            _log.info("the client left: request %s", exchange.id)
