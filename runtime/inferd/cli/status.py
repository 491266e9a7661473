"""`inferd status`: what a running daemon is doing."""

from __future__ import annotations

import time
from collections.abc import Iterable

import click

from inferd.cli import CONTEXT
from inferd.cli.client import Client, client_options
from inferd.cli.models import is_deterministic
from inferd.units import human_seconds

Samples = dict[str, dict[str, float]]


@click.command("status", context_settings=CONTEXT)
@client_options
def command(url: str, api_key: str) -> None:
    """Show whether a running daemon is ready, and its load per model.

    Exits with 0 when the daemon is ready, with 1 when it is not or cannot be reached.
    """
    with Client(url, api_key) as client:
        ready = client.get("/health/ready", accept=(200, 503)).status_code == 200
        samples = read_metrics(client.get("/metrics").text)
        listed = {model["id"]: model for model in client.models()}
    click.echo(f"{client.url}  {'ready' if ready else 'not ready'}")
    for model, up in samples.get("inferd_engine_ready", {}).items():
        facts = listed.get(model)
        age = human_seconds(time.time() - facts["created"]) if facts else "?"
        promised = ", deterministic" if facts and is_deterministic(facts) else ""
        click.echo(f"{model}  {'ready' if up else 'not ready'}, served for {age}{promised}")
        for line in _load(samples, model) if up else ():
            click.echo(line)
    raise SystemExit(0 if ready else 1)


def _load(samples: Samples, model: str) -> Iterable[str]:
    def value(name: str) -> float:
        return samples.get(name, {}).get(model, 0.0)

    yield f"  running   {value('vllm:num_requests_running'):.0f}"
    yield f"  waiting   {value('vllm:num_requests_waiting'):.0f}"
    yield f"  KV cache  {value('vllm:kv_cache_usage_perc'):.1%} used"
    if held := value("inferd_adapters_held"):
        yield f"  adapters  {held:.0f} loaded, {value('inferd_adapters_in_slots'):.0f} in slots"
    yield (
        f"  tokens    {value('vllm:prompt_tokens_total'):.0f} in, "
        f"{value('vllm:generation_tokens_total'):.0f} out"
    )


def read_metrics(text: str) -> Samples:
    """Name → model (empty where unlabelled) → value, summed over further labels."""
    from prometheus_client.parser import text_string_to_metric_families

    samples: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            model = sample.labels.get("model_name", "")
            by_model = samples.setdefault(sample.name, {})
            by_model[model] = by_model.get(model, 0.0) + sample.value
    return samples
