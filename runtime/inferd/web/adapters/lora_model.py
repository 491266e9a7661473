"""`/lora-model`, as DeepInfra's clients know it: an adapter is a deployment of the type `lora`."""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec import Struct

from inferd.adapters.records import AdapterState, AdapterStatus
from inferd.adapters.table import Adapters
from inferd.card import Cards, ModelCard, adapter_id
from inferd.errors import renamed
from inferd.lifecycle import State
from inferd.registry import Registry
from inferd.sources import PathPolicy, check_source
from inferd.web.adapters.admin import EXAMPLE, REFUSALS, TAG
from inferd.web.adapters.schema import LoraModel
from inferd.web.catalogue import TASK
from inferd.web.deepinfra.body import NativeSchema, showing
from inferd.web.deploy.machine import running_on
from inferd.web.deploy.schema import Config, DeployId, InstanceCounts, ScaleSettings, Weights
from inferd.web.errors import called
from inferd.web.exchange import Exchange
from inferd.web.reply import send_json
from inferd.web.routes import ApiRoute, Described, Parts, delete, post

_SCHEMA = NativeSchema(LoraModel)
_NAMES = {
    "name": "lora_model_name",
    "source": "hf_model_name",
    "token": "hf_token",
    "base": "base_model_name",
}
_STATUSES: dict[AdapterState, State] = {
    "active": "running",
    "waiting": "initializing",
    "failed": "failed",
    "draining": "stopping",
}


class LoraConfig(Config, kw_only=True):
    """What runs."""

    base_model_name: str
    rank: int


class LoraDeployment(Struct, kw_only=True):
    """DeepInfra's DeploymentOut. An adapter runs in its base's instances; `version` is its
    generation."""

    deploy_id: str
    model_name: str
    version: str
    status: State
    fail_reason: str | None
    created_at: str  # RFC 3339
    updated_at: str
    instances: InstanceCounts
    config: LoraConfig
    settings: ScaleSettings
    type: str = "lora"
    task: str = TASK


class LoraModels:
    """The endpoints."""

    def __init__(self, adapters: Adapters, registry: Registry, paths: PathPolicy) -> None:
        self._adapters = adapters
        self._cards = Cards(registry, adapters)
        self._paths = paths

    async def create(self, exchange: Exchange) -> None:
        values = await _SCHEMA.values(exchange)
        with showing(values):
            asked = _SCHEMA.check(values)
            source = check_source(asked.hf_model_name, self._paths, param="hf_model_name")
            with renamed(called(_NAMES)):
                status = await self._adapters.load(
                    asked.lora_model_name, source, token=asked.hf_token, base=asked.base_model_name
                )
        await send_json(exchange.send, _deployment(status, self._cards.resolve(status.name)))

    async def delete(self, exchange: Exchange) -> None:
        """Requests that run with it go on; new ones are refused from here on."""
        name = exchange.path_params["name"]
        deploy_id = adapter_id(self._adapters.status(name))
        await self._adapters.unload(name)
        await send_json(exchange.send, DeployId(deploy_id))


def _deployment(status: AdapterStatus, card: ModelCard) -> LoraDeployment:
    engine = card.engine
    return LoraDeployment(
        deploy_id=adapter_id(status),
        model_name=status.name,
        version=status.generation,
        status=_STATUSES[status.state],
        fail_reason=status.error or None,
        created_at=_time(status.created),
        updated_at=_time(status.updated),
        instances=InstanceCounts(running=int(card.ready), pending=0),
        config=LoraConfig(
            gpu=running_on(engine.device if engine else None),
            num_gpus=1,
            max_batch_size=engine.max_batch_size if engine else None,
            weights=Weights(status.source, status.revision),
            base_model_name=status.base,
            rank=status.rank,
        ),
        settings=ScaleSettings(),
    )


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def routes(parts: Parts) -> list[ApiRoute]:
    if parts.adapters is None:
        return []
    models = LoraModels(parts.adapters, parts.registry, parts.paths)
    create = Described(
        "Load an adapter, as DeepInfra's API does",
        TAG,
        body=LoraModel,
        reply=LoraDeployment,
        example={"lora_model_name": "pirate", "hf_model_name": EXAMPLE},
        refusals=REFUSALS,
    )
    gone = Described("Unload an adapter, as DeepInfra's API does", TAG, reply=DeployId)
    return [
        post("/lora-model", models.create, create),
        delete("/lora-model/{name:path}", models.delete, gone),
    ]
