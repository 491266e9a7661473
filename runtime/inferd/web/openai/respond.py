"""The way from requests to a reply that chat and completions share: streamed, or whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from inferd.announce import Announced
from inferd.answer import Answer, collect
from inferd.batch import open_streams
from inferd.messages import Generate, Output
from inferd.service import Service
from inferd.web.exchange import Exchange
from inferd.web.openai.frames import Reply
from inferd.web.openai.schema import Common
from inferd.web.openai.usage import UsagePlan, stream_events
from inferd.web.reply import send_events, send_json


class Form(Protocol):
    """How one request's answer is written."""

    def whole(self, answer: Answer) -> Reply[Any]: ...

    def frames(self, number: int, output: Output) -> Iterable[Reply[Any]]:
        """The chunks that say `output` of prompt `number`."""

    def bare(self) -> Reply[Any]:
        """A chunk without choices."""


async def respond(
    service: Service,
    exchange: Exchange,
    request: Common,
    generates: Sequence[Generate],
    form: Form,
) -> None:
    """Run `generates`, the prompts of `request`, and send what comes, written by `form`."""
    announced = Announced(service, exchange.began)
    async with open_streams(announced, generates, exchange.caller, exchange.id) as outputs:
        if request.stream:
            plan = UsagePlan(request.stream_options, form.bare)
            events = stream_events(outputs, form.frames, plan)
            return await send_events(exchange, events, "openai")
        answer = await collect(outputs, len(generates), generates[0].n)
    await send_json(exchange.send, form.whole(answer))
