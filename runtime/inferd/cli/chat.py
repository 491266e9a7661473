"""`inferd chat`: talk to a running daemon from a terminal, or through a pipe."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from io import TextIOWrapper
from typing import Any

import click

from inferd.cli import CONTEXT
from inferd.cli.client import Client, client_options
from inferd.cli.failure import Failure

COMMANDS = """/reset   forget the conversation
/exit    leave (so do Ctrl-D, and Ctrl-C at the prompt)
/help    this
Ctrl-C   stop the reply"""


@dataclass
class Chat:
    """A conversation: what was said so far, and how to ask for more."""

    client: Client
    model: str
    system: str | None
    sampling: dict[str, Any]
    messages: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything but the system prompt."""
        self.messages = [{"role": "system", "content": self.system}] if self.system else []

    def say(self, text: str) -> Generator[str, None, None]:
        """Send a turn and yield the reply's pieces; what was yielded becomes the reply's turn.

        A turn that fails before the first piece is taken back.
        """
        self.messages.append({"role": "user", "content": text})
        body = {"model": self.model, "messages": self.messages, "stream": True, **self.sampling}
        said: list[str] = []
        try:
            with closing(self.client.stream("/v1/chat/completions", body)) as events:
                for piece in _pieces(events):
                    said.append(piece)
                    yield piece
        finally:
            if said:
                self.messages.append({"role": "assistant", "content": "".join(said)})
            else:
                self.messages.pop()


def _pieces(events: Iterator[dict[str, Any]]) -> Iterator[str]:
    for event in events:
        for choice in event["choices"]:
            if choice["delta"].get("content"):
                yield choice["delta"]["content"]


@click.command("chat", context_settings=CONTEXT)
@client_options
@click.option("--model", help="Which model; the first one that the daemon lists by default.")
@click.option("--system", help="System prompt.")
@click.option("--temperature", type=float, help="0 always takes the likeliest token.")
@click.option("--max-tokens", type=int, help="Longest reply.")
def command(
    url: str,
    api_key: str,
    model: str | None,
    system: str | None,
    temperature: float | None,
    max_tokens: int | None,
) -> None:
    """Chat with a running daemon; start one with `inferd serve`.

    Through a pipe, each line is a turn: echo "What is 2 + 3?" | inferd chat
    """
    sampling = {"temperature": temperature, "max_tokens": max_tokens}
    given = {key: value for key, value in sampling.items() if value is not None}
    with Client(url, api_key) as client:
        chat = Chat(client, model or _first_model(client), system, given)
        if isinstance(sys.stdin, TextIOWrapper):
            sys.stdin.reconfigure(errors="replace")  # nobody's old encoding ends a conversation
        if sys.stdin.isatty():
            _interactive(chat)
        else:
            _piped(chat)


def _first_model(client: Client) -> str:
    listed = client.models()
    if not listed:
        raise Failure("the daemon has no model ready", "See `inferd status`.")
    return str(listed[0]["id"])


def _turn(chat: Chat, line: str) -> bool:
    """Do what `line` says, a command or a turn; whether to go on."""
    if line == "/exit":
        return False
    if line == "/reset":
        chat.reset()
    elif line == "/help":
        click.echo(COMMANDS)
    elif line.startswith("/") and " " not in line:
        click.echo(f"There is no {line}.\n{COMMANDS}")
    elif line:
        with closing(chat.say(line)) as pieces:
            for piece in pieces:
                click.echo(piece, nl=False)
        click.echo()
    return True


def _piped(chat: Chat) -> None:
    for line in sys.stdin:
        if not _turn(chat, line.strip()):
            return


def _interactive(chat: Chat) -> None:
    with suppress(ImportError):
        import readline  # noqa: F401  (gives input() line editing and history, where there is one)

    click.secho(f"{chat.model} at {chat.client.url}; /help lists commands.", dim=True)
    going = True
    while going:
        try:
            line = input("\n> ")
        except (EOFError, KeyboardInterrupt):
            break
        try:
            going = _turn(chat, line.strip())
        except KeyboardInterrupt:
            click.secho(" [stopped]", dim=True)
        except Failure as failure:
            failure.show()
