"""`/deploy/…` over a live server: models come, answer, change and go."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from inferd.errors import StartError
from inferd.sources import PathPolicy
from tests.deployments.site import COMMIT
from tests.web.hub_of_one import MODEL
from tests.web.site_under_test import Site

DOCUMENTED = """{
    "model_name": "test-model",
    "gpu": "A100-80GB",
    "num_gpus": 1,
    "max_batch_size": 64,
    "hf": {
        "repo": "org/model"
    },
    "settings": {
        "min_instances": 0,
        "max_instances": 1,
    }
}"""


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as running:
        yield running


@pytest.fixture
def http(site: Site) -> httpx.Client:
    return site.http


def body(name: str = "mine", repo: str = MODEL, **fields: Any) -> dict[str, Any]:
    return {"model_name": name, "gpu": "other", "hf": {"repo": repo}, **fields}


def create(site: Site, *args: str, **fields: Any) -> dict[str, Any]:
    """What is replied to a deployment's creation."""
    reply = site.http.post("/deploy/llm", json=body(*args, **fields))
    assert reply.status_code == 200, reply.text
    made: dict[str, Any] = reply.json()
    return made


def until(site: Site, deploy_id: str, *statuses: str) -> dict[str, Any]:
    """The deployment, once it is in one of `statuses`."""
    entry, _ = site.registry.find(f"deploy_id:{deploy_id}")

    async def moved() -> None:
        while entry.state not in statuses:
            await entry.moved()

    site.run(moved())
    found: dict[str, Any] = site.http.get(f"/deploy/{deploy_id}").json()
    return found


def running(site: Site, *args: str, **fields: Any) -> str:
    """The id of a deployment that runs."""
    deploy_id: str = create(site, *args, **fields)["deploy_id"]
    until(site, deploy_id, "running")
    return deploy_id


def complete(http: httpx.Client, model: str) -> httpx.Response:
    asked = {"model": model, "prompt": "abc", "max_tokens": 2}
    return http.post("/v1/completions", json=asked)


# ------------------------------------------------------------ a model's life


def test_the_documented_example(site: Site, http: httpx.Client) -> None:
    """curl calls it a form, its JSON has a comma too many, and it is asked for an A100."""
    form = {"content-type": "application/x-www-form-urlencoded"}
    reply = http.post("/deploy/llm", content=DOCUMENTED, headers=form)
    assert reply.status_code == 200, reply.text
    deploy_id = reply.json()["deploy_id"]
    assert len(deploy_id) == 16
    shown = until(site, deploy_id, "running")
    assert shown == reply.json() | {
        "type": "llm",
        "deploy_id": deploy_id,
        "model_name": "test-model",
        "version": COMMIT,
        "task": "text-generation",
        "status": "running",
        "fail_reason": None,
        "created_at": "2023-11-14T22:13:20.500+00:00",
        "instances": {"running": 1, "pending": 0},
        "config": {
            "gpu": "cpu",
            "num_gpus": 1,
            "max_batch_size": shown["config"]["max_batch_size"],
            "weights": {"repo": MODEL, "revision": None},
        },
        "settings": {"min_instances": 0, "max_instances": 1},
        "progress": None,
    }
    assert complete(http, "test-model").json()["choices"][0]["text"] == "ab"


@pytest.mark.parametrize("form", ["{name}", "{name}:{version}", "deploy_id:{id}"])
def test_how_a_deployment_is_addressed(site: Site, http: httpx.Client, form: str) -> None:
    deploy_id = running(site)
    model = form.format(name="mine", version=COMMIT, id=deploy_id)
    assert complete(http, model).status_code == 200
    native = http.post(f"/v1/inference/deploy/{deploy_id}", json={"input": "abc"})
    assert native.status_code == 200


def test_a_request_waits_for_its_model(site: Site, http: httpx.Client) -> None:
    site.hub.fetching.open.clear()
    made = create(site)
    assert site.hub.fetching.reached.wait(30)
    assert http.get(f"/deploy/{made['deploy_id']}").json()["status"] == "downloading"
    replies: list[httpx.Response] = []
    asked = threading.Thread(target=lambda: replies.append(complete(http, "mine")))
    asked.start()
    site.hub.fetching.open.set()
    asked.join(30)
    assert [each.status_code for each in replies] == [200]


def test_progress_is_told(site: Site, http: httpx.Client) -> None:
    site.hub.fetching.open.clear()
    deploy_id = create(site)["deploy_id"]
    assert site.hub.fetching.reached.wait(30)
    shown = http.get(f"/deploy/{deploy_id}").json()
    assert shown["progress"] == {"stage": "download", "done": 5, "total": 10}


def test_a_failure_says_why(site: Site, http: httpx.Client) -> None:
    deploy_id = create(site, "mine", "org/nothing")["deploy_id"]
    shown = until(site, deploy_id, "failed")
    assert shown["fail_reason"] == "There is no org/nothing Name another."
    assert shown["failure"]["code"] == "not_found"
    assert shown["failure"]["state"] == "downloading"
    assert complete(http, "mine").status_code == 503


def test_a_failed_one_may_be_started_again(site: Site, http: httpx.Client) -> None:
    site.hub.fetching.error = StartError("not_found", "The hub is away")
    deploy_id = create(site)["deploy_id"]
    until(site, deploy_id, "failed")
    site.hub.fetching.error = None
    assert http.post(f"/deploy/{deploy_id}/start").status_code == 200
    assert until(site, deploy_id, "running")["fail_reason"] is None


def test_stop_start_and_delete(site: Site, http: httpx.Client) -> None:
    deploy_id = running(site)
    assert http.post(f"/deploy/{deploy_id}/stop").json()["status"] in ("stopping", "stopped")
    assert until(site, deploy_id, "stopped")["instances"] == {"running": 0, "pending": 0}
    assert complete(http, "mine").status_code == 503
    http.post(f"/deploy/{deploy_id}/start")
    until(site, deploy_id, "running")
    assert complete(http, "mine").status_code == 200
    assert http.delete(f"/deploy/{deploy_id}").json() == {"deploy_id": deploy_id}
    while complete(http, "mine").status_code != 404:
        time.sleep(0.01)
    assert http.get("/deploy/list").json() == []
    assert http.put(f"/deploy/{deploy_id}", json={}).status_code == 404


def test_settings_change(site: Site, http: httpx.Client) -> None:
    deploy_id = running(site)
    asked = '{"settings": {"min_instances": 2, "max_instances": 2,}}'
    reply = http.put(f"/deploy/{deploy_id}", content=asked)
    assert reply.json() == {"deploy_id": deploy_id}
    shown = http.get(f"/deploy/{deploy_id}").json()
    assert shown["settings"] == {"min_instances": 2, "max_instances": 2}
    while http.get(f"/deploy/{deploy_id}").json()["instances"]["running"] < 2:
        time.sleep(0.01)


def test_a_deprecated_model_leads_to_what_replaces_it(site: Site, http: httpx.Client) -> None:
    deploy_id = running(site)
    assert http.put(f"/deploy/{deploy_id}", json={"replaced_by": "echo"}).status_code == 200
    reply = complete(http, "mine")
    assert reply.status_code == 200
    assert reply.headers["x-inferd-served-by"] == "echo"
    shown = http.get("/models/mine").json()
    assert (shown["model_name"], shown["replaced_by"]) == ("mine", "echo")
    assert shown["deprecated"] is True
    http.post(f"/deploy/{deploy_id}/stop")
    until(site, deploy_id, "stopped")
    assert complete(http, "mine").status_code == 200
    assert http.get("/models/mine").json()["replaced_by"] == "echo"
    http.put(f"/deploy/{deploy_id}", json={"replaced_by": ""})
    assert complete(http, "mine").status_code == 503


# ------------------------------------------------------------ ways to create


@pytest.mark.parametrize("path", ["/deploy/hf/", "/deploy/hf"])
def test_deepctls_way(site: Site, http: httpx.Client, path: str) -> None:
    made = http.post(path, json={"model_name": MODEL, "task": "text-generation"}).json()
    assert until(site, made["deploy_id"], "running")["model_name"] == MODEL


def test_deepctls_newer_way(site: Site, http: httpx.Client) -> None:
    asked = {"provider": "huggingface", "model_name": MODEL, "version": COMMIT}
    made = http.post("/v1/deploy", json=asked).json()
    assert until(site, made["deploy_id"], "running")["version"] == COMMIT
    refused = http.post("/v1/deploy", json={"model_name": MODEL})
    assert refused.status_code == 409
    assert MODEL in refused.json()["detail"]["error"]


def test_the_token_goes_to_the_hub_and_nowhere_else(site: Site, http: httpx.Client) -> None:
    asked = body(hf={"repo": MODEL, "revision": "main", "token": "hf_secret"})
    made = http.post("/deploy/llm", json=asked)
    until(site, made.json()["deploy_id"], "running")
    assert site.hub.fetched == [(MODEL, "main", "hf_secret")]
    assert "hf_secret" not in made.text + http.get("/deploy/list").text
    (record,) = site.deployments._records.all().values()
    assert "hf_secret" not in repr(record)


def test_options_of_the_engine(site: Site) -> None:
    deploy_id = running(site, engine={"max_model_len": 512, "max_adapters": 3})
    spec = site.deployments.get(deploy_id).spec
    assert (spec.max_model_len, spec.max_adapters) == (512, 3)


@pytest.mark.parametrize(
    ("change", "loc"),
    [
        ({"model_name": "a b"}, ["model_name"]),
        ({"model_name": "name:version"}, ["model_name"]),
        ({"model_name": ""}, ["model_name"]),
        ({"gpu": "GTX-970"}, ["gpu"]),
        ({"num_gpus": 2}, ["num_gpus"]),
        ({"num_gpus": 9}, ["num_gpus"]),
        ({"max_batch_size": 0}, ["max_batch_size"]),
        ({"max_batch_size": 257}, ["max_batch_size"]),
        ({"hf": None}, ["hf"]),
        ({"base_model": MODEL}, ["hf"]),
        ({"hf": {"repo": ""}}, ["hf", "repo"]),
        ({"hf": {"repo": MODEL, "token": "with\nline"}}, ["hf", "token"]),
        ({"settings": {"min_instances": 3, "max_instances": 2}}, ["settings", "min_instances"]),
        ({"settings": {"max_instances": 0}}, ["settings", "max_instances"]),
        ({"engine": {"nothing": 1}}, ["engine"]),
        ({"container_image": "mine:latest"}, ["container_image"]),
        ({"extra_args": ["--x"]}, ["extra_args"]),
        ({"replaced_by": "mine"}, ["replaced_by"]),
    ],
    ids=str,
)
def test_a_wrong_field_is_named(http: httpx.Client, change: dict[str, Any], loc: list[str]) -> None:
    reply = http.post("/deploy/llm", json=body() | change)
    assert reply.status_code == 422, reply.text
    assert reply.json()["detail"][0]["loc"] == ["body", *loc]
    assert http.get("/deploy/list").json() == []


def test_a_name_that_is_taken(site: Site, http: httpx.Client) -> None:
    for name in ("echo", "echo/alias"):
        reply = http.post("/deploy/llm", json=body(name))
        assert reply.status_code == 409
        assert name in reply.json()["detail"]["error"]


def test_folders_only_where_the_operator_allows_them(tmp_path: Any) -> None:
    with Site(paths=PathPolicy(folders=(tmp_path / "models",))) as site:
        reply = site.http.post("/deploy/llm", json=body("mine", str(tmp_path / "secret")))
        assert reply.status_code == 403
        assert "hf.repo" in reply.json()["detail"]["error"]
        assert create(site, "mine", str(tmp_path / "models" / "one"))


# ------------------------------------------------------------ looking


def test_the_list(site: Site, http: httpx.Client) -> None:
    first = running(site, "first")
    second = running(site, "second")
    http.post(f"/deploy/{second}/stop")
    until(site, second, "stopped")
    for path in ("/deploy/list", "/deploy/list/"):
        assert [each["deploy_id"] for each in http.get(path).json()] == [first, second]
    assert [e["deploy_id"] for e in http.get("/deploy/list?status=running").json()] == [first]
    both = http.get("/deploy/list/?status=stopped,running").json()
    assert [each["model_name"] for each in both] == ["first", "second"]
    wrong = http.get("/deploy/list?status=flying")
    assert wrong.status_code == 422
    assert "flying" in wrong.text


def test_models_that_are_deployed_are_listed(site: Site, http: httpx.Client) -> None:
    running(site)
    for path in ("/models/list", "/models/private/list", "/models/deployment/list"):
        assert [each["model_name"] for each in http.get(path).json()] == ["echo", "mine"]


def test_an_unknown_deployment(http: httpx.Client) -> None:
    for reply in (
        http.get("/deploy/nothing"),
        http.get("/deploy/nothing/stats"),
        http.put("/deploy/nothing", json={"settings": {}}),
        http.delete("/deploy/nothing"),
        http.post("/deploy/nothing/start"),
        http.post("/deploy/nothing/stop"),
    ):
        assert reply.status_code == 404
        assert "nothing" in reply.json()["detail"]["error"]


def test_stats_are_by_the_minute(site: Site, http: httpx.Client) -> None:
    deploy_id = running(site)
    counts = site.tally.of("mine")
    counts.requests, counts.prompt_tokens, counts.completion_tokens = 2, 30, 4
    shown = http.get(f"/deploy/{deploy_id}/stats?from=now-5h&to=now").json()
    assert (shown["end"] - shown["begin"]) == 5 * 3600
    assert shown["total"] == {
        "requests": 2,
        "errors": 0,
        "prompt_tokens": 30,
        "completion_tokens": 4,
    }
    assert [each["requests"] for each in shown["points"]] == [2]
    assert http.get("/deploy/stats?from=now-5h").json() == [shown]
    wrong = http.get(f"/deploy/{deploy_id}/stats?from=yesterday")
    assert wrong.status_code == 422
    assert wrong.json()["detail"][0]["loc"] == ["body", "from"]


def test_what_there_is_to_run_on(http: httpx.Client) -> None:
    gpus = http.get("/deploy/llm/gpu_availability").json()["gpus"]
    assert gpus
    assert gpus[0]["gpu_config"].startswith("1x")
    assert gpus[0]["available"] is gpus[0]["recommended"] is True


@pytest.mark.parametrize(
    ("repo", "name"),
    [
        ("org/Model-1.5@main", "Model-1.5"),
        ("x/echo", "echo-2"),
        ("", "model"),
        ("../..", "model"),
        ("a/b c:ü", "bc"),
    ],
)
def test_a_name_is_suggested(http: httpx.Client, repo: str, name: str) -> None:
    reply = http.get("/deploy/llm/suggest_name", params={"repo": repo})
    assert reply.json() == {"model_name": name}


def test_strangers_deploy_nothing() -> None:
    with Site(keys=["secret"]) as site:
        assert site.http.post("/deploy/llm", json=body()).status_code == 401
        assert site.http.get("/deploy/list").status_code == 401
