"""One daemon with the demo model in a child process, as a newcomer starts it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from openai import OpenAI

from tests.daemon.daemons import Daemon


@pytest.fixture(scope="session")
def daemon() -> Iterator[Daemon]:
    running = Daemon("--port", "0", "--max-batch-size", "64", env={})
    try:
        yield running
    finally:
        running.close()


@pytest.fixture(scope="session")
def client(daemon: Daemon) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{daemon.url}/v1", api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture
def http(daemon: Daemon) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=daemon.url, timeout=60) as client:
        yield client
