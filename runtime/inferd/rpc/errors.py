"""What an error looks like over gRPC: a status before an answer begins, an event after."""

from __future__ import annotations

import re

from grpc import StatusCode

from inferd.errors import (
    BusyError,
    CallerError,
    Conflict,
    EngineDead,
    Forbidden,
    InferdError,
    NotFound,
    StartError,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from inferd_proto.v1 import inference_pb2 as pb

Metadata = tuple[tuple[str, str], ...]


class CallAborted(CallerError):
    """`Control.Abort` ended the call."""

    code = "aborted"


class DeadlineExceeded(CallerError):
    """The call's deadline came before its end."""

    code = "deadline_exceeded"


STATUSES: dict[type[InferdError], StatusCode] = {
    InferdError: StatusCode.INTERNAL,
    CallerError: StatusCode.INVALID_ARGUMENT,
    Unauthorized: StatusCode.UNAUTHENTICATED,
    Forbidden: StatusCode.PERMISSION_DENIED,
    NotFound: StatusCode.NOT_FOUND,
    Conflict: StatusCode.ALREADY_EXISTS,
    TooLarge: StatusCode.RESOURCE_EXHAUSTED,
    CallAborted: StatusCode.CANCELLED,
    DeadlineExceeded: StatusCode.DEADLINE_EXCEEDED,
    BusyError: StatusCode.RESOURCE_EXHAUSTED,
    Unavailable: StatusCode.UNAVAILABLE,
    EngineDead: StatusCode.UNAVAILABLE,
    StartError: StatusCode.UNAVAILABLE,
}
"""Of an error's nearest class."""

_MAX_DETAILS = 2000  # characters: clients refuse metadata of more than 8 KiB, and read nothing then
_MAX_VALUE = 256


def status_of(error: InferdError) -> StatusCode:
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


def details_of(error: InferdError) -> str:
    """The status's text."""
    return error.message[:_MAX_DETAILS].encode("utf-8", "replace").decode()


def metadata_of(error: InferdError) -> Metadata:
    """The trailing metadata that goes with the status; gRPC clients honour the last by themselves
    where their service config lets them retry (gRFC A6)."""
    pairs = [("inferd-error-code", error.code or error.type)]
    if error.param:
        pairs.append(("inferd-error-param", _printable(error.param)))
    if error.retry_after is not None:
        pairs.append(("inferd-retry-after", f"{error.retry_after:g}"))
        pairs.append(("grpc-retry-pushback-ms", str(round(error.retry_after * 1000))))
    return tuple(pairs)


def failed_of(error: InferdError) -> pb.Failed:
    """The event that ends an answer which had begun."""
    failed = pb.Failed(
        code=error.code or error.type,
        message=details_of(error),
        retryable=isinstance(error, BusyError | EngineDead),
    )
    if error.retry_after is not None:
        failed.retry_after = error.retry_after
    return failed


def _printable(text: str) -> str:
    """`text` as metadata may hold it."""
    return re.sub(r"[^ -~]", "?", text[:_MAX_VALUE])
