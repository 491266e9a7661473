"""`inferd models`: what a running daemon serves."""

from __future__ import annotations

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
        click.echo(f"{model['id']}\t{length} tokens" if length else model["id"])
