"""`/lora-model`, as DeepInfra's clients know it: an adapter is a deployment of the type `lora`."""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec import Struct, field

from inferd.adapters.records import AdapterState, AdapterStatus
from inferd.adapters.table import Adapters
from inferd.card import adapter_id
from inferd.errors import renamed
from inferd.sources import PathPolicy, check_source
from inferd.web.adapters.admin import EXAMPLE, REFUSALS, TAG
from inferd.web.adapters.schema import LoraModel
from inferd.web.body import Schema
from inferd.web.catalogue import TASK
from inferd.web.errors import called
from inferd.web.exchange import Exchange
from inferd.web.reply import send_json
from inferd.web.routes import ApiRoute, Described, Parts, delete, post

_SCHEMA = Schema(LoraModel)
_NAMES = {
    "name": "lora_model_name",
    "source": "hf_model_name",
    "token": "hf_token",
    "base": "base_model_name",
}
_STATUSES: dict[AdapterState, str] = {
    "active": "running",
    "waiting": "initializing",
    "failed": "failed",
    "draining": "stopping",
}


class Instances(Struct):
    """Processes of its own, of which an adapter has none: it runs in its base's."""

    running: int = 0
    pending: int = 0


class LoraConfig(Struct, kw_only=True):
    """What runs."""

    base_model_name: str
    generation: str
    source: str
    revision: str | None
    rank: int


class LoraDeployment(Struct, kw_only=True):
    """DeepInfra's DeploymentOut."""

    deploy_id: str
    model_name: str
    version: str
    status: str
    fail_reason: str | None
    created_at: str  # RFC 3339
    updated_at: str
    config: LoraConfig
    type: str = "lora"
    task: str = TASK
    instances: Instances = field(default_factory=Instances)


class DeletedLora(Struct):
    deploy_id: str


class LoraModels:
    """The endpoints."""

    def __init__(self, adapters: Adapters, paths: PathPolicy) -> None:
        self._adapters = adapters
        self._paths = paths

    async def create(self, exchange: Exchange) -> None:
        asked = _SCHEMA.read(exchange.body)
        source = check_source(asked.hf_model_name, self._paths, param="hf_model_name")
        with renamed(called(_NAMES)):
            status = await self._adapters.load(
                asked.lora_model_name, source, token=asked.hf_token, base=asked.base_model_name
            )
        await send_json(exchange.send, _deployment(status))

    async def delete(self, exchange: Exchange) -> None:
        """Requests that run with it go on; new ones are refused from here on."""
        name = exchange.path_params["name"]
        deploy_id = adapter_id(self._adapters.status(name))
        await self._adapters.unload(name)
        await send_json(exchange.send, DeletedLora(deploy_id))


def _deployment(status: AdapterStatus) -> LoraDeployment:
    return LoraDeployment(
        deploy_id=adapter_id(status),
        model_name=status.name,
        version=status.generation,
        status=_STATUSES[status.state],
        fail_reason=status.error or None,
        created_at=_time(status.created),
        updated_at=_time(status.updated),
        config=LoraConfig(
            base_model_name=status.base,
            generation=status.generation,
            source=status.source,
            revision=status.revision,
            rank=status.rank,
        ),
    )


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def routes(parts: Parts) -> list[ApiRoute]:
    if parts.adapters is None:
        return []
    models = LoraModels(parts.adapters, parts.paths)
    create = Described(
        "Load an adapter, as DeepInfra's API does",
        TAG,
        body=LoraModel,
        reply=LoraDeployment,
        example={"lora_model_name": "pirate", "hf_model_name": EXAMPLE},
        refusals=REFUSALS,
    )
    gone = Described("Unload an adapter, as DeepInfra's API does", TAG, reply=DeletedLora)
    return [
        post("/lora-model", models.create, create),
        delete("/lora-model/{name:path}", models.delete, gone),
    ]
