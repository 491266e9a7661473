"""The HTTP application: which path leads where, and what surrounds them all."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.routing import Match, Route

from inferd.adapters.table import Adapters
from inferd.admission import Admission
from inferd.announce import ADAPTER, SERVED_BY
from inferd.auth import Auth
from inferd.deployments import Deployments
from inferd.metrics import Metrics
from inferd.planning import Planner
from inferd.registry import Registry
from inferd.service import Service
from inferd.sources import PathPolicy
from inferd.web import catalogue, health, plan, utilities
from inferd.web.adapters import admin, lora_model, vllm
from inferd.web.anthropic import messages as anthropic_messages
from inferd.web.anthropic import models as anthropic_models
from inferd.web.deepinfra import text as deepinfra_text
from inferd.web.deploy import endpoints as deploy
from inferd.web.docs import endpoints as documentation
from inferd.web.errors import NoRoute, WrongMethod
from inferd.web.middleware import Authenticate, BodyLimit, ErrorBoundary, RequestId
from inferd.web.openai import chat, completions, models
from inferd.web.responses import endpoint as responses
from inferd.web.routes import Parts

MAX_BODY_BYTES = 32 * 2**20

APIS = (
    chat,
    completions,
    models,
    utilities,
    responses,
    anthropic_messages,
    anthropic_models,
    deepinfra_text,
    admin,
    vllm,
    lora_model,
    deploy,
    plan,
    health,
)
"""Each brings its `routes`; the first that matches a path answers."""


def create_app(
    service: Service,
    registry: Registry,
    admission: Admission,
    metrics: Metrics,
    auth: Auth,
    *,
    adapters: Adapters,
    deployments: Deployments | None = None,
    planner: Planner | None = None,
    paths: PathPolicy = PathPolicy(),  # noqa: B008 (frozen)
    max_body_bytes: int = MAX_BODY_BYTES,
    cors_origins: Sequence[str] = (),
    now: Callable[[], float] = time.time,
) -> Starlette:
    """The application over these parts.

    Args:
        deployments: without, there are no routes that make or change any.
        planner: without, there are no routes that tell of memory.
        paths: which folders of the server callers may name; none by default.
        max_body_bytes: larger bodies get 413.
        cors_origins: web pages that may call from a browser; none by default.
        now: Unix time in seconds.
    """
    parts = Parts(service, registry, admission, metrics, adapters, deployments, paths, now, planner)
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
            expose_headers=["x-request-id", "request-id", "retry-after", ADAPTER, SERVED_BY],
        )
        middleware.insert(0, cors)
    routes = [route for api in APIS for route in api.routes(parts)]
    routes += catalogue.routes(parts, routes)
    app = Starlette(
        routes=[*routes, *documentation.routes(parts, routes, needs_key=auth.needs_key)],
        middleware=middleware,
        exception_handlers={HTTPException: _refuse},
    )
    app.router.redirect_slashes = False  # the redirect's target would come from the Host header
    return app


async def _refuse(request: Request, error: Exception) -> NoReturn:
    """What the router finds wrong, as our own errors; the boundary answers with them."""
    assert isinstance(error, HTTPException)
    path = request.scope["path"][:200]
    if error.status_code == 405:
        raise WrongMethod(f"{request.method} is not allowed for {path}", _allowed(request))
    raise NoRoute(f"There is nothing at {path}")


def _allowed(request: Request) -> str:
    """The methods of the request's path; the router tells those of its first route alone.

    A path that is a route's own, letter by letter, is not the one of a parameter's value.
    """
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    fitting = [each for each in routes if each.matches(request.scope)[0] is not Match.NONE]
    path = min(fitting, key=lambda each: bool(each.param_convertors)).path
    methods = {name for each in routes if each.path == path for name in each.methods or ()}
    return ", ".join(sorted(methods))
