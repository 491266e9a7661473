"""From a deployment's request to its spec, and from its status to the reply."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from itertools import count

from msgspec.structs import asdict

from inferd.deployments import DeploymentStatus, DeploySpec, StatsPoint
from inferd.errors import InvalidRequest
from inferd.web.deploy import machine
from inferd.web.deploy.schema import (
    Config,
    DeployHf,
    DeployLlm,
    DeploymentOut,
    DeploymentStats,
    DeployModel,
    EngineOptions,
    InstanceCounts,
    ScaleSettings,
    Totals,
    Weights,
)


def source_of(asked: DeployLlm) -> tuple[str, str]:
    """The field that says where the weights come from, and what it says. Raises InvalidRequest."""
    if (asked.hf is None) == (asked.base_model is None):
        raise InvalidRequest("`hf` or `base_model` is required, and not both", "hf")
    if asked.hf is not None:
        return "hf.repo", asked.hf.repo
    assert asked.base_model is not None
    return "base_model", asked.base_model


def spec_of_llm(asked: DeployLlm) -> DeploySpec:
    """Raises InvalidRequest."""
    _, source = source_of(asked)
    if asked.num_gpus > 1:
        raise InvalidRequest(
            f"`num_gpus` must be 1: an instance runs on one device, and this machine has "
            f"{len(machine.installed()) or 'no'} GPU{'s' * (len(machine.installed()) != 1)}",
            "num_gpus",
            kind="less_than_equal",
            limits={"le": 1},
        )
    settings = asked.settings or ScaleSettings()
    check_settings(settings)
    return DeploySpec(
        model_name=asked.model_name,
        model=source,
        revision=asked.hf.revision if asked.hf else None,
        gpu=asked.gpu,
        num_gpus=asked.num_gpus,
        max_batch_size=asked.max_batch_size,
        replaced_by=asked.replaced_by or "",
        **asdict(settings),
        **asdict(asked.engine or EngineOptions()),
    )


def spec_of_hf(asked: DeployHf) -> DeploySpec:
    """Raises InvalidRequest."""
    settings = asked.settings or ScaleSettings()
    check_settings(settings)
    return DeploySpec(model_name=asked.model_name, model=asked.model_name, **asdict(settings))


def spec_of_model(asked: DeployModel) -> DeploySpec:
    return DeploySpec(model_name=asked.model_name, model=asked.model_name, revision=asked.version)


def check_settings(settings: ScaleSettings) -> None:
    """Raises InvalidRequest."""
    if settings.min_instances > settings.max_instances:
        raise InvalidRequest(
            "`settings.min_instances` must not be above `settings.max_instances`",
            "settings.min_instances",
        )


def out_of(status: DeploymentStatus) -> DeploymentOut:
    spec, failure = status.spec, status.failure
    reason = None if failure is None else f"{failure.message} {failure.hint}".strip()
    return DeploymentOut(
        deploy_id=status.deploy_id,
        model_name=status.model_name,
        version=status.version or None,
        status=status.state,
        fail_reason=reason,
        created_at=iso(status.created_at),
        updated_at=iso(status.updated_at),
        instances=InstanceCounts(status.instances.running, status.instances.pending),
        config=_config(status),
        settings=ScaleSettings(min_instances=spec.min_instances, max_instances=spec.max_instances),
        failure=failure,
        progress=status.step,
        asleep=status.asleep,
        in_flight=status.in_flight,
        replaced_by=spec.replaced_by or None,
    )


def _config(status: DeploymentStatus) -> Config:
    spec, info = status.spec, status.engine
    return Config(
        machine.running_on(None if info is None else info.device),
        spec.num_gpus,
        spec.max_batch_size if info is None else info.max_batch_size,
        Weights(spec.model, spec.revision),
    )


def stats_of(
    status: DeploymentStatus, begin: float, end: float, points: tuple[StatsPoint, ...]
) -> DeploymentStats:
    total = Totals(
        sum(each.requests for each in points),
        sum(each.errors for each in points),
        sum(each.prompt_tokens for each in points),
        sum(each.completion_tokens for each in points),
    )
    return DeploymentStats(status.deploy_id, status.model_name, begin, end, total, points)


def free_name(wanted: str, taken: Collection[str]) -> str:
    """`wanted`, or the first of `wanted-2`, `wanted-3` … that nothing is called."""
    names = (wanted if number == 1 else f"{wanted}-{number}" for number in count(1))
    return next(name for name in names if name not in taken)


def iso(time: float) -> str:
    """Unix time in seconds as the replies write it."""
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds")
