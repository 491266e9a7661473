"""The HTTP application: which path leads where, and what surrounds them all."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NoReturn

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.routing import Route

from inferd.admission import Admission
from inferd.auth import Auth
from inferd.metrics import Metrics
from inferd.registry import Registry
from inferd.service import Service
from inferd.web.deepinfra import TextGeneration
from inferd.web.errors import NoRoute, WrongMethod
from inferd.web.exchange import Endpoint, Exchange
from inferd.web.health import Health
from inferd.web.middleware import Authenticate, BodyLimit, ErrorBoundary, RequestId
from inferd.web.openai.chat import Chat
from inferd.web.openai.completions import Completions
from inferd.web.openai.models import Models

MAX_BODY_BYTES = 32 * 2**20

Answer = Callable[[Exchange], Coroutine[Any, Any, None]]


def create_app(
    service: Service,
    registry: Registry,
    admission: Admission,
    metrics: Metrics,
    auth: Auth,
    *,
    max_body_bytes: int = MAX_BODY_BYTES,
    cors_origins: Sequence[str] = (),
    now: Callable[[], float] = time.time,
) -> Starlette:
    """The application over these parts.

    Args:
        max_body_bytes: larger bodies get 413.
        cors_origins: web pages that may call from a browser; none by default.
        now: Unix time in seconds.
    """
    middleware = [
        Middleware(RequestId),
        Middleware(ErrorBoundary),
        Middleware(BodyLimit, max_body_bytes),
        Middleware(Authenticate, auth),
    ]
    if cors_origins:
        cors = Middleware(
            CORSMiddleware,
            allow_origins=cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["x-request-id", "retry-after"],
        )
        middleware.insert(0, cors)
    app = Starlette(
        routes=[
            *_openai_routes(Chat(service, now), Completions(service, now), Models(registry)),
            _post("/v1/inference/{model:path}", TextGeneration(service)),
            *_health_routes(Health(registry, admission, metrics)),
        ],
        middleware=middleware,
        exception_handlers={HTTPException: _refuse},
    )
    app.router.redirect_slashes = False  # the redirect's target would come from the Host header
    return app


def _openai_routes(chat: Chat, completions: Completions, models: Models) -> list[Route]:
    routes = []
    for prefix in ("/v1/openai", "/v1"):
        routes += [
            _post(f"{prefix}/chat/completions", chat),
            _post(f"{prefix}/completions", completions),
            _get(f"{prefix}/models", models.list),
            _get(f"{prefix}/models/{{id:path}}", models.get),
        ]
    return routes


def _health_routes(health: Health) -> list[Route]:
    return [
        _get("/health/live", health.live),
        _get("/health/ready", health.ready),
        _get("/health", health.ready),
        _get("/metrics", health.metrics),
        _get("/version", health.version),
    ]


def _post(path: str, answer: Answer) -> Route:
    return Route(path, Endpoint(answer), methods=["POST"])


def _get(path: str, answer: Answer) -> Route:
    return Route(path, Endpoint(answer), methods=["GET"])


async def _refuse(request: Request, error: Exception) -> NoReturn:
    """What the router finds wrong, as our own errors; the boundary answers with them."""
    assert isinstance(error, HTTPException)
    path = request.scope["path"][:200]
    if error.status_code == 405:
        allow = (error.headers or {}).get("Allow", "")
        raise WrongMethod(f"{request.method} is not allowed for {path}", allow)
    raise NoRoute(f"There is nothing at {path}")
