"""The routes that take bodies, as an application has them; new ones are fuzzed by themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import httpx
import msgspec

from inferd.errors import INTERNAL_ERROR, ContextTooLong, InferdError, InvalidRequest
from inferd.web.errors import body_of, family_of
from tests.fuzz.bodies import Sent


class Target(NamedTuple):
    """A route, with its parameters filled in."""

    path: str
    example: Mapping[str, Any]
    names: list[str]


def targets(document: Mapping[str, Any]) -> list[Target]:
    """The routes of an OpenAPI document that take bodies, each under its first path."""
    return [
        Target(_filled(path, methods["post"]), *_body(document, methods["post"]))
        for path, methods in document["paths"].items()
        if "requestBody" in methods.get("post", ()) and "x-alias-of" not in methods["post"]
    ]


def _filled(path: str, operation: Mapping[str, Any]) -> str:
    for each in operation.get("parameters", ()):
        path = path.replace(f"{{{each['name']}}}", each.get("example", "none"))
    return path


def _body(
    document: Mapping[str, Any], operation: Mapping[str, Any]
) -> tuple[Mapping[str, Any], list[str]]:
    body = operation["requestBody"]["content"]["application/json"]
    name = body["schema"]["$ref"].rpartition("/")[2]
    return body["example"], list(document["components"]["schemas"][name]["properties"])


ALLOWED = frozenset({200, 400, 403, 404, 409, 413, 415, 422, 503})  # 503: a deployment that failed


def send(http: httpx.Client, path: str, sent: Sent) -> httpx.Response:
    headers = {"content-type": sent.content_type} if sent.content_type else None
    return http.post(path, content=sent.content, headers=headers)


def check(reply: httpx.Response) -> None:
    """The reply is a proper one: a success, or an error in the words of its route's family."""
    assert reply.status_code in ALLOWED, reply.text
    assert INTERNAL_ERROR not in reply.text
    if reply.status_code != 200:
        kinds = _error_kinds(reply.request.url.path)
        msgspec.convert(reply.json(), kinds[reply.status_code == 422])


def _error_kinds(path: str) -> list[Any]:
    """How an error is written, and an invalid field."""
    family = family_of(path)
    errors: Iterable[InferdError] = (ContextTooLong(1, 1, 1, ""), InvalidRequest(""))
    return [type(body_of(error, family)) for error in errors]
