"""A machine's memory, with the models that a test makes there."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

from tests.replicas.replicas_under_test import Site


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """Whatever a test does, nothing is reserved when all is closed."""
    site = Site()
    with anyio.fail_after(60):
        yield site
        await site.close()
