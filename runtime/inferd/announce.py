"""What answers a request, told apart from its text: headers over HTTP, metadata over gRPC."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import aclosing, asynccontextmanager

from inferd.messages import Caller, Generate, Output, Start
from inferd.service import Service

ADAPTER = "x-inferd-adapter"
SERVED_BY = "x-inferd-served-by"

_MAX_VALUE = 256  # characters


class Announced:
    """`service`, whose streams tell `note` their `Start` as well."""

    def __init__(self, service: Service, note: Callable[[Start], None]) -> None:
        self._service = service
        self._note = note

    @asynccontextmanager
    async def stream(
        self, request: Generate, caller: Caller, *, request_id: str
    ) -> AsyncIterator[AsyncIterator[Output]]:
        """See `Service.stream`."""
        stream = self._service.stream(request, caller, request_id=request_id)
        async with stream as outputs, aclosing(self._noted(outputs)) as noted:
            yield noted

    async def _noted(self, outputs: AsyncIterator[Output]) -> AsyncGenerator[Output, None]:
        async for output in outputs:
            if isinstance(output, Start):
                self._note(output)
            yield output


def headers_of(starts: Iterable[Start]) -> list[tuple[str, str]]:
    """Names and values: the adapter's generation, and the model that answers in place of a
    deprecated one. A reply of several streams names all that answer, separated by commas."""
    starts = list(starts)
    values = {
        ADAPTER: dict.fromkeys(start.adapter for start in starts if start.adapter),
        SERVED_BY: dict.fromkeys(start.served_by for start in starts if start.served_by),
    }
    return [(name, _printable(", ".join(each))) for name, each in values.items() if each]


def _printable(text: str) -> str:
    """`text` as headers may hold it."""
    return re.sub(r"[^ -~]", "?", text[:_MAX_VALUE])
