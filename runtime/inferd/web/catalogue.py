"""`GET /models/…`: DeepInfra's catalogue of the models that are served."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from inferd.card import Cards, ModelCard
from inferd.errors import NotFound
from inferd.messages import QuantizationLoss
from inferd.web.catalogue_calls import (
    NATIVE,
    Dialect,
    Example,
    Schemas,
    dialects,
    fields_as_text,
)
from inferd.web.deepinfra.schema import InferenceStatus, Result, TextReply
from inferd.web.exchange import Exchange
from inferd.web.reply import send_json
from inferd.web.routes import ApiRoute, Described, Parts, get

TASK = "text-generation"

_SANE_HOST = re.compile(r"[\w.-]+(:\d+)?|\[[0-9a-fA-F:.]+\](:\d+)?", re.ASCII)


class Pricing(Struct):
    """Nothing is charged. deepctl asks for these names."""

    type: str = "tokens"
    cents_per_input_token: float = 0.0
    cents_per_output_token: float = 0.0


class ModelSummary(Struct, kw_only=True):
    """A model that is served. What nobody knows is null: most, until the model has loaded."""

    model_name: str
    aliases: tuple[str, ...]  # further names that requests may use
    type: str = TASK
    reported_type: str = TASK
    description: str | None
    tags: tuple[str, ...]  # what it can do: `chat`, `tools`, `reasoning`
    max_tokens: int | None  # prompt and output together
    version: str | None
    deploy_id: str
    created: int  # Unix time in seconds
    status: str
    base_model: str | None  # of an adapter
    deprecated: bool
    replaced_by: str | None  # the model that answers in its place
    pricing: Pricing = msgspec.field(default_factory=Pricing)


class EngineFacts(Struct, kw_only=True):
    """What runs the model."""

    engine: str
    runner: str
    architecture: str
    dtype: str
    device: str
    vocab_size: int
    max_batch_size: int
    weight_bytes: int
    kv_cache_bytes: int
    quantization: str  # `int8`; empty: weights are in `dtype`
    quantization_loss: QuantizationLoss | None  # null: not measured
    kernels: str  # `avx512bf16`, …: C++ kernels' instructions; `triton 3.6.0`; `reference`: torch
    deterministic: bool  # promised: tokens and logprobs depend on nothing but the request


class SamplingDefaults(Struct, kw_only=True):
    """The model's own, which hold where a dialect has none."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float


class ModelInfo(ModelSummary, kw_only=True):
    """All that is known of a model, and how to call it."""

    context_length: int | None
    chat_template: str | None  # Jinja
    defaults: SamplingDefaults
    engine: EngineFacts | None
    schemas: list[str]  # the variants of `/models/{name}/schema/{variant}`
    examples: list[Example]

    # what deepctl prints
    curl_inv: str
    cmdline_inv: str
    txt_docs: str
    out_example: str
    out_docs: str


class Version(Struct, kw_only=True):
    """A version of a model that requests may ask for."""

    version: str
    deploy_id: str
    created: int  # Unix time in seconds


class Catalogue:
    """The endpoints."""

    def __init__(self, cards: Cards, calls: Mapping[str, Dialect]) -> None:
        self._cards = cards
        self._calls = calls

    async def list(self, exchange: Exchange) -> None:
        await _send(exchange, [*self._cards.deployments(), *self._cards.adapters()])

    async def deployments(self, exchange: Exchange) -> None:
        await _send(exchange, self._cards.deployments())

    async def adapters(self, exchange: Exchange) -> None:
        await _send(exchange, self._cards.adapters())

    async def get(self, exchange: Exchange) -> None:
        card = self._asked(exchange)
        await send_json(exchange.send, self._info(card, _base_url(exchange)))

    async def versions(self, exchange: Exchange) -> None:
        card = self._asked(exchange)
        await send_json(exchange.send, list(_versions(card)))

    async def schemas(self, exchange: Exchange) -> None:
        card = self._asked(exchange)
        calls = {each.variant: each for each in self._of(card)}
        variant = exchange.path_params["variant"]
        if variant not in calls:
            raise NotFound(
                f"The model `{card.name}` has no schema `{variant[:100]}`; it has "
                + ", ".join(f"`{each}`" for each in calls),
                param="variant",
            )
        await send_json(exchange.send, calls[variant].schemas)

    def _asked(self, exchange: Exchange) -> ModelCard:
        name, version = exchange.path_params["name"], exchange.query.get("version")
        return self._cards.resolve(f"{name}:{version}" if version else name)

    def _of(self, card: ModelCard) -> Sequence[Dialect]:
        return [each for each in self._calls.values() if each.serves(card.tags)]

    def _info(self, card: ModelCard, base: str) -> ModelInfo:
        calls = self._of(card)
        examples = [each.example(card.name, base) for each in calls]
        native = self._calls[NATIVE].schemas
        prompt = shlex.quote("input=Once upon a time")
        return ModelInfo(
            **_summary(card),
            context_length=card.context_length,
            chat_template=card.chat_template,
            defaults=msgspec.convert(card.defaults, SamplingDefaults, from_attributes=True),
            engine=_facts(card),
            schemas=[each.variant for each in calls],
            examples=examples,
            curl_inv=next(each.curl for each in examples if each.dialect == NATIVE),
            cmdline_inv=f"deepctl infer -m {shlex.quote(card.name)} -i {prompt}",
            txt_docs=fields_as_text(native.schema_in),
            out_example=_EXAMPLE_REPLY,
            out_docs=fields_as_text(native.schema_out),
        )


async def _send(exchange: Exchange, cards: Sequence[ModelCard]) -> None:
    await send_json(exchange.send, [ModelSummary(**_summary(card)) for card in cards])


_EXAMPLE_REPLY = msgspec.json.format(
    msgspec.json.encode(
        TextReply(
            request_id="R0123456789abcdef01234567",
            inference_status=InferenceStatus(runtime_ms=120, tokens_generated=5, tokens_input=4),
            results=[Result(", there was a girl")],
            num_tokens=5,
            num_input_tokens=4,
        )
    )
).decode()


def _summary(card: ModelCard) -> dict[str, Any]:
    """Arguments of `ModelSummary`."""
    return {
        "model_name": card.name,
        "aliases": card.aliases,
        "description": card.description,
        "tags": card.tags,
        "max_tokens": card.context_length,
        "version": card.version,
        "deploy_id": card.deploy_id,
        "created": card.created,
        "status": card.state,
        "base_model": card.adapter.base if card.adapter else None,
        "deprecated": bool(card.replaced_by),
        "replaced_by": card.replaced_by or None,
    }


def _versions(card: ModelCard) -> Iterator[Version]:
    """That which is served; an adapter's past behind it, newest first."""
    if card.version is not None:
        yield Version(version=card.version, deploy_id=card.deploy_id, created=card.created)
    if card.adapter is not None:
        for past in reversed(card.adapter.previous):
            yield Version(version=past.generation, deploy_id=card.deploy_id, created=past.created)


def _facts(card: ModelCard) -> EngineFacts | None:
    if card.engine is None:
        return None
    return msgspec.convert(card.engine, EngineFacts, from_attributes=True)


def _base_url(exchange: Exchange) -> str:
    """The server as this client reached it, for examples to copy."""
    host = exchange.headers.get("host", "")
    scheme = "https" if exchange.headers.get("x-forwarded-proto") == "https" else "http"
    return f"{scheme}://{host if _SANE_HOST.fullmatch(host) else 'localhost'}"


_ONE = {"version": "a version of the model; the one that is served by default"}


def routes(parts: Parts, others: Sequence[ApiRoute]) -> list[ApiRoute]:
    """`others`: all routes by which models can be called."""
    models = Catalogue(Cards(parts.registry, parts.adapters), dialects(others))
    every = Described("List the models", "Catalogue", reply=list[ModelSummary])
    deployments = Described("List the deployed models", "Catalogue", reply=list[ModelSummary])
    adapters = Described("List the adapters", "Catalogue", reply=list[ModelSummary])
    one = Described("Describe a model", "Catalogue", reply=ModelInfo, query=_ONE)
    versions = Described("List a model's versions", "Catalogue", reply=list[Version])
    schemas = Described(
        "Show the schemas of a way to call a model", "Catalogue", reply=Schemas, query=_ONE
    )
    return [
        get("/models/list", models.list, every),
        get("/models/private/list", models.list, every),
        get("/models/deployment/list", models.deployments, deployments),
        get("/models/lora/list", models.adapters, adapters),
        get("/models/{name:path}/versions", models.versions, versions),
        get("/models/{name:path}/schema/{variant}", models.schemas, schemas),
        get("/models/{name:path}", models.get, one),
    ]
