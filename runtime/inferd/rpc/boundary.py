"""What surrounds every call: who calls, its id, its deadline, and errors as statuses."""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Any, NoReturn, TypeAlias

import anyio
import grpc
from google.protobuf.message import DecodeError
from grpc import aio

from inferd.announce import headers_of
from inferd.auth import ANONYMOUS, Auth
from inferd.errors import InferdError, InvalidRequest, Unauthorized, told
from inferd.messages import Caller, Start
from inferd.rpc.calls import Call, Calls
from inferd.rpc.errors import (
    CallAborted,
    DeadlineExceeded,
    details_of,
    metadata_of,
    status_of,
)

_log = logging.getLogger("inferd.rpc")
_access = logging.getLogger("inferd.rpc.access")

OPEN_METHODS = frozenset({"/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"})
"""Probes and clients' own health checking send no key."""

_SANE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

Context: TypeAlias = "aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Parse = Callable[[bytes], Any]


class Boundary(aio.ServerInterceptor):
    """Lets a call in only if `auth` knows its caller; `OPEN_METHODS` are the sole exception.

    Inside, replies of a stream are written one by one as the client takes them, and leaving the
    call, however it happens, closes the stream's generator in the task that ran it.
    """

    def __init__(self, auth: Auth, calls: Calls) -> None:
        self._auth = auth
        self._calls = calls

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        call_id, method = _call_id(handler_call_details), handler_call_details.method
        try:
            caller = self._caller(handler_call_details)
        except Unauthorized as error:
            return _refusal(error, call_id, method)
        handler = await continuation(handler_call_details)
        return handler and self._guarded(handler, Call(call_id, caller, method))

    def _caller(self, details: grpc.HandlerCallDetails) -> Caller:
        if details.method in OPEN_METHODS:
            return ANONYMOUS
        pairs = ((key.encode(), value) for key, value in details.invocation_metadata)
        return self._auth.authenticate(
            (key, value.encode() if isinstance(value, str) else value) for key, value in pairs
        )

    def _guarded(self, handler: Handler, call: Call) -> Handler:
        """`handler`, given bytes to parse itself: gRPC would answer malformed ones with UNKNOWN."""
        parse, write = handler.request_deserializer, handler.response_serializer
        assert parse is not None

        async def unary(raw: bytes, context: Context) -> Any:
            async with self._inside(call, context):
                return await inner(_parsed(raw, parse), context)

        async def stream(raw: bytes, context: Context) -> None:
            async with self._inside(call, context):
                await _send(inner(_parsed(raw, parse), context), context)

        async def duplex(raws: AsyncIterator[bytes], context: Context) -> None:
            async with self._inside(call, context):
                requests = (_parsed(raw, parse) async for raw in raws)
                await _send(inner(requests, context), context)

        inner: Any
        if handler.request_streaming:
            assert handler.response_streaming, "no service has such methods"
            inner = handler.stream_stream
            return grpc.stream_stream_rpc_method_handler(duplex, None, write)
        if handler.response_streaming:
            inner = handler.unary_stream
            return grpc.unary_stream_rpc_method_handler(stream, None, write)
        inner = handler.unary_unary
        return grpc.unary_unary_rpc_method_handler(unary, None, write)

    def _inside(self, call: Call, context: Context) -> AbstractAsyncContextManager[None]:
        return _inside(self._calls, call, context)


@asynccontextmanager
async def _inside(calls: Calls, call: Call, context: Context) -> AsyncIterator[None]:
    context.set_trailing_metadata(_id_metadata(call.id))
    status = grpc.StatusCode.CANCELLED  # as the client sees it that leaves
    remaining: float | None = context.time_remaining()
    if remaining is not None:
        call.scope.deadline = anyio.current_time() + remaining
    try:
        with call.scope, calls.running(call):
            yield
        if call.scope.cancelled_caught:
            raise _ended(call)
        status = grpc.StatusCode.OK
    except aio.BaseError:  # the connection's own trouble
        raise
    except Exception as raised:
        error = told(raised, _log, f"request {call.id} refused")
        status = status_of(error)
        await _abort(context, error, call.id)
    finally:
        _access.info("%s %s %s", context.peer(), call.method, status.name)


def _ended(call: Call) -> InferdError:
    if call.aborted:
        return CallAborted("The call was aborted by its caller")
    return DeadlineExceeded("The deadline came first")


async def _send(replies: Any, context: Context) -> None:
    async with aclosing(replies):
        async for reply in replies:
            await context.write(reply)


async def announce(context: Context, starts: Sequence[Start]) -> None:
    """Say in the call's initial metadata what answers; before the first message of the reply."""
    if said := headers_of(starts):
        await context.send_initial_metadata(said)


def _parsed(raw: bytes, parse: Parse) -> Any:
    try:
        return parse(raw)
    except DecodeError:
        raise InvalidRequest("The message cannot be parsed") from None


def _refusal(error: InferdError, call_id: str, method: str) -> Handler:
    """Answers before the message is read, whatever the method's kind."""

    async def refuse(requests: AsyncIterator[bytes], context: Context) -> None:
        _access.info("%s %s %s", context.peer(), method, status_of(error).name)
        await _abort(context, error, call_id)

    return grpc.stream_stream_rpc_method_handler(refuse)


async def _abort(context: Context, error: InferdError, call_id: str) -> NoReturn:
    metadata = (*_id_metadata(call_id), *metadata_of(error))
    await context.abort(status_of(error), details_of(error), metadata)


def _call_id(details: grpc.HandlerCallDetails) -> str:
    """The client's own id if it sent a sane one, else one of ours."""
    for key, value in details.invocation_metadata:
        if key == "x-request-id" and isinstance(value, str) and _SANE_ID.fullmatch(value):
            return value
    return secrets.token_hex(12)


def _id_metadata(call_id: str) -> tuple[tuple[str, str], ...]:
    return (("x-request-id", call_id),)
