"""`/v1/adapters`: all that can be done with adapters."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from inferd.adapters.records import AdapterStatus
from inferd.adapters.table import Adapters
from inferd.errors import Conflict, Forbidden, InvalidRequest
from inferd.sources import PathPolicy, check_source
from inferd.web.adapters.schema import AdapterList, Canary, From, Load, Shadow, Unloaded
from inferd.web.body import Schema
from inferd.web.exchange import Exchange
from inferd.web.reply import send_json
from inferd.web.routes import ApiRoute, Described, Parts, delete, get, post

TAG = "Adapters"
EXAMPLE = "/adapters/pirate"
REFUSALS = (
    (Forbidden(""), "The operator does not allow this folder"),
    (Conflict(""), "The name is taken, or in a state that does not allow this"),
)

_LOAD = Schema(Load)
_FROM = Schema(From)
_CANARY = Schema(Canary)
_SHADOW = Schema(Shadow)


class Admin:
    """The endpoints."""

    def __init__(self, adapters: Adapters, paths: PathPolicy) -> None:
        self._adapters = adapters
        self._paths = paths

    async def list(self, exchange: Exchange) -> None:
        base = exchange.query.get("base")
        listed = (each for each in self._adapters.list() if base in (None, each.base))
        await send_json(exchange.send, AdapterList(tuple(listed)))

    async def load(self, exchange: Exchange) -> None:
        asked = _LOAD.read(exchange.body)
        status = await self._adapters.load(
            asked.name, base=asked.base, replace=asked.replace, **self._source(asked)
        )
        await send_json(exchange.send, status)

    async def get(self, exchange: Exchange) -> None:
        await send_json(exchange.send, self._adapters.status(_name(exchange)))

    async def swap(self, exchange: Exchange) -> None:
        asked = _FROM.read(exchange.body)
        status = await self._adapters.swap(_name(exchange), **self._source(asked))
        await send_json(exchange.send, status)

    async def rollback(self, exchange: Exchange) -> None:
        to = exchange.query.get("to")
        await send_json(exchange.send, await self._adapters.rollback(_name(exchange), to))

    async def canary(self, exchange: Exchange) -> None:
        asked = _CANARY.read(exchange.body)
        status = await self._adapters.canary(
            _name(exchange), percent=asked.percent, **self._source(asked)
        )
        await send_json(exchange.send, status)

    async def promote(self, exchange: Exchange) -> None:
        await send_json(exchange.send, await self._adapters.promote(_name(exchange)))

    async def shadow(self, exchange: Exchange) -> None:
        asked = _SHADOW.read(exchange.body)
        status = await self._adapters.shadow(
            _name(exchange), percent=asked.percent, **self._source(asked)
        )
        await send_json(exchange.send, status)

    async def stop_trial(self, exchange: Exchange) -> None:
        await send_json(exchange.send, await self._adapters.stop_trial(_name(exchange)))

    async def unload(self, exchange: Exchange) -> None:
        """202 while requests still run with it, 200 when nothing of it is left."""
        name = _name(exchange)
        left = await self._adapters.unload(
            name, deadline=_deadline(exchange), wait=_flag(exchange, "wait")
        )
        if left is None:
            return await send_json(exchange.send, Unloaded(name))
        await send_json(exchange.send, left, 202)

    def _source(self, asked: From) -> dict[str, Any]:
        """Raises `Forbidden`."""
        source = check_source(asked.source, self._paths, param="source")
        return {"source": source, "revision": asked.revision, "token": asked.token}


def _name(exchange: Exchange) -> str:
    return exchange.path_params["name"]


def _deadline(exchange: Exchange) -> float | None:
    """Raises InvalidRequest."""
    text = exchange.query.get("deadline")
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise InvalidRequest("`deadline` must be a number of seconds, 0 or more", "deadline")
    return seconds


def _flag(exchange: Exchange, name: str) -> bool:
    """Raises InvalidRequest."""
    text = exchange.query.get(name, "false")
    if text not in ("true", "false"):
        raise InvalidRequest(f"`{name}` must be true or false", name)
    return text == "true"


_DRAIN = {
    "deadline": "seconds after which requests that still run with it are ended; without, none are",
    "wait": "`true`: answer when nothing uses it any more",
}


def routes(parts: Parts) -> list[ApiRoute]:
    admin = Admin(parts.adapters, parts.paths)
    every = Described(
        "List the adapters", TAG, reply=AdapterList, query={"base": "only those of this model"}
    )
    one = Described("Show an adapter", TAG, reply=AdapterStatus)
    changed = Described("", TAG, reply=AdapterStatus, refusals=REFUSALS)
    source = {"source": EXAMPLE}

    def described(summary: str, **more: Any) -> Described:
        return replace(changed, summary=summary, **more)

    load = described(
        "Load an adapter", body=Load, example={"name": "pirate", "base": "MODEL"} | source
    )
    swap = described("Replace an adapter by another", body=From, example=source)
    rollback = described(
        "Go back to what an adapter was before",
        query={"to": "a generation of the name's past, or 7 digits or more of its beginning"},
    )
    canary = described(
        "Send some of an adapter's requests to a candidate",
        body=Canary,
        example=source | {"percent": 10},
    )
    promote = described("Let an adapter's canary, or else its shadow, take its place")
    shadow = described(
        "Score some of an adapter's replies with a candidate",
        body=Shadow,
        example=source | {"percent": 10},
    )
    stop_trial = described("End an adapter's canary and shadow")
    unload = described(
        "Unload an adapter",
        reply=Unloaded,
        query=_DRAIN,
        also={202: ("Requests still run with it", AdapterStatus)},
    )
    at, one_at = "/v1/adapters", "/v1/adapters/{name:path}"
    return [
        get(at, admin.list, every),
        post(at, admin.load, load),
        post(f"{one_at}/swap", admin.swap, swap),
        post(f"{one_at}/rollback", admin.rollback, rollback),
        post(f"{one_at}/canary", admin.canary, canary),
        post(f"{one_at}/promote", admin.promote, promote),
        post(f"{one_at}/shadow", admin.shadow, shadow),
        post(f"{one_at}/stop_trial", admin.stop_trial, stop_trial),
        get(one_at, admin.get, one),
        delete(one_at, admin.unload, unload),
    ]
