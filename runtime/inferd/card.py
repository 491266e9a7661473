"""What is known of a model that is served, for catalogues of every front end."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct, structs

from inferd.adapters.records import AdapterStatus
from inferd.adapters.table import Adapters
from inferd.engines.base import EngineState
from inferd.errors import NotFound, Unavailable
from inferd.messages import EngineInfo
from inferd.registry import Deployment, Entry, Registry, id_of
from inferd.text.model import TextModel
from inferd.text.sampling import Defaults


class ModelCard(Struct, frozen=True, kw_only=True):
    """Facts about a deployment; None means that nobody knows.

    Args:
        created: Unix time in seconds.
        tags: `chat` (it has a template), `tools` (it can call them), `reasoning` (its thoughts
            are told apart from its answers), `deterministic` (as the engine promises).
        chat_template: Jinja.
        defaults: sampling, for requests that leave it to the model.
        engine: None until the model has loaded for the first time.
        adapter: set where this is an adapter; all that is not said of it is its base's.
        replaced_by: the model that answers in its place; empty: it answers itself.
    """

    name: str
    aliases: tuple[str, ...]
    version: str | None
    deploy_id: str
    created: int
    state: EngineState
    tags: tuple[str, ...]
    chat_template: str | None
    defaults: Defaults
    engine: EngineInfo | None
    adapter: AdapterStatus | None = None
    replaced_by: str = ""

    @property
    def ready(self) -> bool:
        """Whether it takes requests now; what sleeps wakes for them."""
        return self.state in ("ready", "asleep")

    @property
    def context_length(self) -> int | None:
        """Tokens, prompt and output together."""
        return self.engine.max_model_len if self.engine else None

    @property
    def description(self) -> str | None:
        """A sentence of facts, for people."""
        if self.engine is None:
            return None
        weights = f" with {self.engine.quantization} weights" if self.engine.quantization else ""
        promised = ", deterministic" if self.engine.deterministic else ""
        adapted = f"LoRA adapter of rank {self.adapter.rank} for " if self.adapter else ""
        return (
            f"{adapted}{self.engine.architecture} with a context of {self.context_length} tokens, "
            f"in {self.engine.dtype}{weights} on {self.engine.device}{promised}"
        )


class Cards:
    """All that requests may name as their model."""

    def __init__(self, registry: Registry, adapters: Adapters | None) -> None:
        self._registry = registry
        self._adapters = adapters

    def deployments(self) -> list[ModelCard]:
        running = (entry for entry in self._registry.entries() if entry.state == "running")
        return [_entered(each, each.deployment) for each in running if each.deployment]

    def adapters(self) -> list[ModelCard]:
        """Those that requests may use now."""
        if self._adapters is None:
            return []
        bases = {each.name: each for each in self._registry.list()}
        return [
            _adapted(bases[each.base], each)
            for each in self._adapters.list()
            if each.state == "active" and each.base in bases
        ]

    def names(self) -> Iterator[tuple[str, ModelCard]]:
        """Every name that a request may use: the models' first."""
        for name, deployment in self._registry.names():
            yield name, describe(deployment)
        for card in self.adapters():
            yield card.name, card

    def resolve(self, model: str) -> ModelCard:
        """Of what answers for `model`. Raises `NotFound`, `Unavailable`."""
        parsed = self._adapters.parse(model) if self._adapters is not None else None
        if self._adapters is None or parsed is None:
            answering = self._registry.resolve(model)
            entry, _ = self._registry.find(model)
            return _entered(entry, entry.deployment or answering)
        name, version = parsed
        adapter = self._adapters.status(name)
        if not adapter.generation.startswith(version):
            shown = version[:64]
            raise NotFound(f"The adapter `{name}` is not `{shown}` now.", param="model")
        return _adapted(self._registry.resolve(adapter.base), adapter)


def _entered(entry: Entry, deployment: Deployment) -> ModelCard:
    """The card of `entry`, where `deployment` is what it has, or what answers in its place."""
    return structs.replace(
        describe(deployment),
        name=entry.name,
        aliases=entry.aliases,
        deploy_id=entry.deploy_id,
        created=entry.created,
        replaced_by=entry.replaced_by,
    )


def _adapted(base: Deployment, adapter: AdapterStatus) -> ModelCard:
    return structs.replace(
        describe(base),
        name=adapter.name,
        aliases=(),
        version=adapter.generation,
        deploy_id=adapter_id(adapter),
        created=adapter.created,
        adapter=adapter,
    )


def adapter_id(adapter: AdapterStatus) -> str:
    """As a deployment's id; the same whatever the name points to."""
    return id_of(adapter.name, adapter.base)


def describe(deployment: Deployment) -> ModelCard:
    """What is known of `deployment` now."""
    chat, info = deployment.text.chat, _info(deployment)
    return ModelCard(
        name=deployment.name,
        aliases=deployment.aliases,
        version=deployment.version or None,
        deploy_id=deployment.deploy_id,
        created=deployment.created,
        state=deployment.engine.state,
        tags=_tags(deployment.text, info),
        chat_template=chat.source if chat else None,
        defaults=deployment.text.defaults,
        engine=info,
    )


def _tags(text: TextModel, info: EngineInfo | None) -> tuple[str, ...]:
    chat = text.chat
    found = {
        "chat": chat is not None,
        "tools": chat is not None and chat.takes_tools and text.syntax is not None,
        "reasoning": chat is not None and text.thinking is not None,
        "deterministic": info is not None and info.deterministic,
    }
    return tuple(name for name, has in found.items() if has)


def _info(deployment: Deployment) -> EngineInfo | None:
    try:
        return deployment.engine.info
    except Unavailable:
        return None
