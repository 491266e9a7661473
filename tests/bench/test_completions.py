"""One request and all that a server may do to it."""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trustme

from inferd.bench.completions import Asked, Sender
from inferd.bench.record import Record
from inferd.bench.transport import Server, Transport
from inferd.bench.workload import Prompt
from tests.bench import scripted as s
from tests.bench.scripted import Script, scripted, stream, text, usage

pytestmark = pytest.mark.anyio

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"


async def send(
    script: Script, count: int = 1, path: str = COMPLETIONS, timeout: float = 10, **asked: Any
) -> list[Record]:
    """`count` requests one after the other; the clock counts its calls."""
    clock = itertools.count()
    transport = Transport(Server.of(script.url), "secret", clock=lambda: float(next(clock)))
    sender = Sender(
        transport, Asked(path, "m", **asked), clock=lambda: float(next(clock)), timeout=timeout
    )
    try:
        return [await sender.send(Prompt("a b", 3, 2), i, 0.0) for i in range(count)]
    finally:
        transport.close()


async def one(*reply: Any, **options: Any) -> Record:
    async with scripted(reply) as script:
        (record,) = await send(script, **options)
        return record


async def test_a_stream_that_ends_well() -> None:
    record = await one(*stream(text("a"), text(""), text("b", "length"), usage(2, 3, cached=1)))
    assert record.ok
    assert len(record.arrivals) == 2  # events without text are no tokens that a reader sees
    assert (record.prompt_tokens, record.output_tokens, record.cached_tokens) == (2, 3, 1)
    assert record.finish_reason == "length"
    assert record.sent < record.arrivals[0] <= record.arrivals[1] < record.ended


async def test_events_cut_anywhere() -> None:
    whole = b"".join(stream(text("é"), text("b"), usage(2, 2)))
    record = await one(*(whole[i : i + 1] for i in range(len(whole))))
    assert record.ok
    assert len(record.arrivals) == 2


async def test_chats_count_content_thoughts_and_calls_but_no_role() -> None:
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "hm"},
        {"reasoning": "hm"},
        {"content": "yes"},
        {"tool_calls": [{"index": 0}]},
        {},
    ]
    events = [s.event({"choices": [{"index": 0, "delta": delta}]}) for delta in deltas]
    record = await one(*stream(*events, usage(1, 4)), path=CHAT)
    assert record.ok
    assert len(record.arrivals) == 4


async def test_what_is_asked() -> None:
    replies = [stream(text("a"))] * 2
    async with scripted(*replies) as script:
        await send(script, extra={"top_k": 5})
        await send(script, path=CHAT, ignore_eos=False, temperature=None)
    (first, headers, body), (second, _, chat) = script.requests
    assert first == "POST /v1/completions HTTP/1.1"
    assert headers["authorization"] == "Bearer secret"
    assert body == {
        "model": "m",
        "prompt": "a b",
        "max_tokens": 3,
        "min_tokens": 3,
        "ignore_eos": True,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True},
        "top_k": 5,
    }
    assert second.startswith("POST /v1/chat/completions ")
    assert chat["messages"] == [{"role": "user", "content": "a b"}]
    assert not chat.keys() & {"prompt", "ignore_eos", "min_tokens", "temperature"}


async def test_a_connection_is_used_again() -> None:
    async with scripted(stream(text("a")), stream(text("b"))) as script:
        assert all(record.ok for record in await send(script, 2))
    assert script.connections == 1


async def test_a_connection_that_broke_is_not() -> None:
    async with scripted([s.SSE, text("a"), None], stream(text("b"))) as script:
        first, second = await send(script, 2)
    assert (first.error, second.ok) == ("disconnected", True)
    assert script.connections == 2


async def test_a_connection_closed_while_idle_is_replaced() -> None:
    good = stream(text("a"), usage(2, 2))
    async with scripted(good, [None], good) as script:
        first, second = await send(script, 2)
        assert (first.ok, second.ok, script.connections) == (True, True, 2)


async def test_a_fresh_connection_that_closes_is_a_fault() -> None:
    good = stream(text("a"), usage(2, 2))
    async with scripted(good, [None], [None], good) as script:
        records = await send(script, 3)
        assert [record.ok for record in records] == [True, False, True]


async def test_a_body_that_ends_with_the_connection() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    body = b'data: {"choices":[{"text":"a"}]}\n\ndata: [DONE]\n\n'
    assert (await one(head, body, None)).ok


JSON_ERROR = b'{"error": {"message": "queue is full", "type": "busy"}}'
FAULTS: list[tuple[str, Sequence[Any], str, str]] = [
    ("429", [s.reply(JSON_ERROR, "429 Too Many")], "http_429", "queue is full"),
    ("503", [s.reply(b"<h1>no</h1>", "503 Away", "text/html")], "http_503", "<h1>no</h1>"),
    ("500", [s.reply(b"", "500 Oops")], "http_500", "(empty)"),
    ("detail", [s.reply(b'{"detail": "bad"}', "422 No")], "http_422", "bad"),
    ("status before the stream", [s.reply(b"x", "400 No", "text/event-stream")], "http_400", "x"),
    ("no stream", [s.reply(b'{"id": 1}')], "not_sse", 'no event stream: {"id": 1}'),
    ("cut between events", [s.SSE, text("a"), s.END], "truncated", "without [DONE]"),
    ("cut in an event", [s.SSE, s.chunk(b"data: [DONE]"), s.END], "truncated", "without [DONE]"),
    ("left in the stream", [s.SSE, text("a"), None], "disconnected", "closed the connection"),
    ("left in the head", [b"HTTP/1.1 200 OK\r\nConte", None], "disconnected", "closed the"),
    ("left at once", [None], "disconnected", "closed the connection"),
    ("no HTTP", [b"SSH-2.0-OpenSSH\r\n\r\n"], "malformed", "not HTTP"),
    ("no JSON", stream(s.event("{nope")), "malformed", "cannot be read"),
    ("wrong types", stream(s.event({"choices": 3})), "malformed", "cannot be read"),
    ("an error", stream(text("a"), s.event(JSON_ERROR.decode())), "error_event", "queue is full"),
    ("no text", stream(usage(2, 0)), "no_tokens", "no text"),
    ("endless head", [b"HTTP/1.1 200 OK\r\nX: " + b"a" * (1 << 20), ...], "malformed", "too large"),
]


@pytest.mark.parametrize(
    ("reply", "kind", "words"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS]
)
async def test_every_fault_has_its_kind(reply: Sequence[Any], kind: str, words: str) -> None:
    record = await one(*reply)
    assert record.error == kind
    assert words in record.message
    assert record.ended > record.sent


async def test_a_server_that_falls_silent() -> None:
    record = await one(s.SSE, text("a"), ..., timeout=0.05)
    assert record.error == "timeout"
    assert "within 0.05 s" in record.message
    assert len(record.arrivals) == 1  # what came is kept


async def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
    (record,) = await send(Script([], url))
    assert record.error == "connect"
    assert "127.0.0.1" in record.message


async def test_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the system's authorities; a certificate of nobody's is refused."""
    authority, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    async with scripted(stream(text("a")), tls=tls) as script:
        (refused,) = await send(script)
        assert refused.error == "connect"
        assert "certificate" in refused.message
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        (record,) = await send(script)
    assert record.ok, record.message


async def test_who_is_cancelled_leaves_no_connection() -> None:
    async with scripted([s.SSE, ...]) as script:
        task = asyncio.create_task(send(script))
        await script.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://host:81", Server("host", 81, False, "")),
        ("https://host/api/v1/", Server("host", 443, True, "/api/v1")),
        ("http://[::1]:8000", Server("::1", 8000, False, "")),
    ],
)
def test_urls(url: str, expected: Server) -> None:
    assert Server.of(url) == expected


@pytest.mark.parametrize("url", ["host:8000", "ftp://host", "http://", "http://host:port", ""])
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|[Pp]ort"):
        Server.of(url)


def test_the_host_header() -> None:
    assert Server.of("http://[::1]:8000").authority == "[::1]:8000"
    assert Server.of("https://host").authority == "host"
