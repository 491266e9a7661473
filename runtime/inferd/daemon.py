"""The daemon's life: bind, load, serve, drain. The only file that knows all parts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Coroutine, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import uvloop

from inferd import logs
from inferd.config import ServeConfig
from inferd.deployments import Step
from inferd.listening import FLUSH_S, Address, Server, listen
from inferd.state import state_folder
from inferd.wiring import assemble, spec_of

if TYPE_CHECKING:
    from inferd.rpc.server import RpcServer

FORCED_S = 2.0  # for the models' processes to end, when a second signal came

_log = logging.getLogger("inferd.daemon")


class Reporter(Protocol):
    """How the daemon speaks to the person who started it."""

    def note(self, text: str) -> None: ...

    def progress(self, stage: str, done: int, total: int) -> None:
        """How far the start has come; in bytes, `total` is 0 where it is not known."""

    def ready(
        self, address: Address, model: str, *, needs_key: bool, chat: bool, grpc: Address | None
    ) -> None: ...


def run(config: ServeConfig, reporter: Reporter) -> int:
    """Serve until a signal ends it.

    Returns:
        the exit status: 0 after a drain, 128 + the signal's number when a second one forced it.
    Raises:
        StartError: the port or the model cannot be had.
    """
    logs.set_up(config.log_level, as_json=config.log_json, requests=config.log_requests)
    with (
        listen(config.host, config.port) as listener,
        state_folder(config.state_dir, config.port) as state,
    ):
        address = Address(config.host, listener.getsockname()[1])
        daemon = Daemon(config, reporter, address, state)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(daemon.run(listener))


class Signals:
    """SIGTERM and SIGINT, counted: the first asks to drain, the second to stop at once."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        self.number = signal.SIGTERM

    def __call__(self, number: signal.Signals) -> None:
        self.number = number
        (self.second if self.first.is_set() else self.first).set()

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self, number)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)


class Daemon:
    """All parts of one daemon, and the order in which they start and end."""

    def __init__(
        self, config: ServeConfig, reporter: Reporter, address: Address, state: Path
    ) -> None:
        self._config = config
        self._reporter = reporter
        self._address = address
        self._parts = assemble(config, state)
        self._server = Server(self._parts.app, log_requests=config.log_requests)
        self._rpc: RpcServer | None = None
        self._rpc_address: Address | None = None

    async def run(self, listener: socket.socket) -> int:
        """Serve on `listener` until a signal. Returns the exit status; raises `StartError`.

        The socket answers from the start: alive, not ready, and 503 until the model has loaded.
        So does gRPC's, where there is one.
        """
        signals = Signals()
        with signals.caught(), closing(self._parts.store):
            await self._start_rpc(listener.getsockname()[0])
            serving = asyncio.create_task(self._server.serve(sockets=[listener]))
            try:
                if await _unless(signals.first, self._start()):
                    await _first(signals.first.wait(), serving)
                    await self._drain(signals)
            finally:
                await self._end(serving, signals)
            return 128 + signals.number if signals.second.is_set() else 0

    async def _start_rpc(self, host: str) -> None:
        if self._config.grpc_port is None:
            return
        from inferd.rpc.server import RpcServer  # its imports take a tenth of a second

        parts = self._parts
        self._rpc = RpcServer(parts.service, parts.auth, paths=parts.paths)
        port = self._rpc.bind(host, self._config.grpc_port)
        self._rpc_address = Address(self._config.host, port)
        await self._rpc.start()
        _log.info("gRPC listens on %s", self._rpc_address.target)

    async def _start(self) -> None:
        """The command line's model first, then what an earlier daemon had."""
        parts = self._parts
        parts.adapters.restore()
        life = await parts.deployments.serve(spec_of(self._config), self._stepped)
        parts.deployments.restore()
        await life.outcome()
        parts.deployments.resume()
        self._reporter.ready(
            self._address,
            life.entry.name,
            needs_key=bool(self._config.api_key),
            chat=life.entry.serving().text.chat is not None,
            grpc=self._rpc_address,
        )

    def _stepped(self, step: Step) -> None:
        self._reporter.progress(step.stage, step.done, step.total)

    async def _drain(self, signals: Signals) -> None:
        """Let what runs finish, until the deadline or a second signal."""
        self._parts.admission.begin_drain()
        timeout = self._config.shutdown_timeout
        if running := self._parts.admission.in_flight:
            self._reporter.note(
                f"Finishing {running} running sequence{'s' * (running > 1)}, for at most "
                f"{timeout:g} s; a second signal stops at once."
            )
        drained = asyncio.create_task(self._parts.admission.drained(timeout))
        await _first(signals.second.wait(), drained)
        if left := self._parts.admission.in_flight:
            _log.warning("ending %d sequences that still ran", left)

    async def _end(self, serving: asyncio.Task[None], signals: Signals) -> None:
        """End the engines, whose open streams then end with an error; flush; close the servers.

        A second signal cuts either short.
        """
        ending = asyncio.create_task(self._parts.deployments.close())
        await _first(signals.second.wait(), ending)
        await asyncio.wait({ending}, timeout=FORCED_S)
        self._server.should_exit = True
        flushing = {serving, asyncio.create_task(self._stop_rpc(FLUSH_S))}
        await _first(signals.second.wait(), asyncio.wait(flushing))
        self._server.force_exit = True
        await self._stop_rpc(0)
        await asyncio.gather(*flushing)

    async def _stop_rpc(self, grace: float) -> None:
        if self._rpc is not None:
            await self._rpc.stop(grace)


async def _first(*awaitables: Coroutine[Any, Any, object] | asyncio.Task[Any]) -> None:
    """Wait until one of them is done, and cancel the others unless they came as tasks."""
    ours = [asyncio.ensure_future(each) for each in awaitables]
    try:
        await asyncio.wait(ours, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each, given in zip(ours, awaitables, strict=True):
            if each is not given:
                each.cancel()


async def _unless(event: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do `work` unless `event` comes first, which cancels it; whether it was done."""
    task = asyncio.create_task(work)
    await _first(event.wait(), task)
    if task.done():
        task.result()
        return True
    task.cancel()
    await asyncio.wait({task})
    return False
