"""How the show talks to the daemon: completions, and the routes of an operator."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from benchmarks.show_many.judge import Answer

MAX_TOKENS = 20
PATIENCE_S = 120.0  # a model may have to wait for its turn

_ADAPTER = "x-inferd-adapter"


class Client:
    """Talks to the daemon at `url`; an asynchronous context manager.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._http = httpx.AsyncClient(
            base_url=url,
            timeout=httpx.Timeout(PATIENCE_S),
            limits=httpx.Limits(max_connections=None),
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    # ------------------------------------------------------------ requests

    async def ask(self, model: str, prompt: str, *, n: int = 1, leave: bool = False) -> Answer:
        """A greedy completion, streamed. `leave`: hang up after the first token."""
        body = {
            "model": model,
            "prompt": prompt,
            "max_tokens": MAX_TOKENS,
            "temperature": 0,
            "n": n,
            "stream": True,
        }
        sent = self._clock()
        try:
            async with self._http.stream("POST", "/v1/completions", json=body) as reply:
                answered = self._clock()
                generation = reply.headers.get(_ADAPTER, "")
                if reply.status_code != 200:
                    said = (await reply.aread()).decode()
                    return Answer(
                        model, prompt, sent, answered, reply.status_code, trouble=said[:300]
                    )
                texts, trouble = await _texts(reply, n, leave)
        except httpx.HTTPError as error:
            return Answer(model, prompt, sent, self._clock(), 0, trouble=repr(error))
        return Answer(model, prompt, sent, answered, 200, generation, texts, trouble)

    # ------------------------------------------------------------ the operator's

    async def deploy(self, name: str, folder: str, **engine: int) -> str:
        """Deploy the model in `folder`; its id, once it runs."""
        body = {"model_name": name, "hf": {"repo": folder}, "engine": engine}
        return str((await self._call("POST", "/deploy/llm", body))["deploy_id"])

    async def deployment(self, deploy_id: str) -> dict[str, Any]:
        return await self._call("GET", f"/deploy/{deploy_id}")

    async def deployments(self) -> list[dict[str, Any]]:
        listed: Any = await self._call("GET", "/deploy/list")
        return list(listed)

    async def load(self, name: str, folder: str, base: str) -> str:
        """The generation that `name` means now; as of the next two."""
        body = {"name": name, "source": folder, "base": base}
        return str((await self._call("POST", "/v1/adapters", body))["generation"])

    async def swap(self, name: str, folder: str) -> str:
        return await self._generation(f"{name}/swap", {"source": folder})

    async def rollback(self, name: str) -> str:
        return await self._generation(f"{name}/rollback")

    async def unload(self, name: str) -> None:
        """Returns when nothing runs with it any more."""
        await self._call("DELETE", f"/v1/adapters/{quote(name)}?wait=true")

    async def ledger(self) -> dict[str, Any]:
        """The host's line of the account."""
        devices = (await self._call("GET", "/v1/ledger"))["devices"]
        host: dict[str, Any] = next(each for each in devices if each["device"] == "cpu")
        return host

    async def _generation(self, path: str, body: dict[str, Any] | None = None) -> str:
        return str((await self._call("POST", f"/v1/adapters/{path}", body))["generation"])

    async def _call(
        self, method: str, path: str, body: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        reply = await self._http.request(method, path, json=body)
        if not reply.is_success:
            raise RuntimeError(f"{method} {path}: status {reply.status_code} {reply.text[:500]}")
        replied: dict[str, Any] = reply.json()
        return replied


async def _texts(reply: httpx.Response, n: int, leave: bool) -> tuple[tuple[str, ...] | None, str]:
    """The choices' texts and what an error said; no texts where the client left."""
    texts, ended = [""] * n, False
    async for line in reply.aiter_lines():
        data = line.removeprefix("data: ")
        if data == "[DONE]":
            ended = True
        elif data:
            event = json.loads(data)
            if "error" in event:
                return (), str(event["error"].get("message"))
            for choice in event["choices"]:
                texts[choice["index"]] += choice["text"]
            if leave and any(texts):
                return None, ""
    return tuple(texts), "" if ended else "the stream broke off"
