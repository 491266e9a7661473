"""`inferd.v1.Control`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from urllib.parse import unquote

from inferd import __version__
from inferd.card import Cards, ModelCard
from inferd.config.serve import is_loopback
from inferd.engines.base import EngineState
from inferd.errors import Forbidden, InferdError, NotFound
from inferd.lifecycle import State
from inferd.messages import EngineInfo, EngineStats
from inferd.registry import Deployment, Entry
from inferd.rpc.boundary import Context
from inferd.rpc.calls import Calls, current
from inferd.rpc.loras import Loras
from inferd.service import Service
from inferd.sources import PathPolicy
from inferd.text import sampling
from inferd.text.tools.check import MAX_TOOLS
from inferd_proto.v1 import control_pb2 as pb
from inferd_proto.v1 import control_pb2_grpc as pb_grpc
from inferd_proto.v1.inference_pb2 import Format, LogprobsMode

_STATS_SECONDS = 2.0  # an engine slower than this counts as silent
_PROGRESS_SECONDS = 0.25

_STATES: dict[EngineState | State, pb.ModelState.ValueType] = {
    "starting": pb.MODEL_STATE_STARTING,
    "ready": pb.MODEL_STATE_READY,
    "asleep": pb.MODEL_STATE_ASLEEP,
    "restarting": pb.MODEL_STATE_RESTARTING,
    "failed": pb.MODEL_STATE_FAILED,
    "closed": pb.MODEL_STATE_CLOSED,
    "initializing": pb.MODEL_STATE_INITIALIZING,
    "downloading": pb.MODEL_STATE_DOWNLOADING,
    "deploying": pb.MODEL_STATE_DEPLOYING,
    "stopping": pb.MODEL_STATE_STOPPING,
    "stopped": pb.MODEL_STATE_STOPPED,
}
_SERVING = ("running", "deleted")


class Control(pb_grpc.ControlServicer):
    """The service.

    Args:
        message_bytes: the server's limit, for clients to know.
        paths: which folders of the server callers may name.
    """

    def __init__(
        self, service: Service, calls: Calls, message_bytes: int, paths: PathPolicy
    ) -> None:
        self._registry = service.registry
        self._admission = service.admission
        self._calls = calls
        self._message_bytes = message_bytes
        self._cards = Cards(service.registry, service.adapters)
        self._loras = Loras(service.adapters, paths)

    async def GetServerInfo(
        self, request: pb.GetServerInfoRequest, context: Context
    ) -> pb.ServerInfo:
        return pb.ServerInfo(
            name="inferd",
            version=__version__,
            limits=pb.Limits(
                message_bytes=self._message_bytes,
                n=sampling.MAX_N,
                stop=sampling.MAX_STOPS,
                stop_token_ids=sampling.MAX_STOP_TOKEN_IDS,
                logprobs=sampling.MAX_LOGPROBS,
                logit_bias=sampling.MAX_LOGIT_BIAS,
                tools=MAX_TOOLS,
                sequences=self._admission.limit,
            ),
            formats=[field.name for field in Format.DESCRIPTOR.fields],
            logprobs_modes=LogprobsMode.keys()[1:],
        )

    async def ListModels(
        self, request: pb.ListModelsRequest, context: Context
    ) -> pb.ListModelsResponse:
        """What serves, and behind it what comes, goes, stopped or failed."""
        serving = [_model(each) for each in self._cards.deployments()]
        others = (each for each in self._registry.entries() if each.state not in _SERVING)
        return pb.ListModelsResponse(models=[*serving, *map(_entry, others)])

    async def GetModelInfo(self, request: pb.GetModelInfoRequest, context: Context) -> pb.ModelInfo:
        return _model(self._cards.resolve(request.model))

    async def GetLoad(self, request: pb.GetLoadRequest, context: Context) -> pb.Load:
        named = request.HasField("model")
        asked = [self._registry.resolve(request.model)] if named else self._registry.list()
        return pb.Load(
            in_flight=self._admission.in_flight,
            limit=self._admission.limit,
            draining=self._admission.draining,
            models=await asyncio.gather(*map(_load, asked)),
        )

    async def Abort(self, request: pb.AbortRequest, context: Context) -> pb.AbortResponse:
        aborted = self._calls.abort(current.get().caller, request.request_id)
        if not aborted:
            raise _NotRunning("You have no call of this id that runs", param="request_id")
        return pb.AbortResponse(aborted=aborted)

    async def Drain(
        self, request: pb.DrainRequest, context: Context
    ) -> AsyncGenerator[pb.DrainProgress, None]:
        if not is_local(context.peer()):
            raise Forbidden("Only the server's own machine may drain it")
        self._admission.begin_drain()
        told = None
        while not await self._admission.drained(_PROGRESS_SECONDS if told is not None else 0):
            if told != self._admission.in_flight:
                told = self._admission.in_flight
                yield pb.DrainProgress(in_flight=told)
        yield pb.DrainProgress(in_flight=0, done=True)

    async def LoadLora(self, request: pb.LoadLoraRequest, context: Context) -> pb.Lora:
        return await self._loras.load(request)

    async def UnloadLora(
        self, request: pb.UnloadLoraRequest, context: Context
    ) -> pb.UnloadLoraResponse:
        return await self._loras.unload(request)

    async def ListLoras(
        self, request: pb.ListLorasRequest, context: Context
    ) -> pb.ListLorasResponse:
        return self._loras.list(request)


class _NotRunning(NotFound):
    code = "call_not_found"


def is_local(peer: str) -> bool:
    """Whether a peer, as gRPC writes it (`ipv4:127.0.0.1:5000`, `ipv6:%5B::1%5D:5000`), is on
    this machine."""
    kind, _, address = unquote(peer).partition(":")
    host = address.rpartition(":")[0].strip("[]").removeprefix("::ffff:")
    return kind == "unix" or (kind in ("ipv4", "ipv6") and is_loopback(host))


async def _load(deployment: Deployment) -> pb.ModelLoad:
    load = pb.ModelLoad(model=deployment.name, state=_STATES[deployment.engine.state])
    stats = await _stats(deployment)
    if stats is not None:
        load.running = stats.running
        load.waiting = stats.waiting
        load.kv_blocks_used = stats.kv_blocks_used
        load.kv_blocks_total = stats.kv_blocks_total
    return load


async def _stats(deployment: Deployment) -> EngineStats | None:
    """None where the engine does not answer."""
    if not deployment.ready:
        return None
    try:
        return await asyncio.wait_for(deployment.engine.stats(), _STATS_SECONDS)
    except (InferdError, TimeoutError):
        return None


def _model(card: ModelCard) -> pb.ModelInfo:
    defaults = card.defaults
    return pb.ModelInfo(
        name=card.name,
        aliases=card.aliases,
        version=card.version,
        deploy_id=card.deploy_id,
        created=card.created,
        state=_STATES[card.state],
        tags=card.tags,
        chat_template=card.chat_template,
        defaults=pb.SamplingDefaults(
            temperature=defaults.temperature,
            top_k=defaults.top_k,
            top_p=defaults.top_p,
            min_p=defaults.min_p,
            repetition_penalty=defaults.repetition_penalty,
        ),
        engine=None if card.engine is None else _engine(card.engine),
        replaced_by=card.replaced_by or None,
    )


def _entry(entry: Entry) -> pb.ModelInfo:
    """Of a deployment that serves nothing now."""
    return pb.ModelInfo(
        name=entry.name,
        aliases=entry.aliases,
        deploy_id=entry.deploy_id,
        created=entry.created,
        state=_STATES[entry.state],
        failure=None if entry.failure is None else entry.failure.message,
        replaced_by=entry.replaced_by or None,
    )


def _engine(info: EngineInfo) -> pb.EngineInfo:
    return pb.EngineInfo(
        **{field.name: getattr(info, field.name) for field in pb.EngineInfo.DESCRIPTOR.fields}
    )
