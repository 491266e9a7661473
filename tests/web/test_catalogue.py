"""The catalogue of models, and the examples it gives: each of them is run."""

from __future__ import annotations

import itertools
import json
import shlex
import subprocess
import sys
from typing import Any

import httpx
import msgspec
import pytest

from inferd.web.openai.schema import ChatRequest
from tests.web.site_under_test import NOW, TEMPLATE, VERSION, Site

VARIANTS = [
    "default",
    "openai-chat-completions",
    "openai-completions",
    "openai-responses",
    "anthropic-messages",
]


def get(http: httpx.Client, path: str, **headers: str) -> Any:
    reply = http.get(path, headers=headers)
    assert reply.status_code == 200, reply.text
    assert "error" not in reply.json()
    return reply.json()


def test_the_list(site: Site, http: httpx.Client) -> None:
    (model,) = get(http, "/models/list")
    assert model == {
        "model_name": "echo",
        "aliases": ["echo/alias"],
        "type": "text-generation",
        "reported_type": "text-generation",
        "description": "Echo with a context of 4096 tokens, in none on cpu",
        "tags": ["chat", "tools"],
        "max_tokens": 4096,
        "version": VERSION,
        "deploy_id": site.registry.resolve("echo").deploy_id,
        "created": int(NOW),
        "status": "ready",
        "base_model": None,
        "deprecated": False,
        "replaced_by": None,
        "pricing": {
            "type": "tokens",
            "cents_per_input_token": 0.0,
            "cents_per_output_token": 0.0,
        },
    }


@pytest.mark.parametrize("name", ["echo", "echo/alias", "echo%2Falias", f"echo?version={VERSION}"])
def test_a_model(http: httpx.Client, name: str) -> None:
    info = get(http, f"/models/{name}")
    assert info.items() >= get(http, "/models/list")[0].items()
    assert info["context_length"] == 4096
    assert info["chat_template"] == TEMPLATE
    assert info["defaults"]["temperature"] == 1.0
    assert info["engine"]["engine"] == "echo"
    assert info["schemas"] == [each["dialect"] for each in info["examples"]] == VARIANTS


def test_what_deepctl_prints_is_text(http: httpx.Client) -> None:
    info = get(http, "/models/echo")
    names = "type version curl_inv cmdline_inv txt_docs out_example out_docs description"
    assert all(info[name] and isinstance(info[name], str) for name in names.split())
    assert info["pricing"]["type"] == "tokens"
    assert isinstance(info["pricing"]["cents_per_output_token"], float)
    assert "- input (string, required): The prompt" in info["txt_docs"]
    assert "- stop (string or array): Texts that end" in info["txt_docs"]
    assert "- num_tokens (integer, required)" in info["out_docs"]
    assert json.loads(info["out_example"])["results"][0]["generated_text"]


@pytest.mark.parametrize(
    "path",
    ["nothing", "org/nothing", "echo?version=v2", "nothing/versions", "nothing/schema/default"],
)
def test_an_unknown_model(http: httpx.Client, path: str) -> None:
    reply = http.get(f"/models/{path}")
    assert reply.status_code == 404
    assert list(reply.json()["detail"]) == ["error"]


def test_versions(site: Site, http: httpx.Client) -> None:
    deploy_id = site.registry.resolve("echo").deploy_id
    expected = [{"version": VERSION, "deploy_id": deploy_id, "created": int(NOW)}]
    assert get(http, "/models/echo/versions") == expected
    assert get(http, "/models/echo/alias/versions") == expected


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ["echo", "echo/alias"])
def test_schemas(http: httpx.Client, name: str, variant: str) -> None:
    schemas = get(http, f"/models/{name}/schema/{variant}?version={VERSION}")
    assert list(schemas) == ["schema_in", "schema_out", "schema_stream"]
    assert all(schemas.values())


def test_schemas_are_those_that_parse(http: httpx.Client) -> None:
    schema = get(http, "/models/echo/schema/openai-chat-completions")["schema_in"]
    fields = schema["$defs"]["ChatRequest"]["properties"]
    assert list(fields) == list(ChatRequest.__struct_fields__)
    native = get(http, "/models/echo/schema/default")["schema_in"]["$defs"]["TextRequest"]
    assert native["required"] == ["input"]
    limits = native["properties"]["max_new_tokens"]["anyOf"][0]
    assert (limits["minimum"], limits["maximum"]) == (1, 1_000_000)


def test_an_unknown_schema(http: httpx.Client) -> None:
    reply = http.get("/models/echo/schema/openai-tts")
    assert reply.status_code == 404
    assert "`openai-tts`" in reply.json()["detail"]["error"]
    assert "`default`" in reply.json()["detail"]["error"]


def test_every_curl_command_works(http: httpx.Client) -> None:
    for example in get(http, "/models/echo")["examples"]:
        words = shlex.split(example["curl"].replace("\\\n", ""))
        url, *rest = words[1:]
        headers = dict(
            value.split(": ") for flag, value in itertools.pairwise(rest) if flag == "-H"
        )
        reply = http.post(url, content=rest[rest.index("-d") + 1], headers=headers)
        assert reply.status_code == 200, (example["dialect"], reply.text)


def test_every_python_program_works(http: httpx.Client) -> None:
    examples = get(http, "/models/echo")["examples"]
    programs = "\n".join(f"print({e['dialect']!r})\n{e['python']}" for e in examples)
    done = subprocess.run(
        [sys.executable, "-c", programs], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for example in examples:
        assert lines[lines.index(example["dialect"]) + 1]


@pytest.mark.parametrize(
    ("headers", "base"),
    [
        ({"host": "gpu.example:8000"}, "http://gpu.example:8000/"),
        ({"host": "[::1]:8000"}, "http://[::1]:8000/"),
        ({"host": "example.com", "x-forwarded-proto": "https"}, "https://example.com/"),
        ({"host": "a'; reboot; '"}, "http://localhost/"),
    ],
)
def test_examples_name_the_server_as_it_was_reached(
    http: httpx.Client, headers: dict[str, str], base: str
) -> None:
    curl = get(http, "/models/echo", **headers)["curl_inv"]
    assert shlex.split(curl)[1] == f"{base}v1/inference/echo"


def test_openais_list_has_metadata(http: httpx.Client) -> None:
    for path in ("/v1/openai/models?filter=with_meta&sort_by=name", "/v1/models"):
        models = get(http, path)["data"]
        assert [each["id"] for each in models] == ["echo", "echo/alias"]
        assert models[1]["metadata"] == {
            "description": "Echo with a context of 4096 tokens, in none on cpu",
            "context_length": 4096,
            "max_tokens": 4096,
            "pricing": {"input_tokens": 0.0, "output_tokens": 0.0},
            "tags": ["chat", "tools"],
        }
    assert http.get("/v1/models?filter=other").json()["error"]["param"] == "filter"


def test_before_the_model_has_loaded() -> None:
    with Site(start=False) as site:
        info = get(site.http, "/models/echo")
        assert (info["status"], info["engine"], info["max_tokens"]) == ("starting", None, None)
        assert info["description"] is None
        assert get(site.http, "/v1/models")["data"][0]["metadata"] is None
        assert get(site.http, "/v1/models?filter=with_meta")["data"] == []


def test_the_catalogue_is_not_for_strangers() -> None:
    with Site(keys=["secret"]) as site:
        assert site.http.get("/models/list").status_code == 401
        assert site.http.get("/models/list", headers={"x-api-key": "secret"}).status_code == 200


def test_schemas_can_be_read_by_others(http: httpx.Client) -> None:
    for variant in VARIANTS:
        for schema in get(http, f"/models/echo/schema/{variant}").values():
            names = set(schema.get("$defs", {}))
            used = msgspec.json.encode(schema).decode().split('"$ref":"#/$defs/')[1:]
            assert {each.partition('"')[0] for each in used} <= names
