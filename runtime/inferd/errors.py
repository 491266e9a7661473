"""Every error a client or an operator can meet, in one tree; the status each one maps to.

InferdError
├── CallerError        4xx: the request is at fault; repeating it unchanged cannot help
│   ├── InvalidRequest     400, or 422 where a dialect wants it; names the field
│   ├── ContextTooLong     400, in the words that clients recognise
│   ├── Unauthorized       401
│   ├── Forbidden          403
│   ├── NotFound           404
│   ├── Conflict           409
│   └── TooLarge           413
├── BusyError          429 or 503: nothing is wrong with the request; try again
├── EngineError        500: this request failed; the model goes on
├── EngineDead         503: this model's process ended, or was ended, under the request
└── StartError         the model could not be started; says what would help

`message` is written for the client. `log` is for the operator and never leaves the machine.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from msgspec import UNSET

INTERNAL_ERROR = "Internal server error"


class InferdError(Exception):
    """An error with a text for the client and, apart from it, one for the log."""

    status = 500
    type = "internal_error"
    code: str | None = None
    retry_after: float | None = None  # seconds

    def __init__(self, message: str, *, log: str = "", param: str | None = None) -> None:
        super().__init__(log or message)
        self.message = message
        self.param = param


class CallerError(InferdError):
    """The request is at fault."""

    status = 400
    type = "invalid_request_error"


class InvalidRequest(CallerError):
    """A field is missing, of a wrong type or out of range.

    Args:
        message: what is wrong, in a sentence.
        param: the field's path, dots between names: `messages.0.content`.
        kind: pydantic's error type for those lists.
        limits: what was exceeded, by pydantic's names: `{"ge": 1}`.

    `input` is the value at fault, where a front end has it at hand.
    """

    def __init__(
        self,
        message: str,
        param: str | None = None,
        *,
        kind: str = "value_error",
        limits: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message, param=param)
        self.kind = kind
        self.limits = limits
        self.input: object = UNSET


class ContextTooLong(CallerError):
    """Prompt plus requested output exceed the model's context."""

    code = "context_length_exceeded"

    def __init__(
        self, limit: int, prompt: int, requested: int, param: str, *, at_least: bool = False
    ) -> None:
        """All three counts are in tokens; `requested` is 0 where no maximum was asked.

        `at_least`: `prompt` is a lower bound, since nobody counted further.
        """
        bound = "at least " if at_least else ""
        total = f" However, you requested {prompt + requested} tokens" if requested else ""
        parts = (
            f"{total} ({prompt} in the {param}, {requested} in the completion)."
            if requested
            else f" However, your {param} resulted in {bound}{prompt} tokens."
        )
        super().__init__(
            f"This model's maximum context length is {limit} tokens."
            f"{parts} Please reduce the length of the {param}"
            + (" or completion." if requested else "."),
            param=param,
        )


class Unauthorized(CallerError):
    """No credentials, or wrong ones."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class NotFound(CallerError):
    """No such model or route."""

    status = 404
    type = "invalid_request_error"
    code = "model_not_found"


class Forbidden(CallerError):
    """The operator does not allow this; names the field."""

    status = 403
    type = "permission_error"
    code = "forbidden"


class Conflict(CallerError):
    """What was asked contradicts the state that something is in; says which."""

    status = 409
    code = "conflict"


class TooLarge(CallerError):
    """The body exceeds the server's limit."""

    status = 413


class BusyError(InferdError):
    """Too much work is waiting; the same request may pass later."""

    status = 429
    type = "invalid_request_error"
    code = "engine_overloaded"

    def __init__(
        self, message: str = "Model busy, retry later", *, retry_after: float = 1.0, log: str = ""
    ) -> None:
        super().__init__(message, log=log)
        self.retry_after = retry_after


class Unavailable(BusyError):
    """The model is starting, draining or restarting."""

    status = 503
    type = "service_unavailable"
    code = "model_not_ready"


class EngineError(InferdError):
    """The engine failed on this request alone."""

    code = "engine_error"

    def __init__(
        self, message: str = "The engine failed on this request", *, log: str = ""
    ) -> None:
        super().__init__(message, log=log)


class EngineDead(InferdError):
    """The model's process ended, or was ended, while the request ran."""

    status = 503
    code = "engine_dead"
    retry_after = 5.0

    def __init__(
        self,
        message: str = "The model's engine stopped while this request ran",
        *,
        log: str = "",
    ) -> None:
        super().__init__(message, log=log)


class StartError(InferdError):
    """A model could not be started.

    Args:
        code: `unsupported`, `not_found`, `forbidden`, `bad_weights`, `out_of_memory`,
            `out_of_disk`, `bad_option` or `crashed`.
        message: what happened, in a sentence.
        hint: the smallest change that would help, in a sentence; empty when unknown.
        bytes_needed, bytes_free: for `out_of_memory`; None where unknown.
    """

    status = 503
    type = "start_error"

    def __init__(
        self,
        code: str,
        message: str,
        *,
        hint: str = "",
        bytes_needed: int | None = None,
        bytes_free: int | None = None,
        log: str = "",
    ) -> None:
        super().__init__(message, log=log)
        self.code = code
        self.hint = hint
        self.bytes_needed = bytes_needed
        self.bytes_free = bytes_free


def told(raised: Exception, log: logging.Logger, what: str) -> InferdError:
    """The error to tell the client of, after logging that `what` happened: a caller's fault for
    debugging only, and an exception that is not ours whole, since its text goes nowhere else."""
    if not isinstance(raised, InferdError):
        log.error("%s", what, exc_info=raised)
        return InferdError(INTERNAL_ERROR)
    level = logging.WARNING if raised.status >= 500 else logging.DEBUG
    log.log(level, "%s (%s): %s", what, type(raised).__name__, raised)
    return raised


@contextmanager
def renamed(path: Callable[[str], str]) -> Iterator[None]:
    """Errors that name a field of `Generate`, or something below it, name what `path` makes of
    that instead, in their messages as well."""
    try:
        yield
    except InferdError as error:
        if error.param:
            ours, error.param = error.param, path(error.param)
            field = ours.partition(".")[0]
            error.message = _renamed_in(error.message, {ours: error.param, field: path(field)})
        raise


def _renamed_in(message: str, names: Mapping[str, str]) -> str:
    """`message` with the first of `names` that it holds replaced, where that stands first."""
    for ours, theirs in names.items():
        if found := re.search(rf"(?<![\w.]){re.escape(ours)}(?!\w)", message):
            return message[: found.start()] + theirs + message[found.end() :]
    return message
