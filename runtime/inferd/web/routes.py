"""What an API brings to the application: its routes, each with what documentation says of it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct
from starlette.routing import Route

from inferd.adapters.table import Adapters
from inferd.admission import Admission
from inferd.deployments import Deployments
from inferd.errors import InferdError
from inferd.metrics import Metrics
from inferd.planning import Planner
from inferd.registry import Registry
from inferd.service import Service
from inferd.sources import PathPolicy
from inferd.web.exchange import Endpoint, Exchange

OPENAI_PREFIXES = ("/v1", "/v1/openai")
"""Every path of OpenAI's APIs is served under both."""

Answer = Callable[[Exchange], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Parts:
    """What endpoints are made over.

    Args:
        deployments: None: there are no routes to make or change any.
        paths: which folders of the server callers may name.
        now: Unix time in seconds.
        planner: None: there are no routes that tell of memory.
    """

    service: Service
    registry: Registry
    admission: Admission
    metrics: Metrics
    adapters: Adapters
    deployments: Deployments | None
    paths: PathPolicy
    now: Callable[[], float]
    planner: Planner | None = None


@dataclass(frozen=True)
class Described:
    """A route as `/openapi.json` tells it. The types are those that parse and write.

    Args:
        summary: a sentence without its full stop.
        tag: the API it belongs to; the documentation's chapters.
        body: the request's JSON; None where there is none.
        reply: the reply's JSON; None for other media types.
        event: the data of each server-sent event, where `stream: true` is known.
        closing: the data of the last event, where that is not JSON.
        query: the query's parameters and what each means.
        forms: whether the body may come as multipart/form-data, too.
        media_type: of the reply.
        also: further statuses that are no errors of the API's family: meaning and JSON.
        refusals: errors of the family that this route has beyond those that all of its kind
            have, each with what it means.
        example: a body that works, with `MODEL` in the model's place.
    """

    summary: str
    tag: str
    body: type[Struct] | None = None
    reply: Any = None
    event: Any = None
    closing: str = ""
    query: dict[str, str] = field(default_factory=dict)
    forms: bool = False
    media_type: str = "application/json"
    also: dict[int, tuple[str, Any]] = field(default_factory=dict)
    refusals: tuple[tuple[InferdError, str], ...] = ()
    example: dict[str, Any] | None = None


class ApiRoute(Route):
    """A route that can say what it is."""

    def __init__(self, method: str, path: str, answer: Answer, described: Described) -> None:
        super().__init__(path, Endpoint(answer), methods=[method])
        self.method = method
        self.described = described


def post(path: str, answer: Answer, described: Described) -> ApiRoute:
    return ApiRoute("POST", path, answer, described)


def get(path: str, answer: Answer, described: Described) -> ApiRoute:
    return ApiRoute("GET", path, answer, described)


def put(path: str, answer: Answer, described: Described) -> ApiRoute:
    return ApiRoute("PUT", path, answer, described)


def delete(path: str, answer: Answer, described: Described) -> ApiRoute:
    return ApiRoute("DELETE", path, answer, described)
