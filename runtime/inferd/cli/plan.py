"""`inferd plan`: whether and how a model would fit, without loading it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import click

from inferd.cli import CONTEXT
from inferd.cli.failure import Failure
from inferd.cli.options import TableCommand, config_of, normalise, table_params
from inferd.config.serve import DEMO_MODEL, MEMORY, MODEL, SCHEDULING, ServeConfig
from inferd.errors import StartError
from inferd.units import human_bytes

if TYPE_CHECKING:
    from inferd.engines.native.kv_spec import KVSpec
    from inferd.planning import Asked, Plan

HELP = """Say what MODEL needs and what fits on this machine, without loading or downloading it.

Takes the options of `inferd serve` that matter for it. With --url a running daemon is asked, which
knows what is in use and who would have to sleep. Exits with 1 when the model cannot run, and says
the smallest change that would help."""


def _plan(**params: object) -> None:
    url, key = params.pop("url"), params.pop("api_key")
    adapters = _adapters(params.pop("adapters"))
    given = {name for name, value in params.items() if value is not None}
    config = config_of(params)
    plan = _remote(str(url), str(key), config, adapters, given) if url else _here(config, adapters)
    click.echo(plan.model)
    for name, text in lines(plan):
        click.echo(f"  {name:13} {text}")
    if not plan.fits:
        raise Failure(plan.reason, plan.change)


def _here(config: ServeConfig, adapters: int | tuple[str, ...] | None) -> Plan:
    """The plan for this machine with nothing on it."""
    from inferd.engines.gpus import list_gpus
    from inferd.estimate import budgets_of
    from inferd.ledger import Ledger
    from inferd.planning import Planner
    from inferd.residency import Residency

    budgets = budgets_of(
        list_gpus(), memory_budget=config.memory_budget, memory_fraction=config.memory_fraction
    )
    ledger = Ledger(budgets)
    planner = Planner(ledger, Residency(ledger), examine=_examine)
    try:
        return planner.plan(planner.survey(_asked(config, adapters)))
    except StartError as error:
        raise Failure.of(error) from error


def _examine(folder: Path) -> tuple[tuple[KVSpec, ...], int]:
    from inferd.engines.native.examine import examine

    return examine(folder)


def _asked(config: ServeConfig, adapters: int | tuple[str, ...] | None) -> Asked:
    from msgspec.structs import replace

    from inferd.planning import Asked
    from inferd.wiring import engine_spec

    spec = replace(engine_spec(config, Path()), engine="native")
    return Asked(_absolute(config.model), spec, config.revision, adapters)


def _adapters(given: object) -> int | tuple[str, ...] | None:
    """How many, or which."""
    named = tuple(str(each) for each in given) if isinstance(given, tuple | list) else ()
    if len(named) == 1 and named[0].isdecimal():
        return int(named[0])
    return tuple(map(_absolute, named)) or None


def _absolute(named: str) -> str:
    """A folder that is there by its whole path; anything else as it was written."""
    folder = Path(named).expanduser()
    return str(folder.absolute()) if named != DEMO_MODEL and folder.exists() else named


def _remote(
    url: str,
    key: str,
    config: ServeConfig,
    adapters: int | tuple[str, ...] | None,
    given: set[str],
) -> Plan:
    """What a running daemon says."""
    import msgspec

    from inferd.cli.client import Client
    from inferd.planning import OPTIONS, Plan

    query: list[tuple[str, object]] = [("model", _absolute(config.model))]
    query += [("revision", config.revision)] if config.revision else []
    listed = (adapters,) if isinstance(adapters, int) else adapters or ()
    query += [("adapters", each) for each in listed]
    query += [(n, getattr(config, n)) for n in OPTIONS if n in given]
    with Client(url, key) as client:
        return msgspec.json.decode(client.get(f"/v1/plan?{urlencode(query)}").content, type=Plan)


def lines(plan: Plan) -> Iterator[tuple[str, str]]:
    """What to say about `plan`: (name, text)."""
    yield "architecture", plan.architecture
    yield "runner", plan.runner
    if plan.why_not_native:
        yield "", plan.why_not_native
    free = f"{human_bytes(plan.free_bytes)} free of {human_bytes(plan.budget_bytes)} for models"
    yield "device", f"{plan.device}, {free}"
    if plan.download_bytes:
        yield "download", f"{human_bytes(plan.download_bytes)}, not yet on this machine"
    yield from _parts(plan)
    if plan.kv_tokens:
        yield from _cache(plan)
    for each in plan.evictions:
        freed = human_bytes(each.num_bytes)
        yield "sleeps", f"{each.model} at level {each.level}, which frees {freed}: {each.why}"


def _parts(plan: Plan) -> Iterator[tuple[str, str]]:
    about = "" if plan.exact else "about "
    form = f"{plan.quantization}, computed in " if plan.quantization else "served as "
    yield "weights", f"{about}{human_bytes(plan.parts['weights'])}, {form}{plan.dtype}"
    yield "KV per token", human_bytes(plan.kv_bytes_per_token)
    if plan.max_adapters:
        size = human_bytes(plan.parts["adapters"])
        yield "adapters", f"{size}: {plan.max_adapters} at once, of rank {plan.max_adapter_rank}"
    for each in plan.adapters:
        yield "", f"{each.source}: rank {each.rank}, {human_bytes(each.num_bytes)}"
    yield "workspace", human_bytes(plan.parts["workspace"])
    known = "as measured" if plan.process_measured else "until it is measured"
    yield "process", f"{human_bytes(plan.parts['process'])} {known}"
    beside = f", and {human_bytes(plan.host_bytes)} of main memory" if plan.host_bytes else ""
    yield "in all", f"{human_bytes(plan.total_bytes)} of {plan.device}{beside}"


def _cache(plan: Plan) -> Iterator[tuple[str, str]]:
    tokens, blocks = plan.kv_tokens, plan.kv_tokens // plan.block_size
    size = human_bytes(plan.parts["kv_cache"])
    yield "KV cache", f"{size}: {tokens} tokens in {blocks} blocks of {plan.block_size}"
    reduced = f", reduced from {plan.max_position} to what fits"
    shortened = plan.max_model_len < plan.max_position
    yield "max length", f"{plan.max_model_len} tokens{reduced if shortened else ''}"
    shorter = f", or up to {plan.max_batch_size} shorter ones"
    few = plan.concurrent < plan.max_batch_size
    yield "at once", f"{plan.concurrent} sequences of that length{shorter if few else ''}"


_OWN = (
    click.Option(
        ["--adapters"],
        multiple=True,
        metavar="NUMBER|FOLDER|ID",
        help="How many adapters at once, or one of those to hold; may be repeated.",
    ),
    click.Option(
        ["--url"], envvar="INFERD_URL", metavar="URL", help="Ask this daemon; $INFERD_URL."
    ),
    click.Option(
        ["--api-key"],
        envvar=["INFERD_API_KEY", "OPENAI_API_KEY"],
        default="",
        help="Its key; $INFERD_API_KEY or $OPENAI_API_KEY.",
    ),
)

command = TableCommand(
    "plan",
    callback=_plan,
    params=[*table_params((MODEL, SCHEDULING, MEMORY)), *_OWN],
    help=HELP,
    epilog="""\b
Examples:
  inferd plan Qwen/Qwen3-0.6B
  inferd plan ./my-model --max-model-len 8192 --kv-cache-bytes 2GiB
  inferd plan demo --adapters ./pirate --adapters org/poet --url http://127.0.0.1:8000""",
    context_settings=CONTEXT | {"token_normalize_func": normalise},
)
