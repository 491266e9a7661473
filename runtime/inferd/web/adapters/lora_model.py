"""`/lora-model`, as DeepInfra's clients know it."""

from __future__ import annotations

from inferd.adapters.table import Adapters
from inferd.card import adapter_id
from inferd.errors import renamed
from inferd.registry import Registry
from inferd.sources import PathPolicy, check_source
from inferd.web.adapters.admin import EXAMPLE, REFUSALS, TAG
from inferd.web.adapters.schema import LoraModel
from inferd.web.deepinfra.body import NativeSchema, showing
from inferd.web.deploy.adapters import LoraDeployments
from inferd.web.deploy.schema import DeployId, DeploymentOut
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


class LoraModels:
    """The endpoints."""

    def __init__(self, adapters: Adapters, registry: Registry, paths: PathPolicy) -> None:
        self._adapters = adapters
        self._shown = LoraDeployments(adapters, registry)
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
        await send_json(exchange.send, self._shown.show(status))

    async def delete(self, exchange: Exchange) -> None:
        """Requests that run with it go on; new ones are refused from here on."""
        name = exchange.path_params["name"]
        deploy_id = adapter_id(self._adapters.status(name))
        await self._adapters.unload(name)
        await send_json(exchange.send, DeployId(deploy_id))


def routes(parts: Parts) -> list[ApiRoute]:
    models = LoraModels(parts.adapters, parts.registry, parts.paths)
    create = Described(
        "Load an adapter, as DeepInfra's API does",
        TAG,
        body=LoraModel,
        reply=DeploymentOut,
        example={"lora_model_name": "pirate", "hf_model_name": EXAMPLE},
        refusals=REFUSALS,
    )
    gone = Described("Unload an adapter, as DeepInfra's API does", TAG, reply=DeployId)
    return [
        post("/lora-model", models.create, create),
        delete("/lora-model/{name:path}", models.delete, gone),
    ]
