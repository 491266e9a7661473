"""A whole benchmark of a server: the real one over the echo engine, and scripted ones."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inferd.bench.errors import BenchError
from inferd.bench.goodput import parse_objectives
from inferd.bench.serve import Found, Plan, locate, run
from inferd.bench.transport import Server
from inferd.bench.workload import WORDS, Lengths
from tests.bench.scripted import Script, reply, scripted, stream, text, usage
from tests.web.site_under_test import Site

LENGTHS = Lengths(64, 8)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site() as site:
        yield site


def bench(site: Site, **plan: Any) -> Found:
    given = {"num_prompts": 12, "lengths": LENGTHS, "base_url": site.url, **plan}
    return asyncio.run(run(Plan(**given)))


@pytest.mark.parametrize(
    ("endpoint", "hidden"), [("/v1/completions", 0), ("/v1/chat/completions", 1)]
)
def test_a_closed_loop(site: Site, endpoint: str, hidden: int) -> None:
    """The echo of a chat begins with a special token, which has no text."""
    found = bench(site, endpoint=endpoint, max_concurrency=4)
    report = found.report
    assert found.model == "echo"
    assert found.server_version
    assert (report.completed, report.failed, report.errors) == (12, 0, {})
    assert report.output_tokens == 12 * 8  # one token is one byte, and ignore_eos holds
    assert report.events == 12 * (8 - hidden)
    assert abs(report.prompt_tokens - 12 * 64) <= 12 * 2.5  # half a word
    assert report.max_running <= 4
    assert report.latencies["itl"].count == 12 * (7 - hidden)
    assert not [line for line in report.warnings if "client" not in line]
    assert report.client.late.count == 0


def test_an_open_loop(site: Site) -> None:
    objectives = parse_objectives(["e2el:60000"])
    found = bench(site, request_rate=500.0, seed=3, objectives=objectives)
    assert found.report.completed == 12
    assert found.report.goodput == found.report.request_throughput
    assert found.report.client.late.count == 12
    times = [record.scheduled for record in found.records]
    assert times == sorted(times)
    assert all(record.sent >= record.scheduled for record in found.records)


def test_a_shared_prefix_and_a_base_with_v1(site: Site) -> None:
    found = bench(site, base_url=f"{site.url}/v1/", lengths=Lengths(32, 4, prefix_len=64))
    assert abs(found.report.prompt_tokens - 12 * 96) <= 12 * 2.5


def test_a_dataset(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "abc"}\n{"prompt": "de", "output_tokens": 3}\n')
    found = bench(site, dataset_path=file, num_prompts=None, num_warmups=0)
    assert found.tokenization is None
    assert [record.tokens for record in found.records] == [8, 3]
    assert found.report.prompt_tokens == 5


def test_requests_that_the_server_refuses_are_told(site: Site, tmp_path: Path) -> None:
    """They are too long, but for the first, with which the server is warmed up."""
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "abc"}\n{"prompt": "de", "output_tokens": 5000}\n')
    report = bench(site, dataset_path=file, num_prompts=4).report
    assert (report.completed, report.errors) == (2, {"http_400": 2})
    assert "5000" in report.error_messages["http_400"]


def test_a_key_is_needed() -> None:
    with Site(keys=["secret"]) as site:
        with pytest.raises(BenchError, match="401"):
            bench(site)
        assert bench(site, api_key="secret").report.completed == 12


# ------------------------------------------------------------------ scripted servers

PROBES = [stream(text("a"), usage(times * len(WORDS), 1)) for times in (1, 2)]
ANSWER = stream(text("a"), text("b"), usage(9, 2))


async def against(
    *replies: Any, progress: Any = lambda done, total: None, **plan: Any
) -> tuple[Found, Script]:
    """The model's name is known, so the first reply is to GET /version."""
    clock = itertools.count()
    async with scripted(*replies) as script:
        given = {"model": "m", "num_prompts": 2, "lengths": Lengths(9, 2), "num_warmups": 0, **plan}
        asked = Plan(base_url=script.url, max_concurrency=1, **given)
        found = await run(asked, clock=lambda: float(next(clock)), progress=progress)
        return found, script


NO_VERSION = [reply(b"", "404 Not Found")]


def test_what_is_asked_of_a_server_in_order() -> None:
    version = [reply(b'{"version": "9.9"}')]
    listing = [reply(b'{"data": [{"id": "first"}, {"id": "second"}]}')]
    replies = [listing, version, *PROBES, ANSWER, ANSWER, ANSWER]
    found, script = asyncio.run(against(*replies, model="", num_warmups=1))
    lines = [line for line, _, _ in script.requests]
    assert lines[:2] == ["GET /v1/models HTTP/1.1", "GET /version HTTP/1.1"]
    assert (found.model, found.server_version) == ("first", "9.9")
    assert found.tokenization is not None
    assert (found.tokenization.per_word, found.tokenization.overhead) == (1.0, 0.0)
    bodies = [body for _, _, body in script.requests[2:]]
    assert [body["max_tokens"] for body in bodies] == [1, 1, 2, 2, 2]
    assert all(body["model"] == "first" for body in bodies)
    prompts = [body["prompt"] for body in bodies[2:]]
    assert len(set(prompts)) == 3  # what warms up is not met again
    assert {len(prompt.split()) for prompt in prompts} == {9}
    assert len(found.records) == 2
    assert script.connections == 1


def test_a_prefix_of_the_base_is_kept() -> None:
    server, path = locate("https://api.example.com/v1/openai", "/chat/completions")
    assert server == Server("api.example.com", 443, True, "/v1/openai")
    assert path == "/chat/completions"
    assert locate("http://host/v1", "/v1/completions")[0].prefix == ""


@pytest.mark.parametrize(
    ("base", "endpoint", "words"),
    [
        ("localhost:8000", "/v1/completions", "--base-url: 'localhost:8000' is not the URL"),
        ("http://host", "v1/completions", "--endpoint v1/completions: it must be a path"),
        ("http://host", "/v1/responses", "ends in /completions or /chat/completions"),
    ],
)
def test_what_cannot_be_located(base: str, endpoint: str, words: str) -> None:
    with pytest.raises(BenchError, match=words):
        locate(base, endpoint)


REFUSALS: list[tuple[list[Any], dict[str, Any], str]] = [
    ([[reply(b"x", "500 No")]], {"model": ""}, r"GET /v1/models: 500 x"),
    ([[reply(b'{"data": []}')]], {"model": ""}, "lists no model; name one with --model"),
    ([[reply(b"<html>")]], {"model": ""}, "lists no model"),
    ([[None]], {"model": ""}, "closed the connection"),
    (
        [NO_VERSION, [reply(b'{"error": {"message": "ignore_eos?"}}', "400 No")]],
        {},
        r"ignore_eos\?; --no-ignore-eos leaves out",
    ),
    ([NO_VERSION, [reply(b"full", "503 No")]], {}, "refused a first request: full$"),
    ([NO_VERSION, stream(text("a"))], {}, "tells no usage.*--dataset-path"),
    ([NO_VERSION, *PROBES, [None]], {"num_warmups": 1}, "closed the connection"),
]


@pytest.mark.parametrize(("replies", "plan", "words"), REFUSALS, ids=range(len(REFUSALS)))
def test_servers_that_cannot_be_measured(
    replies: list[Any], plan: dict[str, Any], words: str
) -> None:
    with pytest.raises(BenchError, match=words):
        asyncio.run(against(*replies, **plan))


def test_a_server_that_fails_under_load() -> None:
    broken = [*ANSWER[:2], None]
    ended: list[tuple[int, int]] = []
    found, _ = asyncio.run(
        against(
            NO_VERSION, *PROBES, broken, ANSWER, progress=lambda *numbers: ended.append(numbers)
        )
    )
    assert ended == [(1, 2), (2, 2)]
    assert found.report.errors == {"disconnected": 1}
    assert found.report.completed == 1
