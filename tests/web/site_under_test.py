"""A live HTTP server over the echo engine, on a thread, for clients to talk to.

One token is one byte. The echo engine repeats the prompt, so a completion of `abc` is `abcabc…`,
and a chat repeats its templated prompt up to the first `<|im_end|>`, which ends a turn.
"""

from __future__ import annotations

import asyncio
import socket
import tempfile
import threading
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx
import uvicorn
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from inferd.adapters.library import Library
from inferd.adapters.records import AdapterRecord
from inferd.adapters.table import Adapters
from inferd.admission import Admission
from inferd.auth import Auth
from inferd.deployments import Deployments, Record
from inferd.engines import echo
from inferd.engines.base import EngineSpec
from inferd.engines.local import LocalEngine
from inferd.ledger import Ledger
from inferd.memory_metrics import MemoryMetrics
from inferd.messages import EngineStats
from inferd.metrics import Metrics
from inferd.planning import Planner
from inferd.registry import Deployment, Registry
from inferd.residency import Residency
from inferd.service import Service
from inferd.sources import PathPolicy
from inferd.store import Store
from inferd.tally import Tally
from inferd.text import tokenizer as text_tokenizer
from inferd.text.chat import ChatTemplate
from inferd.text.model import TextModel, with_parsers
from inferd.web.app import create_app
from inferd.web.protocol import BoundedHeads
from tests.web.hub_of_one import HubOfOne

T = TypeVar("T")

NOW = 1_700_000_000.5
VERSION = "0123456789abcdef0123456789abcdef01234567"
TEMPLATE = """\
{%- if tools %}{{ tools | tojson }}{% endif %}
{%- for message in messages %}
{{- '<|im_start|>' + message.role + ':' + message.content }}
{%- if message.tool_calls %}{{ message.tool_calls | tojson }}{% endif %}
{{- '<|im_end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant:' }}{% endif %}
"""


def byte_tokenizer() -> text_tokenizer.Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({char: i for i, char in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(text, normalized=False) for text in ("<|im_start|>", "<|im_end|>")]
    )
    return text_tokenizer.Tokenizer(tokenizer.to_str().encode(), {"eos_token": "<|im_end|>"})


def echo_text() -> TextModel:
    tokenizer = byte_tokenizer()
    assert tokenizer.eos_id is not None
    return with_parsers(
        TextModel(
            tokenizer,
            ChatTemplate({"default": TEMPLATE}, tokenizer.special_tokens),
            eos_ids=frozenset({tokenizer.eos_id}),
        )
    )


class Site:
    """A server of the model `echo`, which takes adapters from any folder, and deploys models that
    echo as well; a context manager.

    Attributes:
        hub: where the models come from that are deployed.

    Args:
        options: the echo engine's, like `delay=0.01`.
        limit: sequences in flight.
        memory: what plans are made for.
    """

    def __init__(
        self,
        options: str = "",
        *,
        keys: Sequence[str] = (),
        limit: int = 1024,
        start: bool = True,
        paths: PathPolicy = PathPolicy(everywhere=True),  # noqa: B008 (frozen)
        memory: Ledger | None = None,
        **web: Any,
    ) -> None:
        spec = EngineSpec(engine="echo", model=f"echo:vocab_size=258,{options}", max_adapters=2)
        self.engine = LocalEngine(echo.create, spec)
        self.registry = Registry()
        self.admission = Admission(limit)
        self.text = echo_text()
        self._start = start
        self._library = tempfile.TemporaryDirectory()
        library = Library(Path(self._library.name))
        self._store = Store("sqlite://")
        records = self._store.table("adapters", AdapterRecord)
        self.adapters = Adapters(library, records, self.registry, clock=lambda: NOW)
        self.hub = HubOfOne(Ledger({"cpu": 1000}))
        self.tally = Tally(lambda: NOW)
        self.deployments = Deployments(
            self.registry,
            self.hub,
            self.adapters,
            self._store.table("deployments", Record),
            self.tally,
            paths=paths,
            now=lambda: NOW,
        )
        metrics = Metrics()
        memory = memory or Ledger({"cpu": 8 << 30})
        self.memory_metrics = MemoryMetrics(memory)
        metrics.add(self.memory_metrics)
        self.service = Service(
            self.registry, self.admission, metrics, adapters=self.adapters, entropy=lambda: 7
        )
        self.app = create_app(
            self.service,
            self.registry,
            self.admission,
            metrics,
            Auth(keys),
            adapters=self.adapters,
            deployments=self.deployments,
            planner=Planner(memory, Residency(memory)),
            paths=paths,
            now=lambda: NOW,
            **web,
        )
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio would not
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._loop = asyncio.new_event_loop()
        self._server = uvicorn.Server(
            uvicorn.Config(
                self.app,
                log_config=None,
                access_log=False,
                lifespan="off",
                http=BoundedHeads,
                ws="none",
                loop="none",
            )
        )
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="site")

    def __enter__(self) -> Site:
        self._thread.start()
        assert self._ready.wait(30)
        self.http = httpx.Client(base_url=self.url, timeout=30, trust_env=False)
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()
        self._store.close()
        self._library.cleanup()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` in the server's event loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def stats(self) -> EngineStats:
        return self.run(self.engine.stats())

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        if self._start:
            await self.engine.start(lambda _: None)
        deployment = Deployment("echo", self.engine, self.text, int(NOW), ("echo/alias",), VERSION)
        self.registry.add(deployment)
        if self._start:
            await self.adapters.attach(deployment)
        self._loop.call_soon(self._ready.set)
        await self._server.serve(sockets=[self._listener])
        self.hub.fetching.open.set()
        await self.deployments.close()
        self._store.close()
        if self._start:
            await self.engine.close()
