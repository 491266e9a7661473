"""The demo model with little memory and a process that dies: nobody's text suffers from others."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator

import anyio
import httpx
import pytest

from tests.daemon.daemons import Daemon

STORY = {"model": "demo", "temperature": 0, "ignore_eos": True}


@pytest.fixture(scope="module")
def cramped() -> Iterator[Daemon]:
    """1024 tokens of KV cache: four sequences of half the context fill it."""
    memory = ("--dtype", "float32", "--kv-cache-bytes", "6MiB")
    options = ("--max-model-len", "512", "--max-batch-size", "16", *memory)
    running = Daemon("--port", "0", *options, env={})
    try:
        yield running
    finally:
        running.close()


async def complete(http: httpx.AsyncClient, prompt: str) -> str:
    reply = await http.post("/v1/completions", json=STORY | {"prompt": prompt, "max_tokens": 120})
    assert reply.status_code == 200, reply.text
    text: str = reply.json()["choices"][0]["text"]
    return text


@pytest.mark.anyio
async def test_preempted_sequences_say_what_they_say_alone(cramped: Daemon) -> None:
    prompts = [f"Once upon a time, a {animal}" for animal in ("cat", "dog", "fox", "owl") * 3]
    prompts = [f"{prompt} number {i}" for i, prompt in enumerate(prompts)]
    together: dict[str, str] = {}
    async with httpx.AsyncClient(base_url=cramped.url, timeout=60) as http:

        async def one(prompt: str) -> None:
            together[prompt] = await complete(http, prompt)

        async with anyio.create_task_group() as group:
            for prompt in prompts:
                group.start_soon(one, prompt)
        metrics = (await http.get("/metrics")).text
        for prompt in prompts[::4]:
            assert await complete(http, prompt) == together[prompt]
    found = re.search(r"^vllm:num_preemptions_total\S* (\S+)$", metrics, re.M)
    assert found
    assert float(found[1]) > 0


@pytest.mark.anyio
async def test_a_killed_model_ends_each_stream_with_an_error_and_comes_back(
    cramped: Daemon,
) -> None:
    body = STORY | {"max_tokens": 400, "stream": True}
    requests = [
        ("/v1/completions", body | {"prompt": ["Once", "upon"]}),
        ("/v1/chat/completions", body | {"messages": [{"role": "user", "content": "Hi"}], "n": 2}),
        ("/v1/inference/demo", {"input": "Once upon a time", "temperature": 0, "stream": True}),
    ]
    last: dict[str, str] = {}
    all_began = anyio.Event()
    async with httpx.AsyncClient(base_url=cramped.url, timeout=60) as http:

        async def read(path: str, json: object) -> None:
            async with http.stream("POST", path, json=json) as response:
                assert response.status_code == 200
                async for line in response.aiter_lines():
                    last[path] = line or last[path]
                    if len(last) == len(requests):
                        all_began.set()

        [child] = cramped.children
        async with anyio.create_task_group() as group:
            for path, json in requests:
                group.start_soon(read, path, json)
            await all_began.wait()
            os.kill(child, signal.SIGKILL)
        assert [path for path, line in last.items() if "engine_dead" not in line] == []
        refused = await http.post("/v1/completions", json=STORY | {"prompt": "a"})
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        for _ in range(1800):  # a minute and a half: a start takes long on a busy machine
            if (await http.get("/health/ready")).status_code == 200:
                break
            await anyio.sleep(0.05)
        assert await complete(http, "Once upon a time")
    assert cramped.children not in ([], [child])
