"""The OpenAPI 3.1 document of an application, made from its routes and the types they use.

Fields of our own: `x-alias-of` names the operation that is served under this path as well.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from inferd import __version__
from inferd.errors import (
    BusyError,
    ContextTooLong,
    InferdError,
    InvalidRequest,
    NotFound,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from inferd.web.errors import Family, body_of, event_of, family_of, headers_of, status_of
from inferd.web.middleware import OPEN_PATHS
from inferd.web.routes import ApiRoute

_PARAMETER = re.compile(r"\{(\w+)(:path)?\}")
_REFERENCE = "#/components/schemas/{name}"
_EVENTS = "text/event-stream"

_SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}

_ALWAYS = (
    (Unauthorized(""), "No API key, or none that is known"),
    (InferdError(""), "Something broke in the server"),
)
_WITH_A_MODEL = (
    (NotFound(""), "There is no such model"),
    (Unavailable(), "The model is starting, restarting or shutting down"),
)
_WITH_FIELDS = (
    (InvalidRequest(""), "A field is missing, of a wrong type, out of range or not supported"),
)
_WITH_A_BODY = (
    (ContextTooLong(0, 0, 0, ""), "The prompt does not fit the model's context"),
    (TooLarge(""), "The body is too large"),
    (BusyError(), "Too many requests are waiting"),
)


def document(
    routes: Sequence[ApiRoute], *, model: str, needs_key: bool, title: str = "inferd"
) -> dict[str, Any]:
    """The document of the application that serves `routes`.

    Args:
        model: what examples call the model.
        needs_key: whether requests without an API key are refused.
    """
    types = _Types(routes)
    security: list[dict[str, list[str]]] = [{name: []} for name in _SECURITY_SCHEMES]
    paths: dict[str, dict[str, Any]] = {}
    first: dict[object, str] = {}  # the operation by what it means; later ones are its aliases
    for route in routes:
        operation = _operation(route, types, model)
        meaning = (id(route.described), *_PARAMETER.findall(route.path))
        original = first.setdefault(meaning, operation["operationId"])
        if original != operation["operationId"]:
            operation["x-alias-of"] = original
        paths.setdefault(_plain(route.path), {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": __version__},
        "servers": [{"url": "/"}],
        "security": security if needs_key else [*security, {}],
        "tags": [{"name": tag} for tag in _tags(routes)],
        "paths": paths,
        "components": {"schemas": types.components, "securitySchemes": _SECURITY_SCHEMES},
    }


def _tags(routes: Iterable[ApiRoute]) -> list[str]:
    """In the routes' order, but for what only operators ask."""
    tags = dict.fromkeys(route.described.tag for route in routes)
    return sorted(tags, key=lambda tag: tag == "Operation")


class _Types:
    """The JSON schemas of all types that `routes` read and write."""

    def __init__(self, routes: Iterable[ApiRoute]) -> None:
        used = dict.fromkeys(kind for route in routes for kind in _types_of(route))
        written = msgspec.json.schema_components(used, ref_template=_REFERENCE)
        schemas, self.components = _with_short_names(written)
        self._schemas = dict(zip(used, schemas, strict=True))
        for each in self.components.values():
            if "description" in each:  # a docstring
                each["description"] = inspect.cleandoc(each["description"])

    def schema(self, *kinds: Any) -> dict[str, Any]:
        """The schema of a value that is of one of `kinds`."""
        schemas = [self._schemas[kind] for kind in dict.fromkeys(kinds)]
        return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _with_short_names(written: Any) -> Any:
    """`written` with `openai.frames.Usage` for `inferd.web.openai.frames.Usage`: msgspec writes
    modules where a name alone would be ambiguous."""
    return msgspec.json.decode(msgspec.json.encode(written).replace(b"inferd.web.", b""))


def _types_of(route: ApiRoute) -> Iterable[Any]:
    said = route.described
    own = (said.body, said.reply, said.event, *(kind for _, kind in said.also.values()))
    yield from (kind for kind in own if kind is not None)
    for failure in _failures(route):
        yield failure.kind
    if said.event is not None:
        yield _error_event(family_of(route.path))


def _operation(route: ApiRoute, types: _Types, model: str) -> dict[str, Any]:
    said = route.described
    operation: dict[str, Any] = {
        "operationId": _operation_id(route),
        "summary": said.summary,
        "tags": [said.tag],
    }
    if parameters := list(_parameters(route, model)):
        operation["parameters"] = parameters
    if said.body is not None:
        content: dict[str, Any] = {"schema": types.schema(said.body)}
        if said.example is not None:
            content["example"] = _named(said.example, model)
        kinds = ["application/json", *(["multipart/form-data"] if said.forms else [])]
        operation["requestBody"] = {"required": True, "content": dict.fromkeys(kinds, content)}
    operation["responses"] = _responses(route, types)
    if route.path in OPEN_PATHS:
        operation["security"] = []
    return operation


def _operation_id(route: ApiRoute) -> str:
    words = re.findall(r"\w+", _plain(route.path))
    if words and route.path.endswith("/"):
        words.append("slash")
    return "_".join([route.method.lower(), *words])


def _plain(path: str) -> str:
    """`path` without Starlette's converters."""
    return _PARAMETER.sub(r"{\1}", path)


def _parameters(route: ApiRoute, model: str) -> Iterable[dict[str, Any]]:
    for name, slashes in _PARAMETER.findall(route.path):
        parameter = {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "minLength": 1},
        }
        if slashes:
            parameter |= {"description": "May hold slashes", "example": model}
        yield parameter
    for name, meaning in route.described.query.items():
        yield {"name": name, "in": "query", "description": meaning, "schema": {"type": "string"}}


def _named(example: Any, model: str) -> Any:
    """`example` with the model's name where it says `MODEL`."""
    if isinstance(example, dict):
        return {key: _named(value, model) for key, value in example.items()}
    return model if example == "MODEL" else example


def _responses(route: ApiRoute, types: _Types) -> dict[str, Any]:
    said = route.described
    responses = {"200": {"description": said.summary, "content": _content(route, types)}}
    for status, (meaning, kind) in said.also.items():
        content = {"application/json": {"schema": types.schema(kind)}}
        responses[str(status)] = {"description": meaning, "content": content}
    failures = _failures(route)
    for status in sorted({failure.status for failure in failures}):
        same = [failure for failure in failures if failure.status == status]
        responses[str(status)] = _refusal(same, types)
    return responses


def _content(route: ApiRoute, types: _Types) -> dict[str, Any]:
    """What a reply with status 200 holds, by media type."""
    said = route.described
    schema = types.schema(said.reply) if said.reply is not None else {}
    content = {said.media_type: {"schema": schema}}
    if said.event is not None:
        content[_EVENTS] = {"schema": _event(route, types)}
    return content


def _event(route: ApiRoute, types: _Types) -> dict[str, Any]:
    """A server-sent event, as OpenAPI 3.2 tells it: an object of the event's fields."""
    said = route.described
    schema = types.schema(said.event, _error_event(family_of(route.path)))
    data: dict[str, Any] = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": schema,
    }
    if said.closing:
        data = {"anyOf": [data, {"const": said.closing}]}
    fields: dict[str, Any] = {"event": {"type": "string"}, "data": data}
    return {"type": "object", "properties": fields, "required": ["data"]}


@dataclass(frozen=True)
class _Failure:
    status: int
    kind: Any
    meaning: str
    headers: Mapping[str, Any]


def _failures(route: ApiRoute) -> list[_Failure]:
    """How requests to `route` may be refused: what its family of errors makes of each."""
    if route.path in OPEN_PATHS:
        return []
    has_body = route.described.body is not None
    has_model = has_body or bool(_PARAMETER.search(route.path))
    errors = [
        *_ALWAYS,
        *(_WITH_A_MODEL if has_model else ()),
        *(_WITH_FIELDS if route.method in ("POST", "PUT") or route.described.query else ()),
        *(_WITH_A_BODY if has_body else ()),
        *route.described.refusals,
    ]
    family = family_of(route.path)
    return [
        _Failure(status_of(error, family), _kind(error, family), meaning, _headers(error))
        for error, meaning in errors
    ]


def _kind(error: InferdError, family: Family) -> Any:
    return type(body_of(error, family))


def _error_event(family: Family) -> Any:
    return type(event_of(InferdError(""), family))


def _headers(error: InferdError) -> dict[str, Any]:
    return {
        name.decode(): {"schema": {"type": "integer" if name == b"retry-after" else "string"}}
        for name, _ in headers_of(error)
    }


def _refusal(failures: Sequence[_Failure], types: _Types) -> dict[str, Any]:
    """Failures with one status as a response."""
    schema = types.schema(*(failure.kind for failure in failures))
    response: dict[str, Any] = {
        "description": "; ".join(failure.meaning for failure in failures),
        "content": {"application/json": {"schema": schema}},
    }
    if headers := {name: each for f in failures for name, each in f.headers.items()}:
        response["headers"] = headers
    return response
