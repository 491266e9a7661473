"""What surrounds the routes: ids, keys, limits, errors; health, models and metrics."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from inferd.auth import Auth
from inferd.errors import BusyError, EngineError, InvalidRequest, Unauthorized
from inferd.messages import Chunk, Output, ScoredToken, Start, TokenText
from tests.web.site_under_test import NOW, Site

BODY = {"model": "echo", "prompt": "abc", "max_tokens": 2}
KEY = "sk-ünïcode-0123456789"
OPENAI_FAMILY = {"message", "type", "param", "code"}


@pytest.fixture(scope="module")
def locked() -> Iterator[Site]:
    with Site(keys=["other-key", KEY]) as site:
        yield site


def test_every_answer_carries_an_id(http: httpx.Client) -> None:
    first, second = (http.post("/v1/completions", json=BODY) for _ in range(2))
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert first.headers["x-request-id"] in first.json()["id"]
    assert http.get("/nowhere").headers["x-request-id"]


def test_a_sane_client_id_is_echoed_and_an_odd_one_is_not(http: httpx.Client) -> None:
    ask = {"x-request-id": "abc-DEF_123"}
    assert http.get("/version", headers=ask).headers["x-request-id"] == "abc-DEF_123"
    for odd in ("a b", "x" * 65, "é", "a/../b", ""):
        answered = http.get("/version", headers=[(b"x-request-id", odd.encode())])
        assert answered.headers["x-request-id"] != odd


def test_engines_never_see_a_clients_id(http: httpx.Client) -> None:
    ask = {"x-request-id": "same"}
    bodies = [http.post("/v1/completions", json=BODY, headers=ask).json() for _ in range(2)]
    assert bodies[0]["id"] != bodies[1]["id"]


@pytest.mark.parametrize("path", ["/v1/nope", "/v1/openai/chat", "/v1/models/"])
def test_unknown_openai_routes(http: httpx.Client, path: str) -> None:
    reply = http.get(path)
    assert reply.status_code == 404
    assert set(reply.json()["error"]) == OPENAI_FAMILY


@pytest.mark.parametrize("path", ["/nope", "/", "/health/", "/v1/inference/"])
def test_unknown_native_routes(http: httpx.Client, path: str) -> None:
    reply = http.get(path)
    assert reply.status_code in (404, 405)
    assert list(reply.json()["detail"]) == ["error"]


def test_a_wrong_method(http: httpx.Client) -> None:
    reply = http.get("/v1/chat/completions")
    assert (reply.status_code, reply.headers["allow"]) == (405, "POST")
    assert reply.json()["error"]["type"] == "invalid_request_error"
    assert http.delete("/v1/models").status_code == 405
    assert http.options("/deploy/list").headers["allow"] == "GET, HEAD"  # not a deployment "list"
    assert list(http.get("/v1/inference/echo").json()["detail"]) == ["error"]


PROTECTED = [
    ("GET", "/v1/models"),
    ("GET", "/v1/openai/models/echo"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/openai/chat/completions"),
    ("POST", "/v1/inference/echo"),
    ("GET", "/metrics"),
    ("GET", "/version"),
    ("GET", "/nowhere"),
    ("GET", "/health/live/"),
    ("GET", "//health/live"),
    ("GET", "/health/live/../../metrics"),
    ("GET", "/metrics?path=/health/live"),
    ("OPTIONS", "/v1/models"),
]


@pytest.mark.parametrize(("method", "path"), PROTECTED)
def test_without_a_key_nothing_but_health_is_open(locked: Site, method: str, path: str) -> None:
    odd_host = {"host": "x/health/live?"}  # no header decides about the path
    for headers in ({}, odd_host, {"authorization": "Bearer wrong"}, {"x-api-key": ""}):
        reply = locked.http.request(method, path, headers=headers)
        assert reply.status_code == 401
        assert reply.headers["www-authenticate"] == "Bearer"


def test_health_is_open(locked: Site) -> None:
    for path in ("/health/live", "/health/ready", "/health"):
        assert locked.http.get(path).status_code == 200


def test_each_way_to_send_a_key(locked: Site) -> None:
    for headers in (
        {"authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer  {KEY}"},
        {"authorization": "BEARER other-key"},
        {"x-api-key": KEY},
        {"xi-api-key": KEY},
        {"authorization": "Basic abc", "x-api-key": KEY},
    ):
        encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
        assert locked.http.get("/v1/models", headers=encoded).status_code == 200
    basic = [(b"authorization", f"Basic {KEY}".encode())]
    assert locked.http.get("/v1/models", headers=basic).status_code == 401


def test_the_client_raises_its_authentication_error(locked: Site) -> None:
    with (
        OpenAI(base_url=f"{locked.url}/v1", api_key="wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        client.models.list()
    assert caught.value.code == "invalid_api_key"


def test_callers_are_named_without_their_keys() -> None:
    auth = Auth([KEY, "second"])
    first = auth.authenticate([(b"x-api-key", KEY.encode())])
    second = auth.authenticate([(b"authorization", b"Bearer second")])
    assert first.name != second.name
    assert first.name.startswith("key-")
    assert KEY not in first.name
    assert Auth().authenticate([]).name == "anonymous"
    with pytest.raises(Unauthorized, match="Not authenticated"):
        auth.authenticate([])
    with pytest.raises(Unauthorized, match="not valid"):
        auth.authenticate([(b"x-api-key", b"\xff\x00")])
    with pytest.raises(ValueError, match="empty"):
        Auth(["a", " "])


@pytest.mark.parametrize("key", ["ключ".encode(), b"\xff latin"])
def test_keys_are_compared_as_the_bytes_of_the_command_line(key: bytes) -> None:
    auth = Auth([os.fsdecode(key)])
    assert auth.authenticate([(b"authorization", b"BEARER " + key)]).name.startswith("key-")
    with pytest.raises(Unauthorized):
        auth.authenticate([(b"authorization", b"Bearer " + key[:-1])])


def test_large_bodies_are_refused_announced_or_not() -> None:
    with Site(max_body_bytes=1000) as site:
        small = json.dumps(BODY).encode()
        assert site.http.post("/v1/completions", content=small).status_code == 200
        large = b"[" * 2000
        announced = site.http.post("/v1/completions", content=large)
        assert announced.status_code == 413
        assert set(announced.json()["error"]) == OPENAI_FAMILY
        chunked = site.http.post("/v1/inference/echo", content=iter([large[:900], large[900:]]))
        assert chunked.status_code == 413
        assert list(chunked.json()["detail"]) == ["error"]


def test_pages_may_call_only_from_origins_that_are_listed() -> None:
    ask = {"origin": "https://a.example", "access-control-request-method": "POST"}
    with Site(cors_origins=["https://a.example"], keys=["k"]) as site:
        reply = site.http.options("/v1/completions", headers=ask)
        assert reply.headers["access-control-allow-origin"] == "https://a.example"
    with Site() as site:
        reply = site.http.post("/v1/completions", json=BODY, headers=ask)
        assert "access-control-allow-origin" not in reply.headers


def break_service(site: Site, monkeypatch: pytest.MonkeyPatch, *items: Output | Exception) -> None:
    """Let the service of `site` yield or raise these."""

    @asynccontextmanager
    async def stream(*_: object, **__: object) -> AsyncIterator[AsyncIterator[Output]]:
        async def outputs() -> AsyncIterator[Output]:
            for item in items:
                if isinstance(item, Exception):
                    raise item
                yield item

        yield outputs()

    monkeypatch.setattr(site.service, "stream", stream)


SECRET = "secret at 0x7f00"
DEAD_END = InvalidRequest("format: a dead end", "format")
ROUTES: list[tuple[str, dict[str, Any]]] = [
    ("/v1/completions", BODY),
    ("/v1/chat/completions", {"model": "echo", "messages": [{"role": "user", "content": "x"}]}),
    ("/v1/inference/echo", {"input": "x"}),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("path", "body"), ROUTES)
def test_a_bug_is_a_500_that_tells_nothing(
    site: Site,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    path: str,
    body: dict[str, Any],
    stream: bool,
) -> None:
    break_service(site, monkeypatch, RuntimeError(SECRET))
    with caplog.at_level(logging.ERROR, "inferd.web"):
        reply = site.http.post(path, json=body | {"stream": stream})
    assert reply.status_code == 500
    assert SECRET not in reply.text
    assert "Internal server error" in reply.text
    assert SECRET in caplog.text
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("path", "body"), ROUTES)
def test_a_busy_model_says_when_to_come_back(
    site: Site,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    body: dict[str, Any],
    stream: bool,
) -> None:
    break_service(site, monkeypatch, BusyError(retry_after=2.2, log=SECRET))
    reply = site.http.post(path, json=body | {"stream": stream})
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "3")
    message = "Model busy, retry later"
    if "inference" in path:
        assert reply.json() == {"detail": {"error": message}}
    else:
        error = {"type": "invalid_request_error", "param": None, "code": "engine_overloaded"}
        assert reply.json() == {"error": {"message": message} | error}


@pytest.mark.parametrize("fault", [EngineError(log=SECRET), RuntimeError(SECRET), DEAD_END])
@pytest.mark.parametrize(("path", "body"), ROUTES)
def test_an_error_after_the_start_is_the_last_event(
    site: Site,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    body: dict[str, Any],
    fault: Exception,
) -> None:
    token = Chunk(0, "a", (1,), (ScoredToken(TokenText(1, "a", b"a"), -0.5, 1),))
    break_service(site, monkeypatch, Start((1,), "x"), token, token, fault)
    reply = site.http.post(path, json=body | {"stream": True})
    assert reply.status_code == 200
    last = json.loads(reply.text.split("\n\n")[-2].removeprefix("data: "))
    if "inference" in path:
        assert set(last) == {"error_type", "error_message"}
    else:
        assert set(last["error"]) == OPENAI_FAMILY
    assert SECRET not in reply.text
    assert "[DONE]" not in reply.text


def test_the_client_raises_on_an_error_event(
    site: Site, client: OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_service(site, monkeypatch, Start((1,), "x"), Chunk(0, "a", (1,)), EngineError())
    stream = client.completions.create(model="echo", prompt="x", stream=True)
    with pytest.raises(openai.APIError, match="The engine failed on this request"):
        list(stream)


def test_too_many_at_once_get_429() -> None:
    with Site("delay=0.02", limit=2) as site:
        reply = site.http.post("/v1/completions", json=BODY | {"n": 2})
        assert reply.status_code == 200
        reply = site.http.post("/v1/completions", json=BODY | {"prompt": ["a", "b", "c"]})
        assert reply.status_code == 429
        assert site.admission.in_flight == 0


def test_models(http: httpx.Client, client: OpenAI) -> None:
    assert [model.id for model in client.models.list().data] == ["echo", "echo/alias"]
    assert client.models.retrieve("echo").owned_by == "inferd"
    card = http.get("/v1/openai/models/echo/alias").json()
    assert card["object"] == "model"
    assert (card["id"], card["root"], card["parent"]) == ("echo/alias", "echo", None)
    assert card["created"] == int(NOW)
    assert card["max_model_len"] == 4096
    assert card["metadata"]["context_length"] == 4096
    assert card["metadata"]["max_tokens"] == 4096
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nope")


def test_version_and_metrics(http: httpx.Client) -> None:
    assert set(http.get("/version").json()) == {"version"}
    http.post("/v1/completions", json=BODY)
    metrics = http.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "vllm:num_requests_running" in metrics.text


def test_a_model_that_is_still_loading() -> None:
    with Site(start=False) as site:
        assert site.http.get("/health/live").status_code == 200
        ready = site.http.get("/health/ready")
        assert ready.status_code == 503
        assert ready.json()["reasons"] == ["echo is starting"]
        reply = site.http.post("/v1/completions", json=BODY)
        assert reply.status_code == 503
        assert reply.json()["error"]["code"] == "model_not_ready"
        assert int(reply.headers["retry-after"]) >= 1
        card = site.http.get("/v1/models/echo").json()
        assert (card["metadata"], card["max_model_len"]) == (None, None)


def test_a_server_that_drains_is_alive_and_not_ready() -> None:
    with Site() as site:
        site.admission.begin_drain()
        assert site.http.get("/health/live").status_code == 200
        ready = site.http.get("/health")
        assert ready.status_code == 503
        assert ready.json()["reasons"] == ["the server is shutting down"]
        assert site.http.post("/v1/completions", json=BODY).status_code == 503
