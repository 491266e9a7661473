"""The body of a native request: JSON as people write it, or a form."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import msgspec

from inferd.errors import InvalidRequest
from inferd.web.body import Schema, object_of
from inferd.web.coerce import FormFields
from inferd.web.exchange import Exchange
from inferd.web.multipart import parse_multipart, parse_urlencoded

T = TypeVar("T", bound=msgspec.Struct)

Values = dict[str, object]
"""A body's values by the names of its fields, not checked yet."""

MAX_REPAIRED = 2**16  # bytes of JSON that is looked through for commas too many
MAX_SHOWN = 256  # characters of a wrong value in the reply that refuses it

_THREAD_BYTES = 2**16  # larger forms would be felt by other streams
_TRAILING_COMMA = re.compile(rb'("(?:[^"\\]|\\.)*+"?)|,(?=\s*+[}\]])', re.DOTALL)


class NativeSchema(Generic[T]):
    """What a native route's bodies must be: the fields of the struct `kind`.

    Args:
        refused: more fields that are not supported, with the values that ask for nothing.
    """

    def __init__(
        self, kind: type[T], *, refused: Mapping[str, tuple[object, ...]] = MappingProxyType({})
    ) -> None:
        self._schema = Schema(kind, refused=refused, strict=False)
        self._form = FormFields(kind)

    async def values(self, exchange: Exchange) -> Values:
        """Read the body as its Content-Type says, and as JSON where that says nothing.

        Raises:
            InvalidRequest: it is malformed.
        """
        content_type = exchange.headers.get("content-type", "")
        if not _is_form(content_type, exchange.body):
            return _json(exchange.body)
        if len(exchange.body) < _THREAD_BYTES:
            return self._from_form(exchange.body, content_type)
        return await asyncio.to_thread(self._from_form, exchange.body, content_type)

    def check(self, values: Values) -> T:
        """The struct of `values`. Raises InvalidRequest: a field is missing, unknown or wrong."""
        return self._schema.convert(values)

    def _from_form(self, body: bytes, content_type: str) -> Values:
        if _media_type(content_type) == "multipart/form-data":
            return self._form.values(parse_multipart(body, content_type))
        return self._form.values(parse_urlencoded(body))


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _is_form(content_type: str, body: bytes) -> bool:
    """curl calls JSON a form unless told otherwise; a form cannot begin with a brace."""
    media_type = _media_type(content_type)
    if media_type == "application/x-www-form-urlencoded":
        return not body.lstrip().startswith(b"{")
    return media_type == "multipart/form-data"


def _json(body: bytes) -> Values:
    """The object in `body`; a comma before a closing bracket is forgiven."""
    try:
        return object_of(body)
    except InvalidRequest as error:
        if error.kind != "json_invalid" or len(body) > MAX_REPAIRED:
            raise
        repaired = _TRAILING_COMMA.sub(rb"\1", body)
        if len(repaired) == len(body):
            raise
    return object_of(repaired)


@contextmanager
def showing(values: Values) -> Iterator[None]:
    """Errors that name a field carry what `values` have there; all of them where it is missing."""
    try:
        yield
    except InvalidRequest as error:
        path = error.param.split(".") if error.param else []
        error.input = _excerpt(_at(values, path[:-1] if error.kind == "missing" else path))
        raise


def _at(value: object, path: list[str]) -> object:
    """What stands at `path` below `value`; UNSET where nothing does."""
    for step in path:
        if isinstance(value, Mapping) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return msgspec.UNSET
    return value


def _excerpt(value: object) -> Any:
    """`value` if it is short, else the beginning of its text; UNSET where it has none."""
    if value is msgspec.UNSET:
        return value
    try:
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    except RecursionError:
        return msgspec.UNSET
    return value if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"
