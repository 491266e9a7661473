"""`grpc.health.v1.Health`: the server as a whole is the service "", each model one of its name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import anyio
from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1 import health_pb2_grpc as pb_grpc

from inferd.errors import NotFound, Unavailable
from inferd.registry import Entry
from inferd.rpc.boundary import Context
from inferd.service import Service

_Status = pb.HealthCheckResponse


class Health(pb_grpc.HealthServicer):
    """The service. SERVING means that new requests are welcome now.

    Args:
        interval: seconds between two looks at what is watched.
    """

    def __init__(self, service: Service, interval: float = 0.25) -> None:
        self._registry = service.registry
        self._admission = service.admission
        self._interval = interval
        self._closed = asyncio.Event()

    def close(self) -> None:
        """End what watches, since nothing will change any more."""
        self._closed.set()

    async def Check(
        self, request: pb.HealthCheckRequest, context: Context
    ) -> pb.HealthCheckResponse:
        status = self._status(request.service)
        if status == _Status.SERVICE_UNKNOWN:
            raise NotFound("No model has this name", param="service")
        return _Status(status=status)

    async def List(self, request: pb.HealthListRequest, context: Context) -> pb.HealthListResponse:
        names = ["", *(each.name for each in self._registry.entries())]
        return pb.HealthListResponse(
            statuses={name: _Status(status=self._status(name)) for name in names}
        )

    async def Watch(
        self, request: pb.HealthCheckRequest, context: Context
    ) -> AsyncGenerator[pb.HealthCheckResponse, None]:
        """The status now, and each that follows."""
        told = None
        while not self._closed.is_set():
            status = self._status(request.service)
            if status != told:
                told = status
                yield _Status(status=status)
            with anyio.move_on_after(self._interval):
                await self._closed.wait()

    def _required(self) -> list[Entry]:
        return [each for each in self._registry.entries() if each.required]

    def _status(self, service: str) -> pb.HealthCheckResponse.ServingStatus:
        try:
            asked = [self._registry.find(service)[0]] if service else self._required()
        except NotFound:
            return _Status.SERVICE_UNKNOWN
        except Unavailable:
            asked = []
        ready = bool(asked) and not any(each.obstacle for each in asked)
        welcome = ready and not self._admission.draining
        return _Status.SERVING if welcome else _Status.NOT_SERVING
