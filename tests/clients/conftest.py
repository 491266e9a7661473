"""Clients as programs: each in an environment of its own, run once a session.

`pytestmark = pytest.mark.clients("litellm", "litellm_client.py")` names the environment and the
program of a test; the fixture `found` gives what a scenario of that program found. All programs
that the session's tests name are started early, two at a time.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

import inferd.demo
from tests.clients.asks import Facts, Find, Say
from tests.clients.deepinfra_host import DeepInfraHost
from tests.clients.environments import NODE, PROGRAMS, ROOT, Environments, Unavailable
from tests.clients.servers import BEARER, KEY, MODEL, OnceFull, demo_daemon, full_daemon
from tests.daemon.daemons import Daemon

TIMEOUT = 600  # seconds for a test: the first ones wait for environments
PROGRAM_TIMEOUT = 300.0  # seconds


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("clients"):
            item.add_marker(pytest.mark.timeout(TIMEOUT))


@pytest.fixture(scope="session")
def daemon() -> Iterator[Daemon]:
    with demo_daemon("--grpc-port", "0") as running:
        yield running


@pytest.fixture(scope="session")
def once_full(daemon: Daemon, full: str) -> Iterator[OnceFull]:
    with OnceFull(full, daemon.url).serving() as proxy:
        yield proxy


@pytest.fixture(scope="session")
def full() -> Iterator[str]:
    with full_daemon() as url:
        yield url


@pytest.fixture(scope="session")
def host(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Variables that make the daemon `https://api.deepinfra.com`."""
    with DeepInfraHost(daemon.url).serving(tmp_path_factory.mktemp("host")) as variables:
        yield variables


@pytest.fixture(scope="session")
def given(daemon: Daemon, full: str, once_full: OnceFull, host: dict[str, str]) -> dict[str, str]:
    """The programs' environment variables; see `programs/given.py`."""
    foreign = re.compile("api_key|proxy", re.IGNORECASE)
    inherited = {key: value for key, value in os.environ.items() if not foreign.search(key)}
    servers = {"BASE_URL": daemon.url, "FULL_URL": full, "ONCE_FULL_URL": once_full.url}
    more = {
        "GRPC": daemon.line(r"gRPC +(\S+)$")[1],
        "CHECKPOINT": str(Path(inferd.demo.__file__).parent),
        "KEY": KEY,
    }
    settings = {"HF_HUB_OFFLINE": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "true"}
    return inherited | servers | settings | host | more


@pytest.fixture(scope="session")
def findings(
    request: pytest.FixtureRequest, given: dict[str, str]
) -> Iterator[dict[str, Future[Facts]]]:
    """What each program of this session finds, as soon as it has ended."""
    marks = [mark for item in request.session.items for mark in item.iter_markers("clients")]
    programs = dict.fromkeys(mark.args for mark in marks)
    with ThreadPoolExecutor(2) as pool:
        futures = {program: pool.submit(_run, group, program, given) for group, program in programs}
        yield futures
        for future in futures.values():
            future.cancel()


def _run(group: str, program: str, env: dict[str, str]) -> Facts:
    """Every scenario's result; `programs/run.py` says what comes out."""
    interpreter = Environments().prepare(group)
    folder = _beside_packages() if group == NODE else PROGRAMS
    runner, name = ("run.mjs", program) if group == NODE else ("run.py", Path(program).stem)
    done = subprocess.run(
        [interpreter, folder / runner, name],
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PROGRAM_TIMEOUT,
    )
    assert done.returncode == 0, f"{program} failed:\n{done.stderr[-5000:]}"
    return dict(json.loads(done.stdout))


def _beside_packages() -> Path:
    """A copy of the programs where Node finds the packages: it looks in the folders above."""
    return Path(shutil.copytree(PROGRAMS, ROOT / NODE / "programs", dirs_exist_ok=True))


@pytest.fixture
def found(findings: dict[str, Future[Facts]], request: pytest.FixtureRequest) -> Find:
    """What a scenario of the test's program found; skips without an environment for it."""
    mark = request.node.get_closest_marker("clients")
    group, program = mark.args
    try:
        facts = findings[program].result()
    except Unavailable as error:
        pytest.skip(f"no environment for {group} clients: {error}")

    def find(scenario: str) -> Facts:
        fact = facts[scenario]
        assert "failed" not in fact, fact["failed"]
        return dict(fact)

    return find


@pytest.fixture(scope="session")
def said(daemon: Daemon) -> Say:
    """The daemon's greedy reply to a question, over plain HTTP."""

    def say(question: str) -> str:
        messages = [{"role": "user", "content": question}]
        body = {"model": MODEL, "messages": messages, "temperature": 0}
        url = f"{daemon.url}/v1/chat/completions"
        reply = httpx.post(url, json=body, headers=BEARER, timeout=60)
        return str(reply.json()["choices"][0]["message"]["content"])

    return say


@pytest.fixture(scope="session")
def continued(daemon: Daemon) -> str:
    """The 24 tokens with which the daemon greedily goes on after the programs' prompt."""
    body = {"model": MODEL, "prompt": "Once upon a time", "temperature": 0, "max_tokens": 24}
    reply = httpx.post(f"{daemon.url}/v1/completions", json=body, headers=BEARER, timeout=60)
    return str(reply.json()["choices"][0]["text"])
