"""What the clients talk to: a daemon with the demo model, one that is full, and a way between."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

from tests.daemon.daemons import Daemon

KEY = "sk-tests"
MODEL = "tests/demo"  # as in programs/asks.json; real names contain slashes
BEARER = {"authorization": f"Bearer {KEY}"}


@contextmanager
def demo_daemon(*flags: str) -> Iterator[Daemon]:
    """The demo model behind an API key."""
    names = ("--port", "0", "--served-model-name", MODEL)
    exact = ("--dtype", "float32")  # what lm-evaluation-harness's own backend computes in
    daemon = Daemon("demo", *names, *exact, *flags, env={"INFERD_API_KEY": KEY})
    try:
        assert daemon.url
        yield daemon
    finally:
        daemon.close()


@contextmanager
def full_daemon() -> Iterator[str]:
    """The URL of a daemon whose one place, and whose queue of one, are taken: it answers 429."""
    engine = "echo:delay=0.05,vocab_size=4096,max_model_len=100000"
    size = ("--max-batch-size", "1", "--max-queue-requests", "1")
    long = {"model": MODEL, "prompt": "a", "max_tokens": 90_000, "ignore_eos": True}
    with ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(3))
        daemon = stack.enter_context(demo_daemon("--engine", engine, *size))

        def stay() -> int:
            url = f"{daemon.url}/v1/completions"
            return httpx.post(url, json=long, headers=BEARER, timeout=None).status_code

        done, _ = wait([threads.submit(stay) for _ in range(3)], return_when=FIRST_COMPLETED)
        statuses = [future.result() for future in done]
        assert statuses == [429], statuses
        yield daemon.url


@dataclass(frozen=True)
class Visit:
    """One request that the proxy sent on, and what came back."""

    path: str
    status: int
    at: float  # seconds of a monotonic clock


class OnceFull:
    """A proxy that sends the first request below each `/NAME` to `full` and later ones to `open`.

    Attributes:
        visits: what went through, by name.
    """

    def __init__(self, full: str, open: str) -> None:
        self.visits: dict[str, list[Visit]] = defaultdict(list)
        self._full, self._open = full, open
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                proxy._forward(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def _forward(self, request: BaseHTTPRequestHandler) -> None:
        _, name, path = request.path.split("/", 2)
        body = request.rfile.read(int(request.headers["content-length"]))
        headers = {key: request.headers[key] for key in ("authorization", "content-type")}
        with self._lock:
            origin = self._open if self.visits[name] else self._full
            at = time.monotonic()
            reply = httpx.post(f"{origin}/{path}", content=body, headers=headers, timeout=60)
            self.visits[name].append(Visit(f"/{path}", reply.status_code, at))
        request.send_response(reply.status_code)
        for key in reply.headers.keys() & {"content-type", "retry-after"}:
            request.send_header(key, reply.headers[key])
        request.send_header("content-length", str(len(reply.content)))
        request.end_headers()
        request.wfile.write(reply.content)

    @contextmanager
    def serving(self) -> Iterator[OnceFull]:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
