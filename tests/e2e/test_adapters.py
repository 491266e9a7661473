"""Adapters of the demo model in a live daemon, through unmodified clients."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest
import torch
from openai import NotFoundError, OpenAI
from safetensors.torch import load_file, save_file

import inferd.demo
from tests.daemon.daemons import Daemon
from tests.engines.native.adapters.made import write_adapter

PROMPT = "Tell me a story about a cat."
TENSOR = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Adapters by PEFT that change what the demo model says, each its own way."""
    demo, home = Path(inferd.demo.__file__).parent, tmp_path_factory.mktemp("adapters")
    return {
        name: write_adapter(
            demo, home / name, seed=seed, std=0.4, r=8, target_modules=["q_proj", "up_proj"]
        )
        for seed, name in enumerate(("one", "two"))
    }


@pytest.fixture
def name(http: httpx.Client) -> Iterator[str]:
    yield "mine"
    http.delete("/v1/adapters/mine?deadline=0&wait=true")


def ok(reply: httpx.Response) -> Any:
    assert reply.status_code == 200, reply.text
    return reply.json()


def load(http: httpx.Client, name: str, source: Path) -> str:
    body = {"name": name, "source": str(source)}
    return str(ok(http.post("/v1/adapters", json=body))["generation"])


def swap(http: httpx.Client, name: str, source: Path) -> str:
    reply = http.post(f"/v1/adapters/{name}/swap", json={"source": str(source)})
    return str(ok(reply)["generation"])


def answer(client: OpenAI, model: str) -> tuple[str, str | None]:
    """A greedy answer and the generation that gave it."""
    raw = client.chat.completions.with_raw_response.create(
        model=model,
        messages=[{"role": "user", "content": PROMPT}],
        temperature=0,
        max_tokens=32,
    )
    return raw.parse().choices[0].message.content or "", raw.headers.get("x-inferd-adapter")


def test_each_generation_answers_as_itself(
    http: httpx.Client, client: OpenAI, made: dict[str, Path], name: str
) -> None:
    bare, none = answer(client, "demo")
    assert none is None
    one = load(http, name, made["one"])
    first = answer(client, name)
    two = swap(http, name, made["two"])
    second = answer(client, name)
    assert (first[1], second[1]) == (one, two)
    assert len({bare, first[0], second[0]}) == 3
    ok(http.post(f"/v1/adapters/{name}/rollback"))
    assert answer(client, name) == first  # nothing stale, though the prompt is cached for both
    assert answer(client, f"{name}:{two[:8]}") == second
    assert answer(client, "demo")[0] == bare


def test_a_stream_keeps_the_generation_that_it_began_with(
    http: httpx.Client, client: OpenAI, made: dict[str, Path], name: str
) -> None:
    load(http, name, made["one"])
    fields: dict[str, Any] = {"prompt": PROMPT, "temperature": 0, "max_tokens": 100}
    fields["extra_body"] = {"ignore_eos": True}
    whole = client.completions.create(model=name, **fields).choices[0].text
    with client.completions.create(model=name, stream=True, **fields) as stream:
        pieces = [next(stream).choices[0].text]
        swap(http, name, made["two"])
        pieces += [each.choices[0].text for each in stream]
    assert "".join(pieces) == whole
    assert client.completions.create(model=name, **fields).choices[0].text != whole


def test_anthropics_client(
    daemon: Daemon, http: httpx.Client, made: dict[str, Path], name: str
) -> None:
    generation = load(http, name, made["one"])
    with anthropic.Anthropic(base_url=f"{daemon.url}/anthropic", api_key="any") as client:
        assert name in [each.id for each in client.models.list()]
        raw = client.messages.with_raw_response.create(
            model=name, max_tokens=8, messages=[{"role": "user", "content": PROMPT}]
        )
    assert raw.headers["x-inferd-adapter"] == generation


def test_a_wrong_tensor_is_named_and_changes_nothing(
    http: httpx.Client, client: OpenAI, made: dict[str, Path], name: str, tmp_path: Path
) -> None:
    load(http, name, made["one"])
    before = answer(client, name)
    wrong = Path(shutil.copytree(made["two"], tmp_path / "wrong"))
    tensors = load_file(wrong / "adapter_model.safetensors")
    tensors[TENSOR][0, 0] = math.inf
    save_file(tensors, wrong / "adapter_model.safetensors")
    error = http.post(f"/v1/adapters/{name}/swap", json={"source": str(wrong)}).json()["error"]
    assert error["param"] == "source"
    assert TENSOR in error["message"]
    tensors[TENSOR] = torch.zeros(8, 3)
    save_file(tensors, wrong / "adapter_model.safetensors")
    body = {"lora_model_name": "other", "hf_model_name": str(wrong)}
    (entry,) = http.post("/lora-model", json=body).json()["detail"]
    assert TENSOR in entry["msg"]
    assert answer(client, name) == before
    with pytest.raises(NotFoundError):
        answer(client, "other")


def test_the_command_line_and_metrics(
    daemon: Daemon, http: httpx.Client, client: OpenAI, made: dict[str, Path], name: str
) -> None:
    def adapters(*args: str) -> str:
        command = [sys.executable, "-m", "inferd", "adapters", *args, "--url", daemon.url]
        done = subprocess.run(
            command, cwd=made["one"].parent, capture_output=True, text=True, check=True
        )
        return done.stdout

    adapters("load", name, "one")
    assert re.search(rf"^{name} +demo +\w{{12}} +active +0 ", adapters("list"), re.M)
    answer(client, name)
    metrics = http.get("/metrics").text
    assert re.search(rf'inferd_adapter_requests_total{{adapter="{name}",.*}} 1\.0', metrics)
    assert 'max_lora="8"' in metrics
    assert adapters("unload", name, "--wait") == f"{name} is unloaded\n"
    assert f'adapter="{name}"' not in http.get("/metrics").text
