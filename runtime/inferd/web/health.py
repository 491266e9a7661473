"""Health, version and metrics: what operators and load balancers ask."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from inferd import __version__
from inferd.web.exchange import Exchange
from inferd.web.reply import send_bytes, send_json
from inferd.web.routes import ApiRoute, Described, Parts, get


class Live(Struct):
    status: Literal["live"] = "live"


class Ready(Struct):
    status: Literal["ready"] = "ready"


class NotReady(Struct):
    reasons: list[str]
    status: Literal["not ready"] = "not ready"


class Version(Struct):
    version: str


class Health:
    """The endpoints."""

    def __init__(self, parts: Parts) -> None:
        self._registry = parts.registry
        self._admission = parts.admission
        self._metrics = parts.metrics

    async def live(self, exchange: Exchange) -> None:
        """200 for as long as the process answers at all."""
        await send_json(exchange.send, Live())

    async def ready(self, exchange: Exchange) -> None:
        """200 while new requests are welcome, else 503 and why not."""
        reasons = self._reasons()
        if not reasons:
            return await send_json(exchange.send, Ready())
        await send_json(exchange.send, NotReady(reasons), 503)

    async def metrics(self, exchange: Exchange) -> None:
        content_type = (b"content-type", self._metrics.content_type.encode())
        await send_bytes(exchange.send, await self._metrics.render(), 200, [content_type])

    async def version(self, exchange: Exchange) -> None:
        await send_json(exchange.send, Version(__version__))

    def _reasons(self) -> list[str]:
        required = [each for each in self._registry.entries() if each.required]
        reasons = [f"{each.name} is {each.obstacle}" for each in required if each.obstacle]
        if not required:
            reasons.append("no model is loaded yet")
        if self._admission.draining:
            reasons.append("the server is shutting down")
        return reasons


def routes(parts: Parts) -> list[ApiRoute]:
    health = Health(parts)
    live = Described("Whether the process answers", "Operation", reply=Live)
    ready = Described(
        "Whether new requests are welcome",
        "Operation",
        reply=Ready,
        also={503: ("They are not, and why", NotReady)},
    )
    metrics = Described("Metrics for Prometheus", "Operation", media_type="text/plain")
    version = Described("The server's version", "Operation", reply=Version)
    return [
        get("/health/live", health.live, live),
        get("/health/ready", health.ready, ready),
        get("/health", health.ready, ready),
        get("/metrics", health.metrics, metrics),
        get("/version", health.version, version),
    ]
