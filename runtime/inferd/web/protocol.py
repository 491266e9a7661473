"""HTTP/1.1 as uvicorn speaks it, with a bound on what a stranger may have it keep."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 2**10  # request line and headers, or the headers behind a chunked body


class BoundedHeads(HttpToolsProtocol):
    """Closes a connection whose headers do not end; uvicorn alone would keep all of them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._pending = 0  # bytes since the parser last handed on something whole

    def data_received(self, data: bytes) -> None:
        self._pending += len(data)
        super().data_received(data)
        if self._pending > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The headers are too long.")

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._pending = 0

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._pending = 0

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._pending = 0
