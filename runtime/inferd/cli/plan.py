"""`inferd plan`: whether and how a model would fit, without loading it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from inferd.cli import CONTEXT
from inferd.cli.failure import Failure
from inferd.cli.options import TableCommand, config_of, normalise, table_params
from inferd.config.serve import MEMORY, MODEL, SCHEDULING
from inferd.units import human_bytes

if TYPE_CHECKING:
    from inferd.engines.native.plan import Plan

HELP = """Say what MODEL needs and what fits on this machine, without loading its weights.

Takes the options of `inferd serve` that matter for it. Exits with 1 when the model cannot run
here, and says the smallest change that would help."""


def _plan(**params: object) -> None:
    config = config_of(params)
    from inferd.wiring import engine_spec
    from inferd.engines.native.plan import plan
    from inferd.weights import resolve

    spec = engine_spec(config, resolve(config.model, config.revision).path)
    result = plan(spec)
    click.echo(config.model)
    for name, text in lines(result, spec.block_size, spec.max_batch_size):
        click.echo(f"  {name:13} {text}")
    if result.refusal is not None:
        raise Failure.of(result.refusal)


def lines(plan: Plan, block_size: int, max_batch_size: int) -> Iterator[tuple[str, str]]:
    """What to say about `plan`: (name, text)."""
    shape = plan.shape
    yield "architecture", shape.architecture
    yield "runner", shape.runner
    if shape.why_not_native:
        yield "", shape.why_not_native
    yield "device", f"{plan.device}, {human_bytes(plan.free_bytes)} free"
    dtype = str(shape.dtype).removeprefix("torch.")
    yield "weights", f"{human_bytes(plan.weight_bytes)}, served as {dtype}"
    yield "KV per token", human_bytes(plan.kv_bytes_per_token)
    if plan.refusal is not None:
        return
    tokens = plan.num_blocks * block_size
    size = human_bytes(tokens * plan.kv_bytes_per_token)
    yield "KV cache", f"{size}: {tokens} tokens in {plan.num_blocks} blocks of {block_size}"
    reduced = f", reduced from {shape.max_position} to what fits"
    yield (
        "max length",
        f"{plan.max_model_len} tokens" + reduced * (plan.max_model_len < shape.max_position),
    )
    full = min(max_batch_size, tokens // plan.max_model_len)
    shorter = f", or up to {max_batch_size} shorter ones" * (full < max_batch_size)
    yield "at once", f"{full} sequences of that length{shorter}"


command = TableCommand(
    "plan",
    callback=_plan,
    params=table_params((MODEL, SCHEDULING, MEMORY)),
    help=HELP,
    epilog="""\b
Examples:
  inferd plan Qwen/Qwen3-0.6B
  inferd plan ./my-model --max-model-len 8192 --kv-cache-bytes 2GiB""",
    context_settings=CONTEXT | {"token_normalize_func": normalise},
)
