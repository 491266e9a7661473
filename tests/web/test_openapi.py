"""`/openapi.json`: valid, complete, and true to the types that parse."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from openapi_spec_validator import validate
from starlette.applications import Starlette

from inferd import __version__
from inferd.web.routes import ApiRoute
from tests.web.site_under_test import Site


@pytest.fixture(scope="session")
def document(site: Site) -> Any:
    return site.http.get("/openapi.json").json()


_NAMES_WHAT_IS_NOT_HERE = {"Adapters", "Deployments"}  # folders, repositories, what was made before


def operations(document: Any) -> Iterator[tuple[str, str, Any]]:
    """(method, path, operation)"""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def test_the_document_is_valid(document: Any) -> None:
    validate(document)
    assert document["openapi"] == "3.1.0"
    assert document["info"] == {"title": "inferd", "version": __version__}
    assert document["servers"] == [{"url": "/"}]


def test_every_route_of_the_application_is_told(site: Site, document: Any) -> None:
    served = {
        (route.method, route.path.replace(":path", ""))
        for route in site.app.routes
        if isinstance(route, ApiRoute)
    }
    assert len(served) == len(site.app.routes)
    assert {(method, path) for method, path, _ in operations(document)} == served


def test_operations_have_names_of_their_own(document: Any) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(ids)) == len(ids)
    assert all(id.isidentifier() for id in ids)


def test_a_path_served_twice_is_told_as_an_alias(document: Any) -> None:
    alias = document["paths"]["/v1/openai/chat/completions"]["post"]
    original = document["paths"]["/v1/chat/completions"]["post"]
    assert alias["x-alias-of"] == original["operationId"]
    assert "x-alias-of" not in original


def test_every_tag_is_listed_and_operation_comes_last(document: Any) -> None:
    tags = [tag["name"] for tag in document["tags"]]
    assert {tag for *_, each in operations(document) for tag in each["tags"]} == set(tags)
    assert tags[0] == "Chat"
    assert tags[-1] == "Operation"


def test_every_body_has_an_example(document: Any) -> None:
    for _, path, operation in operations(document):
        if body := operation.get("requestBody"):
            assert "example" in body["content"]["application/json"], path


def test_examples_work_as_they_are(site: Site, document: Any) -> None:
    for method, path, operation in operations(document):
        if _NAMES_WHAT_IS_NOT_HERE.intersection(operation["tags"]):
            continue
        content = operation.get("requestBody", {}).get("content", {})
        for parameter in operation.get("parameters", ()):
            if "example" in parameter:
                path = path.replace(f"{{{parameter['name']}}}", parameter["example"])
        if "{" in path:
            continue
        body = content.get("application/json", {}).get("example")
        reply = site.http.request(method, path, json=body)
        assert reply.status_code == 200, (method, path, reply.text)


def test_a_streaming_operation_tells_its_events(document: Any) -> None:
    reply = document["paths"]["/v1/chat/completions"]["post"]["responses"]["200"]
    assert set(reply["content"]) == {"application/json", "text/event-stream"}
    event = reply["content"]["text/event-stream"]["schema"]
    data, done = event["properties"]["data"]["anyOf"]
    assert done == {"const": "[DONE]"}
    told = data["contentSchema"]["anyOf"]
    assert {each["$ref"].rpartition("/")[2] for each in told} >= {"OpenAIErrorBody"}


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/v1/completions", "400", "OpenAIErrorBody"),
        ("/v1/inference/{model}", "422", "InvalidFields"),
        ("/v1/inference/{model}", "404", "NativeErrorBody"),
    ],
)
def test_each_family_tells_its_own_errors(
    document: Any, path: str, status: str, error: str
) -> None:
    refusal = document["paths"][path]["post"]["responses"][status]
    schema = refusal["content"]["application/json"]["schema"]
    assert schema == {"$ref": f"#/components/schemas/{error}"}


def test_a_busy_server_tells_when_to_come_back(document: Any) -> None:
    refusals = document["paths"]["/v1/completions"]["post"]["responses"]
    assert refusals["429"]["headers"] == {"retry-after": {"schema": {"type": "integer"}}}


def test_keys_are_told_where_they_are_needed() -> None:
    with Site(keys=["secret"]) as site:
        document = site.http.get("/openapi.json").json()
        assert site.http.get("/v1/models").status_code == 401
    assert document["security"] == [{"bearer": []}, {"key": []}]
    assert document["paths"]["/health"]["get"]["security"] == []
    assert "echo" not in str(document["paths"])  # strangers are told no model's name


def test_without_keys_none_is_needed(document: Any) -> None:
    assert {} in document["security"]


def test_the_document_follows_the_models() -> None:
    site = Site()
    assert _model(asyncio.run(_called_directly(site.app))) == "MODEL"
    with site:
        assert _model(site.http.get("/openapi.json").json()) == "echo"


async def _called_directly(app: Starlette) -> Any:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://site") as client:
        return (await client.get("/openapi.json")).json()


def _model(document: Any) -> str:
    body = document["paths"]["/v1/completions"]["post"]["requestBody"]
    return str(body["content"]["application/json"]["example"]["model"])


def test_other_methods_are_refused(http: httpx.Client) -> None:
    assert http.post("/openapi.json").status_code == 405
