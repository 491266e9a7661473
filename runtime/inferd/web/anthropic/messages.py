"""`POST /v1/messages` and `POST /v1/messages/count_tokens`, Anthropic's.

Read `schema` for the request, then this: `Asked` is the way in, with `conversation` for turns and
tools; `writer` is the way out, in the types of `frames`.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from inferd.announce import Announced
from inferd.errors import renamed
from inferd.messages import Generate, JsonSchema, Output
from inferd.text.thinking import thinking_kwargs
from inferd.web.anthropic.conversation import Conversation, tool_choice_of, tools_of
from inferd.web.anthropic.frames import Event, Reply, TokenCount
from inferd.web.anthropic.schema import (
    HARMLESS,
    PREFIXES,
    REFUSED,
    CountRequest,
    MessagesRequest,
    ThinkingAdaptive,
    ThinkingDisabled,
    ThinkingEnabled,
)
from inferd.web.anthropic.writer import Writer
from inferd.web.body import Schema
from inferd.web.exchange import Exchange
from inferd.web.reply import event, send_events, send_json
from inferd.web.routes import ApiRoute, Described, Parts, post

_CREATE = Schema(MessagesRequest, harmless=HARMLESS, refused=REFUSED)
_COUNT = Schema(
    CountRequest,
    harmless=HARMLESS | set(MessagesRequest.__struct_fields__),
    refused=REFUSED,
)


class Asked:
    """A request in the service's terms, and its fields' names in the dialect's.

    Raises:
        InvalidRequest: a field is at fault.
    """

    def __init__(self, request: CountRequest) -> None:
        self._conversation = Conversation(request)
        self._format_at, answer_format = _format_of(request)
        tool_choice, parallel = tool_choice_of(request)
        self.generate = Generate(
            model=request.model,
            messages=self._conversation.messages,
            tools=tools_of(request),
            tool_choice=tool_choice,
            parallel_tool_calls=parallel,
            format=answer_format,
            chat_template_kwargs=_template_kwargs(request),
            continue_final_message=self._conversation.continues,
            max_tokens_may_exceed=True,
            **_sampling(request),
        )

    def path(self, ours: str) -> str:
        """The path of a field of `Generate` in the request."""
        field, _, below = ours.partition(".")
        if field == "messages":
            return self._conversation.origin(ours)
        if field == "tools":
            return re.sub(r"^(tools\.\d+)\.function(\.parameters)?", _tool_path, ours)
        if field == "format":
            return ".".join(filter(None, [self._format_at, below.removeprefix("schema.")]))
        return {"stop": "stop_sequences"}.get(field, ours)


def _tool_path(match: re.Match[str]) -> str:
    return match[1] + (".input_schema" if match[2] else "")


def _format_of(request: CountRequest) -> tuple[str, JsonSchema | None]:
    """(where the schema stands, the format)."""
    config = request.output_config
    at, given = "output_config.format.schema", config.format if config else None
    if given is None:
        at, given = "output_format.schema", request.output_format
    return at, None if given is None else JsonSchema(given.schema, strict=True)


def _template_kwargs(request: CountRequest) -> dict[str, Any]:
    switches: dict[type, bool] = {ThinkingEnabled: True, ThinkingDisabled: False}
    config = request.output_config
    return thinking_kwargs(config.effort if config else None, switches.get(type(request.thinking)))


def _shows_thinking(request: CountRequest) -> bool:
    match request.thinking:
        case ThinkingEnabled(display=display) | ThinkingAdaptive(display=display):
            return display != "omitted"
        case _:
            return True


def _sampling(request: CountRequest) -> dict[str, Any]:
    if not isinstance(request, MessagesRequest):
        return {}
    return {
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_k": request.top_k,
        "top_p": request.top_p,
        "stop": tuple(request.stop_sequences or ()),
    }


class Messages:
    """The endpoints."""

    def __init__(self, parts: Parts) -> None:
        self._service = parts.service

    async def create(self, exchange: Exchange) -> None:
        request = _CREATE.read(exchange.body)
        asked = Asked(request)
        writer = Writer(
            f"msg_{exchange.id}",
            request.model,
            max_tokens=request.max_tokens,
            shows_thinking=_shows_thinking(request),
        )
        announced = Announced(self._service, exchange.began)
        stream = announced.stream(asked.generate, exchange.caller, request_id=exchange.id)
        with renamed(asked.path):
            async with stream as outputs:
                if request.stream:
                    return await send_events(exchange, _events(outputs, writer), "anthropic")
                async for output in outputs:
                    writer.take(output)
        await send_json(exchange.send, writer.reply)

    async def count(self, exchange: Exchange) -> None:
        asked = Asked(_COUNT.read(exchange.body))
        with renamed(asked.path):
            prepared = await self._service.prepare(asked.generate)
        await send_json(exchange.send, TokenCount(len(prepared.prompt)))


async def _events(outputs: AsyncIterator[Output], writer: Writer) -> AsyncGenerator[bytes, None]:
    async for output in outputs:
        for each in writer.events(output):
            yield event(each, str(each.__struct_config__.tag))


def routes(parts: Parts) -> list[ApiRoute]:
    messages = Messages(parts)
    example = {"model": "MODEL", "messages": [{"role": "user", "content": "Hello!"}]}
    create = Described(
        "Answer a conversation, as Anthropic's API does",
        "Anthropic",
        body=MessagesRequest,
        reply=Reply,
        event=Event,
        example=example | {"max_tokens": 64},
    )
    count = Described(
        "Count the tokens of a conversation",
        "Anthropic",
        body=CountRequest,
        reply=TokenCount,
        example=example,
    )
    return [
        route
        for at in PREFIXES
        for route in (
            post(f"{at}/messages", messages.create, create),
            post(f"{at}/messages/count_tokens", messages.count, count),
        )
    ]
