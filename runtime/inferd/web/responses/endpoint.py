"""`POST /v1/responses`, its tokens' count, and what can be asked about stored ones.

Read `schema` for the request, then this: `asked` is the way in, with `conversation` for the items;
`writer` is the way out, in the types of `events` and `frames`. What is stored is in `store`, and
`listing` shows it page by page.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

import msgspec
from msgspec import Raw, structs

from inferd.announce import Announced
from inferd.errors import InvalidRequest, renamed
from inferd.messages import Output
from inferd.web.body import Schema
from inferd.web.exchange import Exchange
from inferd.web.reply import Ending, event, send_events, send_json
from inferd.web.responses.asked import Asked
from inferd.web.responses.conversation import earlier, items_of, placed
from inferd.web.responses.events import Event
from inferd.web.responses.frames import Deleted, FunctionTool, InputTokens, ItemPage, Response
from inferd.web.responses.listing import page_of
from inferd.web.responses.schema import (
    HARMLESS,
    REFUSED,
    AnyText,
    ItemIn,
    ReasoningConfig,
    ResponsesRequest,
    TextConfig,
)
from inferd.web.responses.store import Store, Stored
from inferd.web.responses.writer import Writer
from inferd.web.routes import OPENAI_PREFIXES, ApiRoute, Described, Parts, get, post

_SCHEMA = Schema(ResponsesRequest, harmless=HARMLESS, refused=REFUSED)
_TAG = "Responses"


class Responses:
    """The endpoints."""

    def __init__(self, parts: Parts) -> None:
        self._service = parts.service
        self._now = parts.now
        self._store = Store()

    async def create(self, exchange: Exchange) -> None:
        request, items, asked = self._read(exchange)

        def keep(response: Response) -> None:
            if response.store:
                entry = _stored(response, items)
                self._store.put(exchange.caller.name, response.id, entry)

        empty = new_response(request, f"resp_{exchange.id}", int(self._now()))
        writer = Writer(empty, self._now, keep)
        announced = Announced(self._service, exchange.began)
        stream = announced.stream(asked.generate, exchange.caller, request_id=exchange.id)
        with renamed(asked.path):
            async with stream as outputs:
                if request.stream:
                    events = _events(outputs, writer)
                    return await send_events(exchange, events, "openai", ending=_ending(writer))
                async for output in outputs:
                    writer.take(output)
        await send_json(exchange.send, writer.response)

    async def count(self, exchange: Exchange) -> None:
        _, _, asked = self._read(exchange)
        with renamed(asked.path):
            prepared = await self._service.prepare(asked.generate)
        await send_json(exchange.send, InputTokens(len(prepared.prompt)))

    async def get(self, exchange: Exchange) -> None:
        if exchange.query.get("stream") == "true":
            raise InvalidRequest("`stream`: a stored response is told whole", "stream")
        await send_json(exchange.send, Raw(self._asked_for(exchange).response))

    async def delete(self, exchange: Exchange) -> None:
        response_id = exchange.path_params["id"]
        self._store.delete(exchange.caller.name, response_id)
        await send_json(exchange.send, Deleted(response_id))

    async def cancel(self, exchange: Exchange) -> None:
        """What is stored has ended, and what runs is cancelled by its client's leaving."""
        self._asked_for(exchange)
        raise InvalidRequest("Only a response made in the background can be cancelled")

    async def input_items(self, exchange: Exchange) -> None:
        items = self._asked_for(exchange).input_items()
        await send_json(exchange.send, page_of(items, exchange.path_params["id"], exchange.query))

    def _read(self, exchange: Exchange) -> tuple[ResponsesRequest, list[ItemIn], Asked]:
        """The request, its own items, and what it asks. Raises InvalidRequest."""
        request = _SCHEMA.read(exchange.body)
        items = self._resolved(exchange, items_of(request))
        asked = Asked(request, self._history(exchange, request) + placed(request, items))
        return request, items, asked

    def _asked_for(self, exchange: Exchange) -> Stored:
        return self._store.get(exchange.caller.name, exchange.path_params["id"])

    def _history(self, exchange: Exchange, request: ResponsesRequest) -> list[tuple[str, ItemIn]]:
        if request.previous_response_id is None:
            return []
        chain = self._store.chain(exchange.caller.name, request.previous_response_id)
        return [
            each
            for stored in chain
            for each in earlier(stored.input_items() + stored.output_items())
        ]

    def _resolved(self, exchange: Exchange, items: list[ItemIn]) -> list[ItemIn]:
        """`items` with the stored ones in place of references to them."""
        wanted = {item.id for item in items if item.type == "item_reference" and item.id}
        found = self._store.find_items(exchange.caller.name, wanted)
        resolved = []
        for i, item in enumerate(items):
            if item.type == "item_reference":
                param = f"input.{i}.id"
                if (stored := found.pop(item.id or "", None)) is None:  # each may come once
                    raise InvalidRequest(f"`{param}`: no such item is stored", param)
                item = stored
            resolved.append(item)
        return resolved


async def _events(outputs: AsyncIterator[Output], writer: Writer) -> AsyncGenerator[bytes, None]:
    async for output in outputs:
        for each in writer.events(output):
            yield _sse(each)


def _ending(writer: Writer) -> Ending:
    return lambda error: b"".join(_sse(each) for each in writer.failure(error))


def _sse(each: Event) -> bytes:
    return event(each, str(each.__struct_config__.tag))


def _stored(response: Response, items: list[ItemIn]) -> Stored:
    encode = msgspec.json.encode
    return Stored(encode(response), encode(items), response.previous_response_id)


def new_response(request: ResponsesRequest, response_id: str, created: int) -> Response:
    """The response before anything was generated."""
    text = request.text or TextConfig()
    return Response(
        id=response_id,
        created_at=created,
        model=request.model,
        instructions=request.instructions,
        previous_response_id=request.previous_response_id,
        max_output_tokens=request.max_output_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        top_logprobs=request.top_logprobs,
        tools=[
            FunctionTool(
                name=tool.name or "",
                description=tool.description,
                parameters=tool.parameters,
                strict=tool.strict,
            )
            for tool in request.tools or ()
        ],
        tool_choice=request.tool_choice or "auto",
        parallel_tool_calls=request.parallel_tool_calls is not False,
        text=structs.replace(text, format=text.format or AnyText()),
        reasoning=request.reasoning or ReasoningConfig(),
        metadata=request.metadata or {},
        prompt_cache_key=request.prompt_cache_key,
        safety_identifier=request.safety_identifier,
        user=request.user,
        store=request.store is not False,
        truncation=request.truncation or "disabled",
    )


def routes(parts: Parts) -> list[ApiRoute]:
    responses = Responses(parts)
    create = Described(
        "Answer items of input",
        _TAG,
        body=ResponsesRequest,
        reply=Response,
        event=Event,
        example={"model": "MODEL", "input": "Hello!"},
    )
    count = Described(
        "Count the tokens of items of input",
        _TAG,
        body=ResponsesRequest,
        reply=InputTokens,
        example={"model": "MODEL", "input": "Hello!"},
    )
    one = Described("Show a stored response", _TAG, reply=Response)
    delete = Described("Forget a stored response", _TAG, reply=Deleted)
    cancel = Described("Refused: no response is made in the background", _TAG, reply=Response)
    items = Described(
        "List what a stored response answered",
        _TAG,
        reply=ItemPage,
        query={
            "limit": "how many items at most, 1 to 100; 20 by default",
            "order": "`desc`, the default, or `asc`",
            "after": "the id of the item before the first one to list",
        },
    )
    return [
        route
        for at in OPENAI_PREFIXES
        for route in (
            post(f"{at}/responses", responses.create, create),
            post(f"{at}/responses/input_tokens", responses.count, count),
            get(f"{at}/responses/{{id}}", responses.get, one),
            ApiRoute("DELETE", f"{at}/responses/{{id}}", responses.delete, delete),
            post(f"{at}/responses/{{id}}/cancel", responses.cancel, cancel),
            get(f"{at}/responses/{{id}}/input_items", responses.input_items, items),
        )
    ]
