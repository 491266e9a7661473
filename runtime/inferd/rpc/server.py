"""The gRPC server: which services it has, and its limits."""

from __future__ import annotations

from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from inferd.auth import Auth
from inferd.errors import StartError
from inferd.rpc.boundary import Boundary
from inferd.rpc.calls import Calls
from inferd.rpc.control import Control
from inferd.rpc.health import Health
from inferd.rpc.inference import Inference
from inferd.rpc.kserve import KServe
from inferd.service import Service
from inferd.sources import PathPolicy
from inferd_proto.kserve import inference_pb2 as kserve_pb2
from inferd_proto.kserve import inference_pb2_grpc as kserve_pb2_grpc
from inferd_proto.v1 import control_pb2, control_pb2_grpc, inference_pb2, inference_pb2_grpc

MAX_MESSAGE_BYTES = 32 * 2**20

_FILES = (inference_pb2, control_pb2, kserve_pb2, health_pb2)
SERVICES = (
    *(service.full_name for f in _FILES for service in f.DESCRIPTOR.services_by_name.values()),
    reflection.SERVICE_NAME,
)

_IDENTITY_ONLY = (
    1  # a bit set of compression algorithms: a small message must not become a huge one
)


class RpcServer:
    """All gRPC services over one `Service`. Made, bound and started within the event loop.

    Args:
        paths: which folders of the server callers may name; none by default.
        max_message_bytes: larger requests get RESOURCE_EXHAUSTED.
    """

    def __init__(
        self,
        service: Service,
        auth: Auth,
        *,
        paths: PathPolicy = PathPolicy(),  # noqa: B008 (frozen)
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        calls = Calls()
        self._server = aio.server(
            interceptors=[Boundary(auth, calls)],
            options=_options(max_message_bytes),
        )
        inference_pb2_grpc.add_InferenceServicer_to_server(Inference(service), self._server)
        control = Control(service, calls, max_message_bytes, paths)
        control_pb2_grpc.add_ControlServicer_to_server(control, self._server)
        kserve_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(KServe(service), self._server)
        self._health = Health(service)
        health_pb2_grpc.add_HealthServicer_to_server(  # type: ignore[no-untyped-call]
            self._health, self._server
        )
        reflection.enable_server_reflection(  # type: ignore[no-untyped-call]
            SERVICES, self._server
        )

    def bind(self, host: str, port: int) -> int:
        """Take the address, for clients to wait at until `start`; 0 takes a free port.

        Returns:
            the port.
        Raises:
            StartError: the address cannot be had.
        """
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            return self._server.add_insecure_port(where)
        except RuntimeError as error:
            raise StartError(
                "bad_option",
                f"cannot listen for gRPC on {host}, port {port}",
                hint="If it is in use, take another with --grpc-port N; 0 takes a free one.",
                log=str(error),
            ) from error

    async def start(self) -> None:
        await self._server.start()

    async def stop(self, grace: float) -> None:
        """Take no more calls; end those that still run after `grace` seconds."""
        self._health.close()
        await self._server.stop(grace)


def _options(max_message_bytes: int) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.compression_enabled_algorithms_bitset", _IDENTITY_ONLY),
        ("grpc.max_concurrent_streams", 1024),  # per connection
        ("grpc.so_reuseport", 0),  # else a second daemon would share the port unnoticed
        ("grpc.keepalive_time_ms", 60_000),  # so that a client that vanished is noticed
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),  # clients may ping so often
    ]
