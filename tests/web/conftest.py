"""Fixtures of the HTTP tests."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from openai import OpenAI

from tests.web.site_under_test import Site


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """One server for all tests that leave no traces in it."""
    with Site() as running:
        yield running


@pytest.fixture
def http(site: Site) -> httpx.Client:
    return site.http


@pytest.fixture(scope="session")
def client(site: Site) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{site.url}/v1", api_key="any", max_retries=0) as client:
        yield client
