"""`inferd deploy`: models of a running daemon, added, changed and removed while it serves."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

import click

from inferd.cli import CONTEXT
from inferd.cli.client import Client, client_options
from inferd.cli.failure import Failure, nearest
from inferd.cli.group import Subcommands, as_daemon_sees, table
from inferd.cli.progress import Line
from inferd.config import SPECS
from inferd.config.sources import flag
from inferd.units import human_bytes

POLL_S = 0.2
_COMING = ("initializing", "downloading", "deploying")
_STAGES = {"download": "downloading", "weights": "loading weights", "warmup": "warming up"}
_HEADINGS = ("NAME", "ID", "STATUS", "INSTANCES", "ON", "IN FLIGHT", "WEIGHTS")

Status = dict[str, Any]


@click.group(
    "deploy",
    cls=Subcommands,
    context_settings=CONTEXT,
    epilog="""\b
Examples:
  inferd deploy create Qwen/Qwen3-0.6B              requests may say "model": "Qwen/Qwen3-0.6B"
  inferd deploy create ./my-model --name mine --min-instances 0
  inferd deploy list
  inferd deploy update mine --max-instances 3
  inferd deploy delete mine

A MODEL is a Hugging Face id, a folder, or `demo`. A DEPLOYMENT is a model's name or the id that
`create` and `list` show.""",
)
def command() -> None:
    """Add, change and remove models while a daemon serves."""


_wait = click.option("--wait/--no-wait", default=True, help="Come back when it is done. [default]")
_deployment = click.argument("deployment")


def _size(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Bytes, of a text like `512MiB`. Raises StartError."""
    name = "kv_cache_bytes"
    return None if value is None else SPECS[name].parse(value, flag(name))


@command.command("create")
@click.argument("model")
@click.option("--name", help="What requests write as their model. [default: MODEL's own name]")
@click.option("--revision", help="The hub's commit, branch or tag.")
@click.option("--hf-token", help="For a gated or private repository; it is not kept.")
@click.option("--min-instances", type=int, help="0: it sleeps while nobody asks. [default: 1]")
@click.option("--max-instances", type=int, help="So many run under load. [default: 1]")
@click.option("--max-batch-size", type=int, metavar="SEQUENCES", help="Most in one step.")
@click.option("--max-model-len", type=int, metavar="TOKENS", help="Prompt and output together.")
@click.option(
    "--kv-cache-bytes", callback=_size, metavar="SIZE", help="Of each instance, like 512MiB."
)
@click.option("--max-adapters", type=int, help="Adapters in one step.")
@click.option("--idle-timeout", type=float, metavar="SECONDS", help="Without requests, till sleep.")
@_wait
@client_options
def create(model: str, wait: bool, url: str, api_key: str, **options: Any) -> None:
    """Deploy MODEL, and show how that goes."""
    body = _body(model, **options)
    with Client(url, api_key) as client:
        status = client.call("POST", "/deploy/llm", body)
        click.echo(f"{status['model_name']} is deployed as {status['deploy_id']}")
        if wait:
            _until_there(client, status["deploy_id"])


@command.command("list")
@click.option("--status", help="Only these states, commas between them.")
@client_options
def list_(status: str | None, url: str, api_key: str) -> None:
    """Show the deployments, and what they are doing."""
    with Client(url, api_key) as client:
        listed = _listed(client, status)
    if not listed:
        return click.echo("There is no deployment; `inferd deploy create MODEL` makes one.")
    for line in table([_HEADINGS, *map(_row, listed)]):
        click.echo(line)
    for each in listed:
        if each["fail_reason"]:
            click.echo(f"{each['model_name']}: {each['fail_reason']}")


@command.command("show")
@_deployment
@client_options
def show(deployment: str, url: str, api_key: str) -> None:
    """Tell all that is known of DEPLOYMENT."""
    with Client(url, api_key) as client:
        status = client.call("GET", _path(client, deployment))
    for label, text in _facts(status):
        click.echo(f"{label:12} {text}")


@command.command("update")
@_deployment
@click.option("--min-instances", type=int)
@click.option("--max-instances", type=int)
@click.option("--replaced-by", help='A model that answers in its place; "" for none.')
@client_options
def update(
    deployment: str,
    min_instances: int | None,
    max_instances: int | None,
    replaced_by: str | None,
    url: str,
    api_key: str,
) -> None:
    """Change what is named, and leave the rest of DEPLOYMENT as it is."""
    with Client(url, api_key) as client:
        path = _path(client, deployment)
        asked = {"min_instances": min_instances, "max_instances": max_instances}
        present = client.call("GET", path)["settings"]
        settings = present | {name: value for name, value in asked.items() if value is not None}
        client.call("PUT", path, {"settings": settings, "replaced_by": replaced_by})
        status = client.call("GET", path)
    settings = status["settings"]
    replaced = f", replaced by {status['replaced_by']}" if status["replaced_by"] else ""
    click.echo(
        f"{status['model_name']}: {settings['min_instances']} to {settings['max_instances']} "
        f"instances{replaced}"
    )


@command.command("start")
@_deployment
@_wait
@client_options
def start(deployment: str, wait: bool, url: str, api_key: str) -> None:
    """Start DEPLOYMENT, which is stopped or failed."""
    with Client(url, api_key) as client:
        path = _path(client, deployment)
        status = client.call("POST", f"{path}/start")
        if wait:
            _until_there(client, status["deploy_id"])


@command.command("stop")
@_deployment
@_wait
@client_options
def stop(deployment: str, wait: bool, url: str, api_key: str) -> None:
    """Stop DEPLOYMENT once its requests are done; it can be started again."""
    with Client(url, api_key) as client:
        path = _path(client, deployment)
        status = client.call("POST", f"{path}/stop")
        _until_gone(client, status, wait=wait)


@command.command("delete")
@_deployment
@_wait
@client_options
def delete(deployment: str, wait: bool, url: str, api_key: str) -> None:
    """Remove DEPLOYMENT once its requests are done."""
    with Client(url, api_key) as client:
        path = _path(client, deployment)
        client.call("DELETE", path)
        _until_gone(client, client.call("GET", path), wait=wait)


@command.command("stats")
@_deployment
@click.option("--from", "since", default="now-1h", show_default=True, help="Like now-5h.")
@click.option("--to", "until", default="now", show_default=True)
@client_options
def stats(deployment: str, since: str, until: str, url: str, api_key: str) -> None:
    """Tell what DEPLOYMENT did, by the minute."""
    with Client(url, api_key) as client:
        query = {"from": since, "to": until}
        told = client.call("GET", f"{_path(client, deployment)}/stats", query=query)
    rows = [
        (time.strftime("%H:%M", time.localtime(e["time"])), *_counts(e)) for e in told["points"]
    ]
    headings = ("MINUTE", "REQUESTS", "ERRORS", "TOKENS IN", "TOKENS OUT")
    for line in table([headings, *rows, ("all", *_counts(told["total"]))]):
        click.echo(line)


def _body(model: str, **options: Any) -> dict[str, Any]:
    """Of what was not given, the daemon has defaults."""
    given = {name: value for name, value in options.items() if value is not None}
    hf = {"repo": as_daemon_sees(model)}
    hf |= {
        to: given.pop(of)
        for of, to in (("revision", "revision"), ("hf_token", "token"))
        if of in given
    }
    name = given.pop("name", None) or _name_of(hf["repo"])
    body: dict[str, Any] = {"model_name": name, "gpu": "other", "hf": hf}
    for field, names in _NESTED.items():
        if inner := {each: given.pop(each) for each in names if each in given}:
            body[field] = inner
    return body | given


_NESTED = {
    "settings": ("min_instances", "max_instances"),
    "engine": ("max_model_len", "kv_cache_bytes", "max_adapters", "idle_timeout"),
}


def _name_of(source: str) -> str:
    """A hub id without its revision; a folder's own name."""
    if os.path.isabs(source):
        return os.path.basename(source)
    return source.partition("@")[0]


def _listed(client: Client, status: str | None = None) -> list[Status]:
    query = {"status": status} if status else None
    listed: Any = client.call("GET", "/deploy/list", query=query)
    return [each for each in listed if each["type"] != "lora"]  # `inferd adapters` has those


def _path(client: Client, deployment: str) -> str:
    """Where a deployment is found that is named or whose id is given. Raises Failure."""
    listed = _listed(client)
    for key in ("deploy_id", "model_name"):
        for each in listed:
            if each[key] == deployment.removeprefix("deploy_id:"):
                return f"/deploy/{quote(each['deploy_id'])}"
    names = [each["model_name"] for each in listed]
    raise Failure(
        f"there is no deployment {deployment!r}",
        nearest(deployment, names) if names else "`inferd deploy create MODEL` makes one.",
    )


def _until_there(client: Client, deploy_id: str) -> None:
    """Show how a deployment comes to run. Raises Failure if it does not."""
    with Line() as line:
        while (status := client.call("GET", f"/deploy/{deploy_id}"))["status"] in _COMING:
            line.show(_progress(status))
            time.sleep(POLL_S)
    name = status["model_name"]
    if failure := status["failure"]:
        raise Failure(f"{name} failed: {failure['message']}", failure.get("hint", ""))
    if status["status"] != "running":
        raise Failure(f"{name} is {status['status']}")
    click.echo(f"{name} runs on {status['config']['gpu']}")


def _until_gone(client: Client, status: Status, *, wait: bool) -> None:
    """Show how a deployment comes to an end."""
    with Line() as line:
        while wait and status["status"] == "stopping":
            running = status["in_flight"]
            line.show(f"{status['model_name']}: {running} request{'s' * (running != 1)} still run")
            time.sleep(POLL_S)
            status = client.call("GET", f"/deploy/{status['deploy_id']}")
    click.echo(f"{status['model_name']} is {status['status']}")


def _progress(status: Status) -> str:
    step = status["progress"]
    stage = _STAGES.get(step["stage"], step["stage"]) if step else status["status"]
    if not step or not step["total"] or step["stage"] == "warmup":
        return f"{status['model_name']}: {stage}"
    done, total = step["done"], step["total"]
    share = f"{100 * done // total} %"
    return f"{status['model_name']}: {stage}, {share} of {human_bytes(total)}"


def _row(status: Status) -> tuple[str, ...]:
    counts, settings = status["instances"], status["settings"]
    coming = f"+{counts['pending']}" if counts["pending"] else ""
    return (
        status["model_name"],
        status["deploy_id"],
        "asleep" if status["asleep"] else status["status"],
        f"{counts['running']}{coming} ({settings['min_instances']}-{settings['max_instances']})",
        status["config"]["gpu"],
        str(status["in_flight"]),
        status["config"]["weights"]["repo"],
    )


def _facts(status: Status) -> Iterable[tuple[str, str]]:
    counts, settings, config = status["instances"], status["settings"], status["config"]
    weights = config["weights"]
    yield "name", status["model_name"]
    yield "id", status["deploy_id"]
    yield "status", status["status"] + (", asleep" if status["asleep"] else "")
    if status["fail_reason"]:
        yield "reason", status["fail_reason"]
    if status["progress"]:
        yield "progress", _progress(status).partition(": ")[2]
    yield "version", status["version"] or "not known yet"
    yield "weights", weights["repo"] + (f"@{weights['revision']}" if weights["revision"] else "")
    yield (
        "instances",
        f"{counts['running']} running, {counts['pending']} pending; "
        f"{settings['min_instances']} to {settings['max_instances']} are allowed",
    )
    yield "runs on", config["gpu"]
    yield "in flight", str(status["in_flight"])
    if status["replaced_by"]:
        yield "replaced by", status["replaced_by"]
    yield "created", status["created_at"]
    yield "changed", status["updated_at"]


def _counts(each: dict[str, int]) -> tuple[str, ...]:
    names = ("requests", "errors", "prompt_tokens", "completion_tokens")
    return tuple(str(each[name]) for name in names)
