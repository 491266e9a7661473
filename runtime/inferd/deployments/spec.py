"""What is asked for when a deployment is created."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from inferd.engines.base import EngineSpec
from inferd.errors import InvalidRequest
from inferd.names import check_name

MAX_INSTANCES = 32
MAX_BATCH_SIZE = 4096  # sequences


class DeploySpec(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model to serve, and how. None: as the daemon's options say.

    Args:
        model_name: what clients write as `model`.
        model: `demo`, a local folder, or a hub id, `org/name` or `org/name@revision`.
        revision: branch, tag or commit of a hub id. The commit found at first is kept.
        gpu: as it was asked for; what runs it is what this machine has.
        min_instances: 0: sleeps while nobody asks.
        idle_timeout: seconds without requests before it sleeps, or loses an instance.
        replaced_by: the model that answers in its place; empty: it answers itself.
    """

    model_name: str
    model: str
    revision: str | None = None
    aliases: tuple[str, ...] = ()
    gpu: str = ""
    num_gpus: int = 1
    min_instances: int = 1
    max_instances: int = 1
    idle_timeout: float | None = None
    replaced_by: str = ""
    tool_call_parser: str = "auto"
    reasoning_parser: str = "auto"
    max_batch_size: int | None = None
    max_batch_tokens: int | None = None
    max_model_len: int | None = None
    dtype: str | None = None
    quantization: str | None = None
    deterministic: bool | None = None
    kv_cache_bytes: int | None = None
    max_adapters: int | None = None
    max_adapter_rank: int | None = None

    def engine_options(self) -> dict[str, Any]:
        """What it says of the engine's options."""
        names = set(EngineSpec.__struct_fields__) & set(self.__struct_fields__) - {"model"}
        asked = {name: getattr(self, name) for name in names}
        return {name: value for name, value in asked.items() if value is not None}


def check_spec(spec: DeploySpec) -> None:
    """Raises `InvalidRequest`, which names the field."""
    for name in (spec.model_name, *spec.aliases):
        check_name(name, "model_name")
    if not spec.model:
        raise InvalidRequest("model must name a folder or a repository", "model")
    if spec.replaced_by == spec.model_name:
        raise InvalidRequest("replaced_by: a model cannot replace itself", "replaced_by")
    check_instances(spec.min_instances, spec.max_instances)
    for field, most in (("max_batch_size", MAX_BATCH_SIZE), ("num_gpus", 64)):
        value = getattr(spec, field)
        if value is not None and not 1 <= value <= most:
            raise InvalidRequest(f"{field} must be from 1 to {most}", field)
    if spec.idle_timeout is not None and not spec.idle_timeout > 0:
        raise InvalidRequest("idle_timeout must be above 0", "idle_timeout")


def check_instances(least: int, most: int) -> None:
    """Raises `InvalidRequest` unless these bounds make sense."""
    if not 0 <= least <= MAX_INSTANCES:
        raise InvalidRequest(
            f"min_instances must be from 0 to {MAX_INSTANCES}", "settings.min_instances"
        )
    if not max(1, least) <= most <= MAX_INSTANCES:
        raise InvalidRequest(
            f"max_instances must be from {max(1, least)} to {MAX_INSTANCES}",
            "settings.max_instances",
        )
