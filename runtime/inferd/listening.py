"""Where the daemon listens, and the HTTP server that does."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp

from inferd.errors import StartError
from inferd.web.protocol import BoundedHeads

FLUSH_S = 5.0  # for replies that are complete but not yet read, when the daemon ends
KEEP_ALIVE_S = 75  # longer than load balancers keep idle connections (60), so that they close first


@dataclass(frozen=True)
class Address:
    """Where the daemon listens."""

    host: str
    port: int

    @property
    def target(self) -> str:
        """Host and port for a client on this machine."""
        local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"{f'[{local}]' if ':' in local else local}:{self.port}"

    @property
    def url(self) -> str:
        """The base URL for a client on this machine."""
        return f"http://{self.target}"


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `StartError` when the address cannot be had."""
    try:
        family, *_, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        both = host == "::" and socket.has_dualstack_ipv6()  # IPv4 too
        listener = socket.create_server(where[:2], family=family, backlog=2048, dualstack_ipv6=both)
    except OSError as error:
        in_use = error.errno == errno.EADDRINUSE
        reason = "it is in use" if in_use else error.strerror
        hint = "Take another with --port N; 0 takes a free one." if in_use else ""
        raise StartError(
            "bad_option", f"cannot listen on {host}, port {port}: {reason}", hint=hint
        ) from error
    listener.setblocking(False)
    return listener


class Server(uvicorn.Server):
    """uvicorn, with signals left to the daemon."""

    def __init__(self, app: ASGIApp, *, log_requests: bool) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="none",
                http=BoundedHeads,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=log_requests,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=int(FLUSH_S),
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
