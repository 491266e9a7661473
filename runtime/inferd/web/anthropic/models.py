"""`GET /anthropic/v1/models` and `GET /anthropic/v1/models/{id}`, in Anthropic's shape."""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec import Struct

from inferd.card import Cards, ModelCard
from inferd.web.exchange import Exchange
from inferd.web.reply import send_json
from inferd.web.routes import ApiRoute, Described, Parts, get


class ModelInfo(Struct, tag_field="type", tag="model", kw_only=True):
    id: str
    display_name: str
    created_at: str  # RFC 3339
    lifecycle: str = "active"
    max_input_tokens: int | None = None  # null until the model has loaded
    max_tokens: int | None = None


class ModelPage(Struct, kw_only=True):
    """All models: there are never so many that a second page were needed."""

    data: list[ModelInfo]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False


class Models:
    """The endpoints."""

    def __init__(self, cards: Cards) -> None:
        self._cards = cards

    async def list(self, exchange: Exchange) -> None:
        models = [_info(*named) for named in self._cards.names()]
        page = ModelPage(data=models)
        if models:
            page.first_id, page.last_id = models[0].id, models[-1].id
        await send_json(exchange.send, page)

    async def get(self, exchange: Exchange) -> None:
        name = exchange.path_params["id"]
        await send_json(exchange.send, _info(name, self._cards.resolve(name)))


def _info(name: str, card: ModelCard) -> ModelInfo:
    return ModelInfo(
        id=name,
        display_name=card.name,
        created_at=datetime.fromtimestamp(card.created, UTC).isoformat(),
        max_input_tokens=card.context_length,
        max_tokens=card.context_length,
    )


def routes(parts: Parts) -> list[ApiRoute]:
    models = Models(Cards(parts.registry, parts.adapters))
    every = Described("List the models, as Anthropic's API does", "Anthropic", reply=ModelPage)
    one = Described("Describe a model, as Anthropic's API does", "Anthropic", reply=ModelInfo)
    return [
        get("/anthropic/v1/models", models.list, every),
        get("/anthropic/v1/models/{id:path}", models.get, one),
    ]
