"""Adapters over HTTP: `/v1/adapters`, vLLM's routes and DeepInfra's, and replies that name them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from inferd.sources import PathPolicy
from tests.web.adapter_folders import write_adapter
from tests.web.site_under_test import NOW, Site

GENERATION = "x-inferd-adapter"


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as running:
        yield running


@pytest.fixture
def http(site: Site) -> httpx.Client:
    return site.http


@pytest.fixture
def a(tmp_path: Path) -> str:
    return write_adapter(tmp_path / "a", "A")


@pytest.fixture
def b(tmp_path: Path) -> str:
    return write_adapter(tmp_path / "b", "B")


def ok(reply: httpx.Response, status: int = 200) -> Any:
    assert reply.status_code == status, reply.text
    return reply.json()


def load(http: httpx.Client, name: str, source: str, **more: Any) -> Any:
    return ok(http.post("/v1/adapters", json={"name": name, "source": source, **more}))


def complete(http: httpx.Client, model: str, **more: Any) -> httpx.Response:
    body = {"model": model, "prompt": "xyz", "max_tokens": 3, **more}
    return http.post("/v1/completions", json=body)


def says(http: httpx.Client, model: str) -> str:
    return str(ok(complete(http, model))["choices"][0]["text"])


# ---------------------------------------------------------------- /v1/adapters


def test_an_adapter_answers_under_its_name(http: httpx.Client, a: str) -> None:
    status = load(http, "pirate", a)
    assert status["state"] == "active"
    assert status["base"] == "echo"
    assert status["source"] == a
    assert status["created"] == int(NOW)
    assert (says(http, "pirate"), says(http, "echo")) == ("AAA", "xyz")
    assert ok(http.get("/v1/adapters/pirate"))["served"] == {status["generation"]: 1}
    assert [each["name"] for each in ok(http.get("/v1/adapters"))["data"]] == ["pirate"]
    assert ok(http.get("/v1/adapters?base=another"))["data"] == []


def test_names_may_hold_slashes(http: httpx.Client, a: str, b: str) -> None:
    load(http, "me/pirate", a)
    ok(http.post("/v1/adapters/me/pirate/swap", json={"source": b}))
    assert says(http, "me/pirate") == "BBB"
    ok(http.delete("/v1/adapters/me/pirate"))
    assert http.get("/v1/adapters/me/pirate").status_code == 404


def test_a_generation_can_be_asked_for(http: httpx.Client, a: str, b: str) -> None:
    old = load(http, "pirate", a)["generation"]
    ok(http.post("/v1/adapters/pirate/swap", json={"source": b}))
    assert (says(http, "pirate"), says(http, f"pirate:{old[:8]}")) == ("BBB", "AAA")


def test_swap_and_rollback(http: httpx.Client, a: str, b: str) -> None:
    old = load(http, "pirate", a)["generation"]
    new = ok(http.post("/v1/adapters/pirate/swap", json={"source": b}))["generation"]
    assert new != old
    back = ok(http.post("/v1/adapters/pirate/rollback"))
    assert back["generation"] == old
    assert says(http, "pirate") == "AAA"
    again = ok(http.post(f"/v1/adapters/pirate/rollback?to={new[:10]}"))
    assert again["generation"] == new


def test_a_canary_answers_its_share_until_it_is_promoted(
    http: httpx.Client, a: str, b: str
) -> None:
    load(http, "pirate", a)
    body = {"source": b, "percent": 50}
    trial = ok(http.post("/v1/adapters/pirate/canary", json=body))["canary"]
    assert trial["percent"] == 50
    assert sorted(says(http, "pirate") for _ in range(4)) == ["AAA", "AAA", "BBB", "BBB"]
    promoted = ok(http.post("/v1/adapters/pirate/promote"))
    assert (promoted["generation"], promoted["canary"]) == (trial["generation"], None)
    assert says(http, "pirate") == "BBB"


def test_a_shadow_changes_no_reply(http: httpx.Client, a: str, b: str) -> None:
    load(http, "pirate", a)
    body = {"source": b, "percent": 25}
    assert ok(http.post("/v1/adapters/pirate/shadow", json=body))["shadow"]["percent"] == 25
    assert {says(http, "pirate") for _ in range(4)} == {"AAA"}
    assert ok(http.post("/v1/adapters/pirate/stop_trial"))["shadow"] is None


def test_an_unload_drains_in_sight(a: str) -> None:
    with Site("delay=0.01") as site:
        load(site.http, "pirate", a)
        body = {"model": "pirate", "prompt": "x", "max_tokens": 2000, "stream": True}
        with site.http.stream("POST", "/v1/completions", json=body) as reply:
            lines = reply.iter_lines()
            next(lines)
            left = ok(site.http.delete("/v1/adapters/pirate"), 202)
            assert (left["state"], left["in_flight"]) == ("draining", 1)
            assert complete(site.http, "pirate").status_code == 404
            assert "pirate" not in site.http.get("/v1/models").text
            ended = site.http.delete("/v1/adapters/pirate?deadline=0&wait=true")
            assert ok(ended) == {"name": "pirate", "state": "unloaded"}
            assert "adapter_unloaded" in "".join(lines)
        assert ok(site.http.get("/v1/adapters"))["data"] == []


@pytest.mark.parametrize("query", ["deadline=soon", "deadline=-1", "deadline=nan", "wait=perhaps"])
def test_a_wrong_query_is_named(http: httpx.Client, query: str) -> None:
    error = ok(http.delete(f"/v1/adapters/pirate?{query}"), 400)["error"]
    assert error["param"] == query.partition("=")[0]


def test_a_name_that_is_taken(http: httpx.Client, a: str, b: str) -> None:
    load(http, "pirate", a)
    load(http, "pirate", a)  # what it is already
    taken = http.post("/v1/adapters", json={"name": "pirate", "source": b})
    assert ok(taken, 409)["error"]["code"] == "conflict"
    model = http.post("/v1/adapters", json={"name": "echo", "source": a})
    assert "already called `echo`" in ok(model, 409)["error"]["message"]
    load(http, "pirate", b, replace=True)
    assert says(http, "pirate") == "BBB"


def test_what_does_not_fit_is_refused_and_changes_nothing(
    http: httpx.Client, a: str, tmp_path: Path
) -> None:
    load(http, "pirate", a)
    wrong = write_adapter(tmp_path / "wrong", "W", use_dora=True)
    for path, body in [
        ("/v1/adapters", {"name": "other", "source": wrong}),
        ("/v1/adapters/pirate/swap", {"source": wrong}),
        ("/v1/adapters", {"name": "other", "source": str(tmp_path / "nowhere")}),
    ]:
        error = ok(http.post(path, json=body), 400)["error"]
        assert error["param"] == "source"
    assert says(http, "pirate") == "AAA"
    assert [each["name"] for each in ok(http.get("/v1/adapters"))["data"]] == ["pirate"]


def test_paths_that_the_operator_does_not_allow(a: str, tmp_path: Path) -> None:
    with Site(paths=PathPolicy()) as site:
        for path, field, body in [
            ("/v1/adapters", "source", {"name": "n", "source": a}),
            ("/v1/load_lora_adapter", "lora_path", {"lora_name": "n", "lora_path": a}),
        ]:
            error = ok(site.http.post(path, json=body), 403)["error"]
            assert error["param"] == field
            assert "--allow-path" in error["message"]
        body = {"lora_model_name": "n", "hf_model_name": a}
        assert (
            "--allow-path" in ok(site.http.post("/lora-model", json=body), 403)["detail"]["error"]
        )
    with Site(paths=PathPolicy(folders=(tmp_path,))) as site:
        load(site.http, "n", a)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("", {"source": "a/b"}, "name"),
        ("", {"name": "a b", "source": "a/b"}, "name"),
        ("", {"name": "n", "source": "no hub id"}, "source"),
        ("/n/canary", {"source": "a/b", "percent": 0}, "percent"),
        ("/n/canary", {"source": "a/b"}, "percent"),
        ("/n/shadow", {"source": "a/b", "percent": 101}, "percent"),
        ("/n/swap", {"sorce": "a/b"}, "sorce"),
    ],
)
def test_wrong_fields_are_named(
    http: httpx.Client, path: str, body: dict[str, Any], param: str
) -> None:
    assert ok(http.post(f"/v1/adapters{path}", json=body), 400)["error"]["param"] == param


# ------------------------------------------------------------------ vLLM's routes


def test_vllms_clients_load_and_unload(http: httpx.Client, a: str, b: str) -> None:
    at, body = "/v1/load_lora_adapter", {"lora_name": "sql", "lora_path": a}
    loaded = http.post(at, json=body)
    assert (loaded.status_code, loaded.text) == (
        200,
        "Success: LoRA adapter 'sql' added successfully.",
    )
    assert loaded.headers["content-type"] == "text/plain; charset=utf-8"
    assert says(http, "sql") == "AAA"

    taken = ok(http.post(at, json=body | {"lora_path": b}), 400)["error"]
    assert "The lora adapter 'sql' has already been loaded." in taken["message"]
    assert http.post(at, json=body | {"lora_path": b, "load_inplace": True}).status_code == 200
    assert says(http, "sql") == "BBB"

    gone = http.post("/v1/unload_lora_adapter", json={"lora_name": "sql", "lora_int_id": 1})
    assert gone.text == "Success: LoRA adapter 'sql' removed successfully."
    again = http.post("/v1/unload_lora_adapter", json={"lora_name": "sql"})
    assert ok(again, 404)["error"]["message"] == "The lora adapter 'sql' cannot be found."


def test_vllms_names_in_errors(http: httpx.Client, a: str, tmp_path: Path) -> None:
    def error(**body: Any) -> Any:
        return ok(http.post("/v1/load_lora_adapter", json=body), 400)["error"]

    assert error(lora_name="echo", lora_path=a)["param"] == "lora_name"
    assert error(lora_name="n", lora_path=str(tmp_path / "none"))["param"] == "lora_path"
    assert error(lora_name="n")["param"] == "lora_path"
    assert error(lora_name="n", lora_path=a, is_3d_lora_weight=True)["param"] == "is_3d_lora_weight"


# --------------------------------------------------------------- DeepInfra's routes


def test_deepinfras_clients_load_and_unload(http: httpx.Client, a: str) -> None:
    body = {"lora_model_name": "me/lora", "hf_model_name": a, "base_model_name": "echo"}
    made = ok(http.post("/lora-model", json=body))
    assert (made["type"], made["status"], made["task"]) == ("lora", "running", "text-generation")
    assert made["model_name"] == "me/lora"
    assert made["created_at"] == "2023-11-14T22:13:20.000+00:00"
    assert made["config"]["base_model"] == "echo"
    assert made["config"]["weights"] == {"repo": a, "revision": None}
    assert made["instances"] == {"running": 1, "pending": 0}
    at = f"/deploy/{made['deploy_id']}"
    assert ok(http.get(at)) == made
    assert [each for each in ok(http.get("/deploy/list")) if each["type"] == "lora"] == [made]
    assert made not in ok(http.get("/deploy/list?status=failed"))
    (listed,) = ok(http.get("/models/lora/list"))
    assert (listed["model_name"], listed["base_model"]) == ("me/lora", "echo")
    assert listed["deploy_id"] == made["deploy_id"]
    answer = ok(http.post("/v1/inference/me/lora", json={"input": "x", "max_new_tokens": 2}))
    assert answer["results"][0]["generated_text"] == "AA"
    assert ok(http.delete("/lora-model/me/lora")) == {"deploy_id": made["deploy_id"]}
    assert ok(http.delete("/lora-model/me/lora"), 404)["detail"]["error"]


def test_an_adapter_can_be_deleted_as_a_deployment(http: httpx.Client, a: str) -> None:
    body = b'{"lora_model_name": "me/lora", "hf_model_name": "%s",}' % a.encode()
    made = ok(http.post("/lora-model", content=body))  # the comma is as in DeepInfra's own examples
    gone = {"deploy_id": made["deploy_id"]}
    assert ok(http.delete(f"/deploy/{made['deploy_id']}")) == gone
    assert http.get(f"/deploy/{made['deploy_id']}").status_code == 404
    assert ok(http.get("/v1/adapters"))["data"] == []


def test_deepinfras_errors_name_their_fields(http: httpx.Client, a: str, tmp_path: Path) -> None:
    wrong = write_adapter(tmp_path / "wrong", "W", use_dora=True)
    body = {"lora_model_name": "n", "hf_model_name": wrong}
    (error,) = ok(http.post("/lora-model", json=body), 422)["detail"]
    assert error["loc"] == ["body", "hf_model_name"]
    assert "DoRA" in error["msg"]
    other = body | {"hf_model_name": a, "base_model_name": "none"}
    assert http.post("/lora-model", json=other).status_code == 404


# ------------------------------------------------------------------- catalogues


def test_catalogues_list_adapters_beside_models(http: httpx.Client, a: str) -> None:
    generation = load(http, "pirate", a)["generation"]
    listed = {each["id"]: each for each in ok(http.get("/v1/models"))["data"]}
    assert list(listed) == ["echo", "echo/alias", "pirate"]
    assert (listed["pirate"]["root"], listed["pirate"]["parent"]) == (a, "echo")
    assert listed["echo"]["parent"] is None
    assert listed["pirate"]["max_model_len"] == listed["echo"]["max_model_len"]
    assert ok(http.get("/v1/models/pirate")) == listed["pirate"]
    assert ok(http.get(f"/v1/models/pirate:{generation[:9]}"))["parent"] == "echo"
    assert http.get("/v1/models/pirate:feedbeef").status_code == 404
    assert ok(http.get("/anthropic/v1/models/pirate"))["id"] == "pirate"
    assert [each["model_name"] for each in ok(http.get("/models/list"))] == ["echo", "pirate"]


def test_a_models_page_tells_of_an_adapter(http: httpx.Client, a: str, b: str) -> None:
    old = load(http, "pirate", a)["generation"]
    new = ok(http.post("/v1/adapters/pirate/swap", json={"source": b}))["generation"]
    info = ok(http.get("/models/pirate"))
    assert (info["base_model"], info["version"]) == ("echo", new)
    assert "LoRA adapter of rank 4" in info["description"]
    versions = [each["version"] for each in ok(http.get("/models/pirate/versions"))]
    assert versions == [new, old]
    assert ok(http.post("/tokenize", json={"model": "pirate", "prompt": "ab"}))["count"] == 2


# -------------------------------------------------------------- what replies say


@pytest.mark.parametrize("stream", [False, True])
def test_replies_of_every_dialect_name_the_generation(
    http: httpx.Client, a: str, stream: bool
) -> None:
    generation = load(http, "pirate", a)["generation"]
    chat: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}
    requests: list[tuple[str, dict[str, Any]]] = [
        ("/v1/completions", {"prompt": "x", "max_tokens": 2}),
        ("/v1/completions", {"prompt": ["x", "y"], "max_tokens": 2}),
        ("/v1/chat/completions", chat | {"max_tokens": 2}),
        ("/v1/responses", {"input": "x", "max_output_tokens": 2}),
        ("/anthropic/v1/messages", chat | {"max_tokens": 2}),
        ("/v1/inference/pirate", {"input": "x", "max_new_tokens": 2}),
    ]
    for path, body in requests:
        native = path.startswith("/v1/inference")
        sent = body | {"stream": stream} | ({} if native else {"model": "pirate"})
        reply = http.post(path, json=sent)
        assert reply.status_code == 200, reply.text
        assert reply.headers[GENERATION] == generation, path
    assert GENERATION not in complete(http, "echo").headers


def test_openais_client_lists_and_uses_an_adapter(site: Site, a: str) -> None:
    generation = load(site.http, "pirate", a)["generation"]
    with openai.OpenAI(base_url=f"{site.url}/v1", api_key="none", max_retries=0) as client:
        listed = {model.id: model for model in client.models.list()}
        assert listed["pirate"].model_dump()["parent"] == "echo"
        raw = client.completions.with_raw_response.create(model="pirate", prompt="x", max_tokens=2)
        assert raw.headers[GENERATION] == generation
        assert raw.parse().choices[0].text == "AA"
        site.http.delete("/v1/adapters/pirate?wait=true")
        with pytest.raises(openai.NotFoundError):
            client.completions.create(model="pirate", prompt="x", max_tokens=2)
