"""`inferd adapters`: LoRA adapters of a running daemon, loaded and replaced while it serves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import click

from inferd.cli import CONTEXT
from inferd.cli.client import Client, Refused, client_options
from inferd.cli.failure import nearest
from inferd.cli.group import Subcommands, as_daemon_sees, table
from inferd.units import human_bytes

_SHOWN_CHARS = 12  # of a generation
_HEADINGS = ("NAME", "BASE", "GENERATION", "STATE", "IN FLIGHT", "CANARY", "SHADOW")

Status = dict[str, Any]


@click.group(
    "adapters",
    cls=Subcommands,
    context_settings=CONTEXT,
    epilog="""\b
Examples:
  inferd adapters load pirate ./pirate          requests may say "model": "pirate"
  inferd adapters swap pirate ./pirate-2        new requests get the new one, at once
  inferd adapters rollback pirate               and back again
  inferd adapters canary pirate ./pirate-3 --percent 10
  inferd adapters unload pirate --deadline 30

A SOURCE is a folder with adapter_config.json and adapter_model.safetensors, or a Hugging Face
id.""",
)
def command() -> None:
    """Load, replace and unload LoRA adapters while a daemon serves."""


def _from_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """What loads an adapter: SOURCE and how to get it."""
    revision = click.option("--revision", help="The hub's commit, branch or tag.")
    token = click.option("--hf-token", help="For a private repository on Hugging Face.")
    return click.argument("source")(revision(token(function)))


@contextmanager
def _about(name: str, url: str, api_key: str) -> Iterator[tuple[Client, str]]:
    """A client and the path of the adapter `name`; where there is none, says which is nearest."""
    with Client(url, api_key) as client:
        try:
            yield client, f"/v1/adapters/{quote(name)}"
        except Refused as error:
            names = [each["name"] for each in _listed(client)] if error.status == 404 else []
            if names and name not in names:
                error.hint = nearest(name, names)
            raise


def _listed(client: Client) -> list[Status]:
    listed: list[Status] = client.call("GET", "/v1/adapters")["data"]
    return listed


def _asked(source: str, revision: str | None, hf_token: str | None, **more: Any) -> dict[str, Any]:
    """A body."""
    body = {"source": as_daemon_sees(source), "revision": revision, "token": hf_token, **more}
    return {key: value for key, value in body.items() if value is not None}


@command.command("load")
@click.argument("name")
@_from_options
@click.option("--base", help="The model that it adapts. [default: what its configuration names]")
@client_options
def load(name: str, base: str | None, url: str, api_key: str, **source: Any) -> None:
    """Load the adapter SOURCE; requests may then say NAME as their model."""
    with Client(url, api_key) as client:
        status = client.call("POST", "/v1/adapters", _asked(**source, name=name, base=base))
    _say(status, "is loaded")


@command.command("list")
@client_options
def list_(url: str, api_key: str) -> None:
    """Show the adapters, and what they are doing."""
    with Client(url, api_key) as client:
        listed = _listed(client)
    if not listed:
        return click.echo("No adapter is loaded; `inferd adapters load NAME SOURCE` loads one.")
    for line in table([_HEADINGS, *map(_row, listed)]):
        click.echo(line)
    for status in listed:
        if status["error"]:
            click.echo(f"{status['name']}: {status['error']}")


@command.command("swap")
@click.argument("name")
@_from_options
@client_options
def swap(name: str, url: str, api_key: str, **source: Any) -> None:
    """Replace NAME by the adapter SOURCE; requests that run keep the one they began with."""
    with _about(name, url, api_key) as (client, path):
        status = client.call("POST", f"{path}/swap", _asked(**source))
    _say(status, "is replaced")


@command.command("rollback")
@click.argument("name")
@click.option("--to", help="A generation of its past. [default: the one before]")
@client_options
def rollback(name: str, to: str | None, url: str, api_key: str) -> None:
    """Let NAME be what it was before."""
    with _about(name, url, api_key) as (client, path):
        status = client.call("POST", f"{path}/rollback", query={"to": to} if to else None)
    _say(status, "is rolled back")


@command.command("canary")
@click.argument("name")
@_from_options
@click.option(
    "--percent",
    type=click.FloatRange(0, 100, min_open=True),
    required=True,
    help="Of its requests.",
)
@client_options
def canary(name: str, percent: float, url: str, api_key: str, **source: Any) -> None:
    """Let the adapter SOURCE answer some of NAME's requests; `promote` lets it answer all."""
    with _about(name, url, api_key) as (client, path):
        status = client.call("POST", f"{path}/canary", _asked(**source, percent=percent))
    candidate = status["canary"]["generation"][:_SHOWN_CHARS]
    click.echo(f"{name}: {percent:g} % of requests go to {candidate}")


@command.command("promote")
@click.argument("name")
@client_options
def promote(name: str, url: str, api_key: str) -> None:
    """Let NAME's canary, or else its shadow, answer all of its requests."""
    with _about(name, url, api_key) as (client, path):
        status = client.call("POST", f"{path}/promote")
    _say(status, "is now what its candidate was")


@command.command("shadow")
@click.argument("name")
@_from_options
@click.option(
    "--percent",
    type=click.FloatRange(0, 100, min_open=True),
    default=100.0,
    show_default=True,
    help="Of its requests.",
)
@client_options
def shadow(name: str, percent: float, url: str, api_key: str, **source: Any) -> None:
    """Let the adapter SOURCE score some of NAME's replies, unseen; `report` tells the outcome."""
    with _about(name, url, api_key) as (client, path):
        status = client.call("POST", f"{path}/shadow", _asked(**source, percent=percent))
    candidate = status["shadow"]["generation"][:_SHOWN_CHARS]
    click.echo(f"{name}: {candidate} scores {percent:g} % of the replies")


@command.command("stop-trial")
@click.argument("name")
@client_options
def stop_trial(name: str, url: str, api_key: str) -> None:
    """End NAME's canary and shadow."""
    with _about(name, url, api_key) as (client, path):
        status = client.call("POST", f"{path}/stop_trial")
    _say(status, "has no candidate any more")


@command.command("report")
@click.argument("name")
@client_options
def report(name: str, url: str, api_key: str) -> None:
    """Tell all that is known of NAME, and how its shadow compares."""
    with _about(name, url, api_key) as (client, path):
        status = client.call("GET", path)
    for label, text in _facts(status):
        click.echo(f"{label:11} {text}")


@command.command("unload")
@click.argument("name")
@click.option("--deadline", type=click.FloatRange(0), metavar="SECONDS", help="End what runs then.")
@click.option("--wait", is_flag=True, help="Come back when nothing uses it any more.")
@client_options
def unload(name: str, deadline: float | None, wait: bool, url: str, api_key: str) -> None:
    """Take NAME away. Requests that run with it go on, unless there is a deadline."""
    query = {"deadline": f"{deadline:g}"} if deadline is not None else {}
    if wait:
        query["wait"] = "true"
    with _about(name, url, api_key) as (client, path):
        left = client.call("DELETE", path, query=query)
    if running := left.get("in_flight"):
        return click.echo(f"{name} drains: {running} request{'s' * (running > 1)} still run")
    click.echo(f"{name} is unloaded")


def _say(status: Status, what: str) -> None:
    generation = status["generation"][:_SHOWN_CHARS]
    click.echo(f"{status['name']} {what}: generation {generation} on {status['base']}")


def _row(status: Status) -> tuple[str, ...]:
    trial, scored = status["canary"], status["shadow"]
    return (
        status["name"],
        status["base"],
        status["generation"][:_SHOWN_CHARS],
        status["state"],
        str(status["in_flight"]),
        f"{trial['generation'][:_SHOWN_CHARS]} {trial['percent']:g} %" if trial else "-",
        f"{scored['generation'][:_SHOWN_CHARS]} {scored['requests']} scored" if scored else "-",
    )


def _facts(status: Status) -> Iterable[tuple[str, str]]:
    revision = f"@{status['revision']}" if status["revision"] else ""
    yield "name", status["name"]
    yield "base", status["base"]
    yield "state", status["state"] + (f": {status['error']}" if status["error"] else "")
    yield "generation", status["generation"]
    yield "source", status["source"] + revision
    modules = ", ".join(status["modules"])
    yield "weights", f"rank {status['rank']}, {human_bytes(status['num_bytes'])}: {modules}"
    yield "in flight", str(status["in_flight"])
    for generation, count in status["served"].items():
        yield "served", f"{count} by {generation[:_SHOWN_CHARS]}"
    for each in status["previous"]:
        yield "previous", f"{each['generation'][:_SHOWN_CHARS]} from {each['source']}"
    if trial := status["canary"]:
        yield "canary", f"{trial['generation'][:_SHOWN_CHARS]}, {trial['percent']:g} % of requests"
    if scored := status["shadow"]:
        yield from _comparison(scored)


def _comparison(scored: dict[str, Any]) -> Iterable[tuple[str, str]]:
    """What a shadow found: the candidate's logprobs of replies less the current one's."""
    generation = scored["generation"][:_SHOWN_CHARS]
    yield "shadow", f"{generation}, {scored['percent']:g} % of requests"
    counts = f"{scored['requests']} requests, {scored['tokens']} tokens"
    yield "", f"{counts}; {scored['dropped']} not scored, {scored['failed']} failed"
    yield (
        "",
        f"logprob per token: {scored['mean']:+.4f} on average, "
        f"differs by {scored['mean_abs']:.4f}, by {scored['max_abs']:.4f} at most",
    )
