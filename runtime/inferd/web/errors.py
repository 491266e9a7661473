"""What an error looks like over HTTP: status, headers and body, by family of routes.

Three families: the OpenAI dialect's `{"error": {…}}`, Anthropic's `{"type": "error", …}`, and
DeepInfra's native `{"detail": …}`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from inferd.errors import (
    BusyError,
    CallerError,
    EngineDead,
    InferdError,
    InvalidRequest,
    NotFound,
    TooLarge,
    Unauthorized,
    Unavailable,
)

Family = Literal["openai", "anthropic", "native"]

OVERLOADED = 529  # Anthropic's status where others say 503


class OpenAIError(Struct):
    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIErrorBody(Struct):
    error: OpenAIError


class AnthropicError(Struct):
    type: str
    message: str


class AnthropicErrorBody(Struct, tag_field="type", tag="error"):
    """A reply, and the data of the event that ends a stream which broke off."""

    error: AnthropicError
    request_id: str


class NativeError(Struct):
    error: str


class NativeErrorBody(Struct):
    detail: NativeError


class InvalidField(Struct, omit_defaults=True):
    """One entry of pydantic's list. `input` is the value at fault, cut where it is long."""

    type: str
    loc: list[str | int]
    msg: str
    input: Any = UNSET
    ctx: dict[str, Any] | UnsetType = UNSET


class InvalidFields(Struct):
    """The native reply with status 422."""

    detail: list[InvalidField]


class NativeErrorEvent(Struct):
    """Ends a native stream that broke off."""

    error_type: str
    error_message: str


class NoRoute(NotFound):
    """No route has this path."""

    code = "route_not_found"


class WrongMethod(CallerError):
    """The route exists, for other methods."""

    status = 405

    def __init__(self, message: str, allow: str) -> None:
        super().__init__(message)
        self.allow = allow


_NATIVE = ("/v1/inference/", "/v1/deploy")  # below /v1


def family_of(path: str) -> Family:
    """Which family's errors `path` speaks; decided for unknown paths too."""
    if path == "/v1/messages" or path.startswith(("/v1/messages/", "/anthropic/")):
        return "anthropic"
    if path in ("/tokenize", "/detokenize"):
        return "openai"
    native = path.startswith(_NATIVE) or not path.startswith("/v1/")
    return "native" if native else "openai"


def status_of(error: InferdError, family: Family) -> int:
    """The OpenAI dialect answers an invalid field with 400, as OpenAI does (its clients raise
    BadRequestError); the native one with 422, as FastAPI does. To Anthropic's clients a full
    queue is 429, as to all others, and a model that is not there now is 529."""
    if family == "native" and isinstance(error, InvalidRequest):
        return 422
    if family == "anthropic" and isinstance(error, Unavailable | EngineDead):
        return OVERLOADED
    return error.status


def headers_of(error: InferdError) -> list[tuple[bytes, bytes]]:
    headers = []
    if error.retry_after is not None:
        headers.append((b"retry-after", str(max(1, math.ceil(error.retry_after))).encode()))
    if isinstance(error, Unauthorized):
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, WrongMethod):
        headers.append((b"allow", error.allow.encode("latin-1")))
    return headers


def body_of(error: InferdError, family: Family, request_id: str = "") -> Struct:
    """`request_id` as the reply's headers have it."""
    if family == "openai":
        return _openai(error)
    if family == "anthropic":
        return _anthropic(error, request_id)
    if isinstance(error, InvalidRequest):
        return InvalidFields([_invalid(error)])
    return NativeErrorBody(NativeError(error.message))


def event_of(error: InferdError, family: Family, request_id: str = "") -> Struct:
    """The data of the event that ends an answer which had begun."""
    if family == "openai":
        return _openai(error)
    if family == "anthropic":
        return _anthropic(error, request_id)
    if isinstance(error, InvalidRequest):
        return NativeErrorEvent("validation_error", error.message)
    return NativeErrorEvent(error.code or error.type, error.message)


def _openai(error: InferdError) -> OpenAIErrorBody:
    return OpenAIErrorBody(OpenAIError(error.message, error.type, error.param, error.code))


_ANTHROPIC_TYPES: list[tuple[type[InferdError], str]] = [  # the first that fits
    (Unauthorized, "authentication_error"),
    (NotFound, "not_found_error"),
    (TooLarge, "request_too_large"),
    (CallerError, "invalid_request_error"),
    (Unavailable, "overloaded_error"),
    (EngineDead, "overloaded_error"),
    (BusyError, "rate_limit_error"),
    (InferdError, "api_error"),
]


def _anthropic(error: InferdError, request_id: str) -> AnthropicErrorBody:
    """There is no field for the parameter, so the message must name it."""
    kind = next(name for each, name in _ANTHROPIC_TYPES if isinstance(error, each))
    named = not error.param or error.param in error.message
    message = error.message if named else f"{error.param}: {error.message}"
    return AnthropicErrorBody(AnthropicError(kind, message), request_id)


def _invalid(error: InvalidRequest) -> InvalidField:
    path = error.param.split(".") if error.param else []
    loc = ["body", *(int(part) if part.isdecimal() else part for part in path)]
    limits = UNSET if error.limits is None else dict(error.limits)
    return InvalidField(error.kind, loc, error.message, error.input, limits)


def called(names: Mapping[str, str]) -> Callable[[str], str]:
    """For `renamed`: the dialect has the fields of `Generate`, those in `names` by other names."""

    def path(ours: str) -> str:
        field, dot, below = ours.partition(".")
        return f"{names.get(field, field)}{dot}{below}"

    return path
