"""`/deploy/…`: models that come, change and go while the daemon runs."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

from msgspec import Struct

from inferd.deployments import Deployments, DeploySpec
from inferd.errors import Conflict, Forbidden, InvalidRequest, renamed
from inferd.lifecycle import STATES, State
from inferd.registry import Registry
from inferd.web.deepinfra.body import NativeSchema, showing
from inferd.web.deploy import machine
from inferd.web.deploy.adapters import LoraDeployments
from inferd.web.deploy.convert import (
    check_settings,
    free_name,
    out_of,
    source_of,
    spec_of_hf,
    spec_of_llm,
    spec_of_model,
    stats_of,
)
from inferd.web.deploy.period import period
from inferd.web.deploy.schema import (
    OTHER,
    DeployHf,
    DeployId,
    DeployLlm,
    DeploymentOut,
    DeploymentStats,
    DeployModel,
    GpuAvailability,
    GpuConfig,
    SuggestedName,
    UpdateDeployment,
)
from inferd.web.errors import called
from inferd.web.exchange import Exchange
from inferd.web.fields import neutral
from inferd.web.reply import send_json
from inferd.web.routes import ApiRoute, Described, Parts, delete, get, post, put

TAG = "Deployments"

T = TypeVar("T", bound=Struct)

_LLM = NativeSchema(DeployLlm, refused=neutral("container_image", "extra_args"))
_HF = NativeSchema(DeployHf)
_MODEL = NativeSchema(DeployModel)
_UPDATE = NativeSchema(UpdateDeployment)


class Endpoints:
    """The endpoints."""

    def __init__(self, deployments: Deployments, parts: Parts) -> None:
        self._deployments = deployments
        self._adapters = parts.adapters
        self._loras = LoraDeployments(parts.adapters, parts.registry)
        self._registry: Registry = parts.registry
        self._now = parts.now

    # ------------------------------------------------------------ create

    async def llm(self, exchange: Exchange) -> None:
        async with _read(exchange, _LLM) as asked:
            token = asked.hf.token if asked.hf else None
            field, _ = source_of(asked)
            await self._create(exchange, spec_of_llm(asked), field, token)

    async def hf(self, exchange: Exchange) -> None:
        async with _read(exchange, _HF) as asked:
            await self._create(exchange, spec_of_hf(asked), "model_name")

    async def model(self, exchange: Exchange) -> None:
        async with _read(exchange, _MODEL) as asked:
            await self._create(exchange, spec_of_model(asked), "model_name")

    async def _create(
        self, exchange: Exchange, spec: DeploySpec, source: str, token: str | None = None
    ) -> None:
        """`source`: the field that says where the weights come from."""
        with renamed(called({"model": source, "revision": _REVISIONS[source]})):
            status = await self._deployments.create(spec, token)
        await send_json(exchange.send, out_of(status))

    # ------------------------------------------------------------ change

    async def update(self, exchange: Exchange) -> None:
        async with _read(exchange, _UPDATE) as asked:
            settings = asked.settings
            if settings is not None:
                check_settings(settings)
            status = await self._deployments.update(
                _id(exchange),
                min_instances=settings.min_instances if settings else None,
                max_instances=settings.max_instances if settings else None,
                replaced_by=asked.replaced_by,
            )
        await send_json(exchange.send, DeployId(status.deploy_id))

    async def delete(self, exchange: Exchange) -> None:
        deploy_id = _id(exchange)
        if (adapter := self._loras.find(deploy_id)) is not None:
            await self._adapters.unload(adapter.name)
        else:
            await self._deployments.delete(deploy_id)
        await send_json(exchange.send, DeployId(deploy_id))

    async def start(self, exchange: Exchange) -> None:
        await send_json(exchange.send, out_of(await self._deployments.start(_id(exchange))))

    async def stop(self, exchange: Exchange) -> None:
        await send_json(exchange.send, out_of(await self._deployments.stop(_id(exchange))))

    # ------------------------------------------------------------ look

    async def list(self, exchange: Exchange) -> None:
        states = _statuses(exchange)
        models = [out_of(each) for each in self._deployments.list(states)]
        await send_json(exchange.send, [*models, *self._loras.list(states)])

    async def get(self, exchange: Exchange) -> None:
        deploy_id = _id(exchange)
        if (adapter := self._loras.find(deploy_id)) is not None:
            return await send_json(exchange.send, self._loras.show(adapter))
        await send_json(exchange.send, out_of(self._deployments.get(deploy_id)))

    async def stats(self, exchange: Exchange) -> None:
        await send_json(exchange.send, self._stats(exchange, _id(exchange)))

    async def all_stats(self, exchange: Exchange) -> None:
        ids = [each.deploy_id for each in self._deployments.list()]
        await send_json(exchange.send, [self._stats(exchange, each) for each in ids])

    def _stats(self, exchange: Exchange, deploy_id: str) -> DeploymentStats:
        query = exchange.query
        begin, end = period(query.get("from"), query.get("to"), self._now())
        points = self._deployments.stats(deploy_id, begin, end)
        return stats_of(self._deployments.get(deploy_id), begin, end, points)

    async def gpus(self, exchange: Exchange) -> None:
        kinds = dict.fromkeys(machine.installed().values()) or {OTHER: None}
        configs = [
            GpuConfig(f"1x{kind}", 0.0, available=True, recommended=number == 0)
            for number, kind in enumerate(kinds)
        ]
        await send_json(exchange.send, GpuAvailability(configs))

    async def suggest_name(self, exchange: Exchange) -> None:
        repo = exchange.query.get("repo", "").partition("@")[0].rstrip("/")
        wanted = _NOT_IN_NAMES.sub("", repo.rpartition("/")[2][:100]).lstrip(".")
        taken = {name for entry in self._registry.entries() for name in entry.names}
        await send_json(exchange.send, SuggestedName(free_name(wanted or "model", taken)))


_NOT_IN_NAMES = re.compile(r"[^\w.-]", re.ASCII)
_REVISIONS = {"hf.repo": "hf.revision", "base_model": "base_model", "model_name": "version"}


@asynccontextmanager
async def _read(exchange: Exchange, schema: NativeSchema[T]) -> AsyncIterator[T]:
    """The body; what is wrong with it is shown with the value that was sent."""
    values = await schema.values(exchange)
    with showing(values):
        yield schema.check(values)


def _id(exchange: Exchange) -> str:
    return exchange.path_params["deploy_id"].removeprefix("deploy_id:")


def _statuses(exchange: Exchange) -> list[State] | None:
    """Raises InvalidRequest."""
    text = exchange.query.get("status")
    if not text:
        return None
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in STATES]:
        raise InvalidRequest(
            f"`status` must be of {', '.join(STATES)}, not {unknown[0][:64]}", "status"
        )
    return [cast(State, name) for name in names]


_REFUSALS = (
    (Forbidden(""), "The operator does not allow this folder"),
    (Conflict(""), "The name is taken, or the deployment in a state that does not allow this"),
)
_PERIOD = {
    "from": "when the time begins: `now-5h`, Unix time or ISO 8601; by default an hour before `to`",
    "to": "when it ends; by default now",
}


def routes(parts: Parts) -> list[ApiRoute]:
    if parts.deployments is None:
        return []
    made = Endpoints(parts.deployments, parts)
    return [*_creating(made), *_changing(made), *_looking(made)]


def _creating(made: Endpoints) -> list[ApiRoute]:
    settings = {"min_instances": 0, "max_instances": 1}
    llm = _described(
        "Deploy a model",
        DeployLlm,
        DeploymentOut,
        {"model_name": "mine", "gpu": "other", "hf": {"repo": "org/model"}, "settings": settings},
    )
    hf = _described(
        "Deploy a public model under its name on the hub",
        DeployHf,
        DeploymentOut,
        {"model_name": "org/model", "task": "text-generation"},
    )
    model = _described(
        "Deploy a public model under its name on the hub, at a revision",
        DeployModel,
        DeploymentOut,
        {"provider": "huggingface", "model_name": "org/model", "version": "main"},
    )
    return [
        post("/deploy/llm", made.llm, llm),
        *(post(path, made.hf, hf) for path in ("/deploy/hf/", "/deploy/hf")),
        post("/v1/deploy", made.model, model),
    ]


def _changing(made: Endpoints) -> list[ApiRoute]:
    update = _described(
        "Change a deployment's settings",
        UpdateDeployment,
        DeployId,
        {"settings": {"min_instances": 1, "max_instances": 2}},
    )
    one = "/deploy/{deploy_id}"
    return [
        put(one, made.update, update),
        delete(one, made.delete, _described("Delete a deployment", None, DeployId)),
        post(f"{one}/start", made.start, _described("Start a deployment", None, DeploymentOut)),
        post(f"{one}/stop", made.stop, _described("Stop a deployment", None, DeploymentOut)),
    ]


def _looking(made: Endpoints) -> list[ApiRoute]:
    status = {"status": "only these states, commas between them; by default all but `deleted`"}
    every = Described("List the deployments", TAG, reply=list[DeploymentOut], query=status)
    gpus = Described("List what this machine can run models on", TAG, reply=GpuAvailability)
    name = Described(
        "Suggest a free name for a model",
        TAG,
        reply=SuggestedName,
        query={"repo": "the repository that will be deployed"},
    )
    all_stats = Described(
        "Tell what all deployments did", TAG, reply=list[DeploymentStats], query=_PERIOD
    )
    one = Described("Show a deployment", TAG, reply=DeploymentOut)
    stats = Described("Tell what a deployment did", TAG, reply=DeploymentStats, query=_PERIOD)
    return [
        *(get(path, made.list, every) for path in ("/deploy/list", "/deploy/list/")),
        get("/deploy/llm/gpu_availability", made.gpus, gpus),
        get("/deploy/llm/suggest_name", made.suggest_name, name),
        get("/deploy/stats", made.all_stats, all_stats),
        get("/deploy/{deploy_id}", made.get, one),
        get("/deploy/{deploy_id}/stats", made.stats, stats),
    ]


def _described(
    summary: str, body: type[Struct] | None, reply: Any, example: dict[str, Any] | None = None
) -> Described:
    return Described(summary, TAG, body=body, reply=reply, example=example, refusals=_REFUSALS)
