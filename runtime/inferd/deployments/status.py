"""What is told of a deployment."""

from __future__ import annotations

from msgspec import Struct

from inferd.deployments.spec import DeploySpec
from inferd.lifecycle import Failure, State
from inferd.messages import EngineInfo
from inferd.replicas.instances import Instances


class Step(Struct, frozen=True):
    """How far a start has come: `download`, `weights` or `warmup`; in bytes, and `total` is 0
    where it is not known."""

    stage: str
    done: int
    total: int


class DeploymentStatus(Struct, frozen=True, kw_only=True):
    """One deployment as of now.

    Args:
        version: of the checkpoint; empty until it is known.
        created_at, updated_at: Unix time in seconds; the latter is of the last move or update.
        step: while it comes to run.
        failure: while it is `failed`.
        engine: None until the model has loaded for the first time.
        fixed: it comes from the command line; it cannot be deleted.
    """

    deploy_id: str
    model_name: str
    aliases: tuple[str, ...]
    version: str
    state: State
    failure: Failure | None
    created_at: float
    updated_at: float
    instances: Instances
    in_flight: int
    asleep: bool
    step: Step | None
    spec: DeploySpec
    engine: EngineInfo | None
    fixed: bool


class StatsPoint(Struct, frozen=True):
    """What happened in one minute. `time` is when it began, Unix time in seconds."""

    time: int
    requests: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
