"""Many clients at once get what each would get alone."""

from __future__ import annotations

import asyncio

import pytest
from openai import AsyncOpenAI

from tests.web.site_under_test import Site

pytestmark = pytest.mark.anyio

PROMPTS = [f"{number}: the quick 🙂 brown fox" for number in range(64)]


async def complete(client: AsyncOpenAI, prompt: str) -> tuple[str, int]:
    """(text, completion tokens), streamed."""
    stream = await client.completions.create(
        model="echo", prompt=prompt, max_tokens=12, temperature=0, stream=True
    )
    text, tokens = "", 0
    async for chunk in stream:
        text += chunk.choices[0].text
        tokens += chunk.usage.completion_tokens if chunk.usage else 0
    return text, tokens


async def test_64_streams_equal_64_requests_one_by_one(site: Site) -> None:
    async with AsyncOpenAI(base_url=f"{site.url}/v1", api_key="any", max_retries=0) as client:
        together = await asyncio.gather(*(complete(client, prompt) for prompt in PROMPTS))
        alone = [await complete(client, prompt) for prompt in PROMPTS]
    assert together == alone
    assert {tokens for _, tokens in together} == {12}
    assert site.admission.in_flight == 0
