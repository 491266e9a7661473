"""`inferd models`: what a running daemon serves."""

from __future__ import annotations

from typing import Any

import click

from inferd.cli import CONTEXT
from inferd.cli.client import Client, client_options


@click.command("models", context_settings=CONTEXT)
@client_options
def command(url: str, api_key: str) -> None:
    """List the names that a running daemon answers to, one per line."""
    with Client(url, api_key) as client:
        listed = client.models()
    for model in listed:
        length = model.get("max_model_len")
        facts = [f"{length} tokens"] if length else []
        facts += ["deterministic"] if is_deterministic(model) else []
        click.echo("\t".join([model["id"], ", ".join(facts)] if facts else [model["id"]]))


def is_deterministic(model: dict[str, Any]) -> bool:
    """Whether this entry of `/v1/models` promises it."""
    return "deterministic" in (model.get("metadata") or {}).get("tags", ())
