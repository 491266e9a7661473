"""The `inferd` command: its subcommands, one file each, imported when they are called."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import Any

import click

from inferd.cli.failure import Failure, nearest
from inferd.errors import InferdError

COMMANDS = {
    "serve": "Start the daemon with a model.",
    "chat": "Chat with a running daemon.",
    "models": "List the models of a running daemon.",
    "status": "Show what a running daemon is doing.",
    "adapters": "Load, replace and unload LoRA adapters of a running daemon.",
    "deploy": "Add, change and remove models of a running daemon.",
    "plan": "Say whether and how a model would fit, without loading it.",
    "bench": "Measure a server, an engine or a start.",
    "check": "Test this machine's set-up, end to end.",
}
CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
"""Click settings that all commands share."""

EPILOG = """\b
Examples:
  inferd serve                          the built-in demo model, on http://127.0.0.1:8000
  inferd serve Qwen/Qwen3-0.6B          a model from Hugging Face
  inferd serve ./my-model --port 9000   a local folder
  inferd chat                           talk to it from another terminal

`inferd COMMAND --help` says more."""


class Commands(click.Group):
    """Imports a subcommand's file when it is needed, and words its errors plainly."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command = import_module(f"inferd.cli.{name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            raise Failure(f"there is no command {name!r}", nearest(name, COMMANDS), exit_code=2)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except InferdError as error:
            raise Failure.of(error) from error


@click.group("inferd", cls=Commands, context_settings=CONTEXT, epilog=EPILOG)
@click.version_option(version("inferd"), message="inferd %(version)s")
def main() -> None:
    """inferd turns this machine into an inference cloud: models behind the APIs people use."""
