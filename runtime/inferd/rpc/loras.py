"""The adapters' part of `inferd.v1.Control`."""

from __future__ import annotations

from inferd.adapters.records import AdapterState, AdapterStatus, ShadowReport, Trial
from inferd.adapters.table import Adapters
from inferd.errors import InvalidRequest
from inferd.sources import PathPolicy, check_source
from inferd_proto.v1 import control_pb2 as pb

_STATES: dict[AdapterState, pb.LoraState.ValueType] = {
    "active": pb.LORA_STATE_ACTIVE,
    "waiting": pb.LORA_STATE_WAITING,
    "failed": pb.LORA_STATE_FAILED,
    "draining": pb.LORA_STATE_DRAINING,
}


class Loras:
    """What the calls do.

    Args:
        adapters: None: this server takes none.
        paths: which folders callers may name.
    """

    def __init__(self, adapters: Adapters | None, paths: PathPolicy) -> None:
        self._adapters = adapters
        self._paths = paths

    @property
    def adapters(self) -> Adapters:
        """Raises InvalidRequest."""
        if self._adapters is None:
            raise InvalidRequest("This server takes no adapters")
        return self._adapters

    async def load(self, request: pb.LoadLoraRequest) -> pb.Lora:
        for field in ("name", "source"):
            if not getattr(request, field):
                raise InvalidRequest(f"`{field}` is required", field)
        source = check_source(request.source, self._paths, param="source")
        status = await self.adapters.load(
            request.name,
            source,
            revision=request.revision if request.HasField("revision") else None,
            token=request.token if request.HasField("token") else None,
            base=request.base if request.HasField("base") else None,
            replace=request.replace,
        )
        return _lora(status)

    async def unload(self, request: pb.UnloadLoraRequest) -> pb.UnloadLoraResponse:
        named = request.HasField("deadline_seconds")
        deadline = request.deadline_seconds if named else None
        if deadline is not None and not 0 <= deadline < float("inf"):
            raise InvalidRequest("`deadline_seconds` must be 0 or more", "deadline_seconds")
        left = await self.adapters.unload(request.name, deadline=deadline, wait=request.wait)
        return pb.UnloadLoraResponse(lora=None if left is None else _lora(left))

    def list(self, request: pb.ListLorasRequest) -> pb.ListLorasResponse:
        listed = self.adapters.list()
        if request.HasField("base"):
            listed = tuple(each for each in listed if each.base == request.base)
        return pb.ListLorasResponse(loras=[_lora(each) for each in listed])


def _lora(status: AdapterStatus) -> pb.Lora:
    return pb.Lora(
        name=status.name,
        base=status.base,
        state=_STATES[status.state],
        generation=status.generation,
        source=status.source,
        revision=status.revision,
        created=status.created,
        rank=status.rank,
        num_bytes=status.num_bytes,
        modules=status.modules,
        in_flight=status.in_flight,
        previous=[each.generation for each in status.previous],
        error=status.error,
        canary=_trial(status.canary),
        shadow=_trial(status.shadow),
    )


def _trial(trial: Trial | ShadowReport | None) -> pb.LoraTrial | None:
    if trial is None:
        return None
    return pb.LoraTrial(generation=trial.generation, percent=trial.percent)
