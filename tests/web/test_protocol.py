"""Headers without an end: the connection is closed before they fill the memory."""

from __future__ import annotations

import socket

import httpx
import pytest

from inferd.web.protocol import MAX_HEAD_BYTES
from tests.web.site_under_test import Site

LONG = b"a" * 4 * MAX_HEAD_BYTES
CHUNKED = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def sent(site: Site, *parts: bytes) -> bytes:
    """What comes back, up to the connection's end, for `parts` sent one by one."""
    with socket.create_connection(("127.0.0.1", site.port), timeout=10) as connection:
        received = b""
        try:
            for part in parts:
                connection.sendall(part)
            while data := connection.recv(65536):
                received += data
        except (ConnectionResetError, BrokenPipeError):
            pass  # it was closed with bytes of ours unread
        return received


@pytest.mark.parametrize(
    "parts",
    [
        (b"GET /", LONG, LONG),
        (b"GET / HTTP/1.1\r\nX: ", LONG, LONG),
        (b"GET / HTTP/1.1\r\n", b"X: a\r\n" * MAX_HEAD_BYTES),
        (CHUNKED, b"2\r\n{}\r\n0\r\n", b"X: ", LONG, LONG),
    ],
    ids=["path", "header", "headers", "trailer"],
)
def test_headers_without_an_end_close_the_connection(
    site: Site, http: httpx.Client, parts: tuple[bytes, ...]
) -> None:
    assert b" 200 " not in sent(site, *parts)
    assert http.get("/health/live").status_code == 200


def test_long_bodies_are_not_headers(http: httpx.Client) -> None:
    body = {"model": "echo", "prompt": "a" * 3000, "max_tokens": 1, "user": "u" * 4 * len(LONG)}
    for _ in range(2):  # over one connection
        assert http.post("/v1/completions", json=body).status_code == 200


def test_headers_up_to_the_bound_pass(http: httpx.Client) -> None:
    fill = "a" * (MAX_HEAD_BYTES - 2048)
    for _ in range(3):
        assert http.get("/health/live", headers={"x-fill": fill}).status_code == 200
