"""A client that goes away takes its work with it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from inferd.web.disconnect import while_connected
from tests.web.site_under_test import Site

ROUTES: list[tuple[str, dict[str, Any]]] = [
    ("/v1/completions", {"prompt": "abc", "max_tokens": 4000}),
    ("/v1/completions", {"prompt": ["abc", "de", "f"], "max_tokens": 4000, "n": 2}),
    (
        "/v1/chat/completions",
        {
            "messages": [{"role": "user", "content": "Hi"}],
            "max_tokens": 4000,
            "ignore_eos": True,
        },
    ),
    ("/v1/inference/echo", {"input": "abc", "max_new_tokens": 4000}),
]


@pytest.fixture(scope="module")
def slow() -> Iterator[Site]:
    with Site("delay=0.005") as site:  # 4000 tokens take at least 20 s
        yield site


def request(path: str, body: dict[str, Any]) -> bytes:
    content = json.dumps({"model": "echo"} | body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


async def until(site: Site, running: bool) -> None:
    """Wait until something runs in the engine, or nothing does any more."""
    for _ in range(1000):
        stats = await site.engine.stats()
        if bool(stats.running + stats.waiting) is running:
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"still {stats}")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("path", "body"), ROUTES)
def test_closing_the_socket_ends_the_work(
    slow: Site, path: str, body: dict[str, Any], stream: bool
) -> None:
    with socket.create_connection(("127.0.0.1", slow.port)) as connection:
        connection.sendall(request(path, body | {"stream": stream}))
        if stream:
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        slow.run(until(slow, running=True))
    slow.run(until(slow, running=False))
    assert slow.admission.in_flight == 0


def test_a_client_that_leaves_while_sending_is_no_error(slow: Site) -> None:
    with socket.create_connection(("127.0.0.1", slow.port)) as connection:
        connection.sendall(request("/v1/completions", {"prompt": "abc"})[:-4])
    assert slow.http.get("/health/live").status_code == 200


class Client:
    """A `receive` that reports a disconnect when told to."""

    def __init__(self) -> None:
        self.left = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}


@pytest.mark.anyio
async def test_work_of_a_present_client_runs_to_its_end() -> None:
    ended = []

    async def work() -> None:
        await asyncio.sleep(0)
        ended.append(True)

    assert await while_connected(Client().receive, work())
    assert ended == [True]


@pytest.mark.anyio
async def test_work_has_cleaned_up_when_the_client_has_left() -> None:
    client = Client()
    cleaned = []

    async def work() -> None:
        client.left.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    assert not await while_connected(client.receive, work())
    assert cleaned == [True]


@pytest.mark.anyio
async def test_errors_come_through_as_they_are() -> None:
    async def work() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await while_connected(Client().receive, work())


@pytest.mark.anyio
async def test_cancelling_the_wait_cancels_the_work() -> None:
    begun, cleaned = asyncio.Event(), []

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    waiting = asyncio.create_task(while_connected(Client().receive, work()))
    await begun.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert cleaned == [True]
