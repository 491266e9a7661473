"""A small HTTP client for a running daemon, and the options that find it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

import click

from inferd.cli.failure import Failure

if TYPE_CHECKING:
    import httpx

Command = Callable[..., Any]


def client_options(command: Command) -> Command:
    """Give `command` the options `--url` and `--api-key`."""
    url = click.option(
        "--url",
        envvar="INFERD_URL",
        default="http://127.0.0.1:8000",
        show_default=True,
        help="Where the daemon listens; $INFERD_URL.",
    )
    key = click.option(
        "--api-key",
        envvar=["INFERD_API_KEY", "OPENAI_API_KEY"],
        default="",
        help="Key to send; $INFERD_API_KEY or $OPENAI_API_KEY.",
    )
    return url(key(command))


class Refused(Failure):
    """The daemon's reply has an error's status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Client:
    """Talks to the daemon at `url`; a context manager. Its methods raise `Failure`.

    Args:
        url: the base, with or without `/v1`.
        api_key: sent as a bearer token; empty for none. Of several, separated by commas, the first.
    """

    def __init__(self, url: str, api_key: str) -> None:
        import httpx

        self.url = url.rstrip("/").removesuffix("/v1").rstrip("/")
        key = api_key.split(",")[0]
        self._http = httpx.Client(
            headers={b"authorization": b"Bearer " + os.fsencode(key)} if key else {},
            timeout=httpx.Timeout(10, read=None),
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._http.close()

    def get(self, path: str, *, accept: Sequence[int] = (200,)) -> httpx.Response:
        """GET `path`; a status that is not in `accept` is a failure."""
        response = self._request("GET", path, timeout=10)
        if response.status_code not in accept:
            raise Failure(error_text(response.status_code, response.content))
        return response

    def call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        query: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        """The JSON that `method` brings, however long that takes. Raises `Refused`, too."""
        response = self._request(method, path, json=body, params=query)
        if not response.is_success:
            said = error_text(response.status_code, response.content)
            raise Refused(response.status_code, said)
        replied: dict[str, Any] = response.json()
        return replied

    def models(self) -> list[dict[str, Any]]:
        """What `/v1/models` lists."""
        listed: list[dict[str, Any]] = self.get("/v1/models").json()["data"]
        return listed

    def stream(self, path: str, body: dict[str, Any]) -> Generator[dict[str, Any], None, None]:
        """POST `body` and yield the JSON of each server-sent event, up to `[DONE]`.

        Closing the iterator closes the connection, which ends the work on the daemon's side.
        """
        import httpx

        # A surrogate was a byte of the command line that is not UTF-8.
        sent = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        try:
            with self._http.stream("POST", self.url + path, content=sent) as response:
                if response.status_code != 200:
                    raise Failure(error_text(response.status_code, response.read()))
                yield from _events(response.iter_lines())
        except httpx.ConnectError as error:
            raise self._unreachable(error) from error
        except httpx.HTTPError as error:
            raise Failure(f"the connection broke: {error}") from error

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        import httpx

        try:
            return self._http.request(method, self.url + path, **options)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.InvalidURL) as error:
            raise self._unreachable(error) from error
        except httpx.HTTPError as error:
            raise Failure(f"the connection to {self.url} broke: {error}") from error

    def _unreachable(self, error: Exception) -> Failure:
        return Failure(
            f"no daemon answers at {self.url} ({error})",
            "Start one with `inferd serve`, or name another with --url.",
        )


def _events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        if not line.startswith("data:"):
            continue
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            return
        event = json.loads(data)
        if "error" in event:
            raise Failure(_message(event) or data)
        yield event


def error_text(status: int, body: bytes) -> str:
    """What an error reply says, in either of the two shapes the daemon uses."""
    try:
        message = _message(json.loads(body))
    except ValueError:
        message = ""
    text = message or f"the daemon replied with status {status}"
    return f"{text} (give it with --api-key)" if status in (401, 403) else text


def _message(body: Any) -> str:
    """Of the several shapes; of a list of wrong fields, the first one's."""
    while isinstance(body, dict | list):
        if isinstance(body, list):
            body = body[0] if body else None
        else:
            names = ("error", "detail", "message", "msg")
            body = next((body[key] for key in names if key in body), None)
    return body if isinstance(body, str) else ""
