"""`GET /v1/models` and `GET /v1/models/{id}`."""

from __future__ import annotations

from msgspec import Struct, field

from inferd.card import Cards, ModelCard
from inferd.errors import InvalidRequest
from inferd.web.exchange import Exchange
from inferd.web.reply import send_json
from inferd.web.routes import OPENAI_PREFIXES, ApiRoute, Described, Parts, get


class Pricing(Struct):
    """Nothing is charged."""

    input_tokens: float = 0.0
    output_tokens: float = 0.0


class Metadata(Struct, kw_only=True):
    """DeepInfra's addition."""

    description: str
    context_length: int  # tokens, prompt and output together
    max_tokens: int  # most output tokens
    pricing: Pricing = field(default_factory=Pricing)
    tags: tuple[str, ...]


class Model(Struct, kw_only=True):
    """A name that requests may use; `root` is the deployment's own name, or where an adapter
    came from. An adapter's `parent` is the model that it adapts."""

    id: str
    created: int  # Unix time in seconds
    root: str
    object: str = "model"
    owned_by: str = "inferd"
    parent: str | None = None
    max_model_len: int | None = None
    metadata: Metadata | None = None  # null until the model has loaded


class ModelList(Struct):
    data: list[Model]
    object: str = "list"


class Models:
    """The endpoints."""

    def __init__(self, cards: Cards) -> None:
        self._cards = cards

    async def list(self, exchange: Exchange) -> None:
        wanted = exchange.query.get("filter", "")
        if wanted not in ("", "with_meta"):
            raise InvalidRequest("The only filter is `with_meta`", "filter")
        models = [_model(*named) for named in self._cards.names()]
        if wanted:
            models = [each for each in models if each.metadata is not None]
        await send_json(exchange.send, ModelList(models))

    async def get(self, exchange: Exchange) -> None:
        name = exchange.path_params["id"]
        await send_json(exchange.send, _model(name, self._cards.resolve(name)))


def _model(name: str, card: ModelCard) -> Model:
    model = Model(id=name, created=card.created, root=card.name)
    if card.adapter is not None:
        model.root, model.parent = card.adapter.source, card.adapter.base
    if card.context_length is not None and card.description is not None:
        model.max_model_len = card.context_length
        model.metadata = Metadata(
            description=card.description,
            context_length=card.context_length,
            max_tokens=card.context_length,
            tags=card.tags,
        )
    return model


_QUERY = {
    "filter": "`with_meta`: only models whose metadata are known",
    "sort_by": "accepted; models come in the order in which they were started",
}


def routes(parts: Parts) -> list[ApiRoute]:
    models = Models(Cards(parts.registry, parts.adapters))
    every = Described("List the models", "Models", reply=ModelList, query=_QUERY)
    one = Described("Describe a model", "Models", reply=Model)
    lists = [get(f"{at}/models", models.list, every) for at in OPENAI_PREFIXES]
    return lists + [get(f"{at}/models/{{id:path}}", models.get, one) for at in OPENAI_PREFIXES]
