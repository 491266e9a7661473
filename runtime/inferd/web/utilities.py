"""`POST /tokenize`, `POST /detokenize` in vLLM's shapes, and a preview of what a chat becomes."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Struct, UnsetType

from inferd.card import Cards
from inferd.errors import InvalidRequest, renamed
from inferd.web import bounds
from inferd.web.body import Schema
from inferd.web.bounds import said
from inferd.web.errors import called
from inferd.web.exchange import Exchange
from inferd.web.openai.chat import dialect_names, generate_of
from inferd.web.openai.schema import ChatRequest, MessageIn, Messages
from inferd.web.reply import send_json
from inferd.web.routes import OPENAI_PREFIXES, ApiRoute, Described, Parts, post


class TokenizeRequest(Struct, kw_only=True):
    """A text (`prompt`), or a conversation that the model's template makes one of."""

    model: Annotated[str | None, said("May be left out where one model is served.")] = None
    prompt: str | None = None
    messages: Messages | None = None
    tools: bounds.Tools = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    add_special_tokens: Annotated[
        bool | None, said("By default to a text, not to a conversation.")
    ] = None
    return_token_strs: Annotated[
        bool | None, said("Tell the tokens as the vocabulary writes them, too.")
    ] = None


class TokenizeReply(Struct, kw_only=True):
    count: int
    max_model_len: Annotated[int | None, said("Null until the model has loaded.")]
    tokens: tuple[int, ...]
    token_strs: Annotated[tuple[str, ...] | None, said("As the vocabulary writes them.")] = None


class DetokenizeRequest(Struct, kw_only=True):
    tokens: list[int]
    model: Annotated[str | None, said("May be left out where one model is served.")] = None


class DetokenizeReply(Struct):
    prompt: str


class RenderReply(Struct, kw_only=True):
    """What a chat request would run with."""

    prompt: str
    token_ids: tuple[int, ...]
    max_tokens: int
    grammar: Annotated[
        str | UnsetType, said("What the answer is held to, in llguidance's Lark.")
    ] = UNSET


_TOKENIZE = Schema(TokenizeRequest)
_DETOKENIZE = Schema(DetokenizeRequest)
_CHAT = Schema(ChatRequest)


class Utilities:
    """The endpoints."""

    def __init__(self, parts: Parts) -> None:
        self._service = parts.service
        self._registry = parts.registry
        self._cards = Cards(parts.registry, parts.adapters)

    async def tokenize(self, exchange: Exchange) -> None:
        request = _TOKENIZE.read(exchange.body)
        model = self._model(request.model)
        ids = await self._tokens(request, model)
        reply = TokenizeReply(
            count=len(ids),
            max_model_len=self._cards.resolve(model).context_length,
            tokens=ids,
        )
        if request.return_token_strs:
            reply.token_strs = await self._service.token_strings(model, ids)
        await send_json(exchange.send, reply)

    async def _tokens(self, request: TokenizeRequest, model: str) -> tuple[int, ...]:
        if request.messages is not None:
            chat = _chat_of(request, request.messages, model)
            return (await self._service.prepare(generate_of(chat))).prompt
        if request.prompt is None:
            raise InvalidRequest("`prompt` or `messages` is required", "prompt", kind="missing")
        with renamed(called({"text": "prompt"})):
            return await self._service.tokenize(
                model, request.prompt, add_special_tokens=request.add_special_tokens
            )

    async def detokenize(self, exchange: Exchange) -> None:
        request = _DETOKENIZE.read(exchange.body)
        with renamed(called({"token_ids": "tokens"})):
            text = await self._service.detokenize(self._model(request.model), request.tokens)
        await send_json(exchange.send, DetokenizeReply(text))

    async def render(self, exchange: Exchange) -> None:
        request = _CHAT.read(exchange.body)
        with renamed(called(dialect_names(request))):
            prepared = await self._service.prepare(generate_of(request))
        reply = RenderReply(
            prompt=prepared.prompt_text,
            token_ids=prepared.prompt,
            max_tokens=prepared.max_tokens,
            grammar=prepared.grammar or UNSET,
        )
        await send_json(exchange.send, reply)

    def _model(self, asked: str | None) -> str:
        if asked is not None:
            return asked
        served = self._registry.list()
        if len(served) > 1:
            raise InvalidRequest("`model` is required", "model", kind="missing")
        return served[0].name if served else ""


def _chat_of(request: TokenizeRequest, messages: list[MessageIn], model: str) -> ChatRequest:
    """The chat request whose prompt is wanted."""
    if request.prompt is not None:
        raise InvalidRequest("`prompt` and `messages` exclude each other", "messages")
    return ChatRequest(
        model=model,
        messages=messages,
        tools=request.tools,
        add_generation_prompt=request.add_generation_prompt,
        continue_final_message=request.continue_final_message,
        chat_template_kwargs=request.chat_template_kwargs,
        add_special_tokens=request.add_special_tokens,
    )


def routes(parts: Parts) -> list[ApiRoute]:
    utilities = Utilities(parts)
    tokenize = Described(
        "Turn a text or a conversation into token ids",
        "Utilities",
        body=TokenizeRequest,
        reply=TokenizeReply,
        example={"model": "MODEL", "prompt": "Hello!", "return_token_strs": True},
    )
    detokenize = Described(
        "Turn token ids into text",
        "Utilities",
        body=DetokenizeRequest,
        reply=DetokenizeReply,
        example={"model": "MODEL", "tokens": [1, 2, 3]},
    )
    render = Described(
        "Show the prompt that a conversation becomes",
        "Utilities",
        body=ChatRequest,
        reply=RenderReply,
        example={"model": "MODEL", "messages": [{"role": "user", "content": "Hello!"}]},
    )
    found = [
        post(f"{at}/chat/completions/render", utilities.render, render) for at in OPENAI_PREFIXES
    ]
    for at in ("", *OPENAI_PREFIXES):
        found.append(post(f"{at}/tokenize", utilities.tokenize, tokenize))
        found.append(post(f"{at}/detokenize", utilities.detokenize, detokenize))
    return found
