"""`/v1/load_lora_adapter` and `/v1/unload_lora_adapter`, as vLLM's clients know them.

Clients tell by the error's text that a name is taken; vLLM's words are therefore kept there.
"""

from __future__ import annotations

from inferd.adapters.table import Adapters
from inferd.errors import Conflict, Forbidden, InvalidRequest, NotFound, renamed
from inferd.sources import PathPolicy, check_source
from inferd.web.adapters.admin import EXAMPLE, TAG
from inferd.web.adapters.schema import LoadLoraAdapter, UnloadLoraAdapter
from inferd.web.body import Schema
from inferd.web.errors import called
from inferd.web.exchange import Exchange
from inferd.web.fields import neutral
from inferd.web.reply import send_bytes
from inferd.web.routes import ApiRoute, Described, Parts, post

_NAMES = {"name": "lora_name", "source": "lora_path", "base": "base_model_name"}
_LOAD = Schema(LoadLoraAdapter, refused=neutral("is_3d_lora_weight"))
_UNLOAD = Schema(UnloadLoraAdapter)
_TEXT = (b"content-type", b"text/plain; charset=utf-8")


class Loras:
    """The endpoints."""

    def __init__(self, adapters: Adapters, paths: PathPolicy) -> None:
        self._adapters = adapters
        self._paths = paths

    async def load(self, exchange: Exchange) -> None:
        asked = _LOAD.read(exchange.body)
        source = check_source(asked.lora_path, self._paths, param="lora_path")
        try:
            with renamed(called(_NAMES)):
                await self._adapters.load(
                    asked.lora_name,
                    source,
                    base=asked.base_model_name,
                    replace=bool(asked.load_inplace),
                )
        except Conflict as error:
            raise self._taken(asked.lora_name, error) from error
        await _say(exchange, f"Success: LoRA adapter '{asked.lora_name}' added successfully.")

    async def unload(self, exchange: Exchange) -> None:
        """Requests that run with it go on; new ones are refused from here on."""
        asked = _UNLOAD.read(exchange.body)
        try:
            await self._adapters.unload(asked.lora_name)
        except NotFound as error:
            message = f"The lora adapter '{asked.lora_name}' cannot be found."
            raise NotFound(message, param="lora_name") from error
        await _say(exchange, f"Success: LoRA adapter '{asked.lora_name}' removed successfully.")

    def _taken(self, name: str, error: Conflict) -> InvalidRequest:
        """vLLM says 400; its clients retry 409, which cannot help."""
        if self._adapters.find(name) is None:
            return InvalidRequest(error.message, error.param)
        return InvalidRequest(
            f"The lora adapter '{name}' has already been loaded. If you want to load the adapter "
            "in place, set 'load_inplace' to True.",
            "lora_name",
        )


async def _say(exchange: Exchange, text: str) -> None:
    await send_bytes(exchange.send, text.encode(), 200, [_TEXT])


def routes(parts: Parts) -> list[ApiRoute]:
    loras = Loras(parts.adapters, parts.paths)
    load = Described(
        "Load an adapter, as vLLM's API does",
        TAG,
        body=LoadLoraAdapter,
        media_type="text/plain",
        example={"lora_name": "pirate", "lora_path": EXAMPLE},
        refusals=((Forbidden(""), "The operator does not allow this folder"),),
    )
    unload = Described(
        "Unload an adapter, as vLLM's API does",
        TAG,
        body=UnloadLoraAdapter,
        media_type="text/plain",
        example={"lora_name": "pirate"},
    )
    return [
        post("/v1/load_lora_adapter", loras.load, load),
        post("/v1/unload_lora_adapter", loras.unload, unload),
    ]
