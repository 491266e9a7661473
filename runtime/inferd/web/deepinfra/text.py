"""`POST /v1/inference/{model}`: DeepInfra's native API, for text generation.

Read `schema` for the request and what comes back, then this; `body` reads JSON and forms alike.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace

from inferd.announce import Announced
from inferd.answer import Answer, collect
from inferd.batch import Numbered, open_streams
from inferd.errors import InvalidRequest, renamed
from inferd.messages import Chunk, Done, Format, Generate, Usage
from inferd.web.bounds import LEAST_LOGPROB, stops_of
from inferd.web.deepinfra.body import NativeSchema, showing
from inferd.web.deepinfra.schema import (
    Details,
    InferenceStatus,
    Result,
    TextReply,
    TextRequest,
    Token,
    TokenEvent,
)
from inferd.web.errors import called
from inferd.web.exchange import Exchange
from inferd.web.formats import FormatFields, format_asked
from inferd.web.reply import event, send_events, send_json
from inferd.web.routes import ApiRoute, Described, Parts, post

DEFAULT_MAX_NEW_TOKENS = 16384  # or what the context leaves, if that is less
_DIALECT_NAMES = {"prompt": "input", "max_tokens": "max_new_tokens", "n": "num_responses"}


_SCHEMA = NativeSchema(TextRequest)


class TextGeneration:
    """The endpoints."""

    def __init__(self, parts: Parts) -> None:
        self._service = parts.service

    async def by_name(self, exchange: Exchange) -> None:
        await self._answer(exchange, exchange.path_params["model"])

    async def by_id(self, exchange: Exchange) -> None:
        await self._answer(exchange, f"deploy_id:{exchange.path_params['deploy_id']}")

    async def _answer(self, exchange: Exchange, model: str) -> None:
        version = exchange.query.get("version")
        values = await _SCHEMA.values(exchange)
        with showing(values):
            request = _SCHEMA.check(values)
            await self._run(exchange, request, f"{model}:{version}" if version else model)

    async def _run(self, exchange: Exchange, request: TextRequest, model: str) -> None:
        generate = generate_of(request, model)
        request_id = f"R{exchange.id}"
        with renamed(called(_DIALECT_NAMES | {"format": _format(request)[0]})):
            announced = Announced(self._service, exchange.began)
            async with open_streams(announced, [generate], exchange.caller, exchange.id) as outputs:
                if request.stream:
                    events = token_events(outputs, request_id)
                    return await send_events(exchange, events, "native")
                answer = await collect(outputs, prompts=1, n=generate.n)
        await send_json(exchange.send, _reply(answer, request_id))


def generate_of(request: TextRequest, model: str) -> Generate:
    """The request in the service's terms. Raises InvalidRequest."""
    if request.webhook:
        raise InvalidRequest("`webhook` is not supported yet: ask without it", "webhook")
    n = 1 if request.num_responses is None else request.num_responses
    if request.stream and n > 1:
        raise InvalidRequest(
            "`num_responses` must be 1 in a stream, whose events do not say which response "
            "they belong to",
            "num_responses",
        )
    asked = request.max_new_tokens
    return Generate(
        model=model,
        prompt=request.input,
        format=_format(request)[1],
        n=n,
        max_tokens=DEFAULT_MAX_NEW_TOKENS if asked is None else asked,
        max_tokens_may_exceed=asked is None,
        temperature=0.7 if request.temperature is None else request.temperature,
        top_p=0.9 if request.top_p is None else request.top_p,
        min_p=request.min_p,
        top_k=request.top_k,
        repetition_penalty=request.repetition_penalty,
        presence_penalty=request.presence_penalty or 0.0,
        frequency_penalty=request.frequency_penalty or 0.0,
        stop=stops_of(request.stop),
        seed=request.seed,
        logprobs=0 if request.stream else None,
    )


def _format(request: TextRequest) -> tuple[str, Format | None]:
    """(where its text stands, the format asked for)."""
    return format_asked(FormatFields(response_format=request.response_format))


def _reply(answer: Answer, request_id: str) -> TextReply:
    usage = answer.usage
    return TextReply(
        request_id=request_id,
        inference_status=InferenceStatus(
            runtime_ms=round(usage.runtime_s * 1000),
            tokens_generated=usage.completion_tokens,
            tokens_input=usage.prompt_tokens,
        ),
        results=[Result(choice.text) for choice in answer.choices],
        num_tokens=usage.completion_tokens,
        num_input_tokens=usage.prompt_tokens,
    )


async def token_events(
    outputs: AsyncIterator[Numbered], request_id: str
) -> AsyncGenerator[bytes, None]:
    """One event per token; each waits for the next, since the last one says more."""
    held: Token | None = None
    parts: list[str] = []
    reason = "stop"
    async for _, output in outputs:
        if isinstance(output, Chunk):
            parts.append(output.text)
            if held is not None and not output.logprobs:
                held.text += output.text  # the rest that was held back brings no token
            for token in _tokens(output):
                if held is not None:
                    yield event(TokenEvent(token=held))
                held = token
        elif isinstance(output, Done):
            reason = output.reason
        elif isinstance(output, Usage):
            last = TokenEvent(
                token=held,
                generated_text="".join(parts),
                details=Details(reason),
                request_id=request_id,
                num_output_tokens=output.completion_tokens,
                num_input_tokens=output.prompt_tokens,
                estimated_cost=0.0,
            )
            yield event(last)


def _tokens(chunk: Chunk) -> list[Token]:
    """The chunk's tokens; its text is on the last of them."""
    tokens = [
        Token(each.token.token_id, "", max(each.logprob, LEAST_LOGPROB), chunk.special)
        for each in chunk.logprobs
    ]
    if tokens:
        tokens[-1].text = chunk.text
    return tokens


_VERSION = {"version": "which version of the model; the one that is served by default"}


def routes(parts: Parts) -> list[ApiRoute]:
    described = Described(
        "Continue a text",
        "Native inference",
        body=TextRequest,
        reply=TextReply,
        event=TokenEvent,
        query=_VERSION,
        forms=True,
        example={"input": "Once upon a time", "max_new_tokens": 32},
    )
    by_id = replace(described, summary="Continue a text, by the model's deployment")
    texts = TextGeneration(parts)
    return [
        post("/v1/inference/deploy/{deploy_id}", texts.by_id, by_id),
        post("/v1/inference/{model:path}", texts.by_name, described),
    ]
