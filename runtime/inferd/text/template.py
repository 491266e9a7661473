"""Chat templates as compiled Jinja: the environment that Hugging Face defines, with limits.

A template is the model maker's program and a conversation is a stranger's input, so rendering is
sandboxed, and bounded in output and time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import datetime
from typing import Any

import jinja2
import jinja2.meta
import jinja2.nodes
import jinja2.parser
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from inferd.errors import InvalidRequest

MAX_SECONDS = 10.0


class _Refusal(jinja2.TemplateError):
    """What a template raises by `raise_exception`; its text is meant for the caller."""


class OutputTooLong(Exception):
    """The rendered text passed its limit; `length` characters existed by then."""

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.length = length


class _Generation(Extension):
    """`{% generation %}…{% endgeneration %}` marks what the model wrote; here it only passes."""

    tags = {"generation"}  # noqa: RUF012 (jinja declares it so)

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _SafeNamespace(Namespace):
    """`namespace()` without the underscore names that lead into Python's internals."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, positional = args[0], args[1:]
        values = dict(*positional, **kwargs)
        for name in values:
            _refuse_private(name)
        Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_private(name)
        Namespace.__setitem__(self, name, value)


_in_time: ContextVar[Callable[[], None]] = ContextVar("_in_time", default=lambda: None)
"""Raises once the rendering that is going on has had its time."""


class _Environment(ImmutableSandboxedEnvironment):
    """Looks at the clock whenever a template looks something up: loops may write nothing."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        _in_time.get()()
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        _in_time.get()()
        return super().getitem(obj, argument)


def _refuse_private(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"{name!r} begins with an underscore")


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise_exception(message: object) -> None:
    raise _Refusal(str(message))


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


def _environment() -> _Environment:
    environment = _Environment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    environment.globals["namespace"] = _SafeNamespace
    return environment


_ENVIRONMENT = _environment()


class Template:
    """One compiled template.

    Args:
        source: Jinja, as in `chat_template.jinja`.

    `variables` are the names it reads and does not set itself.

    Raises:
        ValueError: it does not parse.
    """

    def __init__(self, source: str) -> None:
        try:
            self._template = _ENVIRONMENT.from_string(source)
            parsed = _ENVIRONMENT.parse(source)
        except jinja2.TemplateSyntaxError as error:
            raise ValueError(f"line {error.lineno}: {error.message}") from error
        self.source = source
        read = jinja2.meta.find_undeclared_variables(parsed)
        self.variables = frozenset(read - _ENVIRONMENT.globals.keys())

    def render(
        self, values: Mapping[str, Any], *, max_chars: int, clock: Callable[[], float]
    ) -> str:
        """The template's text.

        Raises:
            InvalidRequest: the template refuses these values or fails on them.
            OutputTooLong: more than `max_chars` characters.
        """
        pieces: list[str] = []
        length, end = 0, clock() + MAX_SECONDS

        def in_time() -> None:
            if clock() > end:
                raise InvalidRequest(
                    "The model's chat template takes too long on these messages", "messages"
                )

        outer = _in_time.set(in_time)
        try:
            for piece in self._template.generate(values):
                pieces.append(piece)
                length += len(piece)
                if length > max_chars:
                    raise OutputTooLong(length)
                in_time()
        except _Refusal as error:
            raise InvalidRequest(_shorten(str(error)), "messages") from error
        except (jinja2.TemplateError, TypeError, ValueError, LookupError, ArithmeticError) as error:
            raise _unrenderable() from error
        except (AttributeError, RecursionError, MemoryError) as error:
            raise _unrenderable() from error
        finally:
            _in_time.reset(outer)
        return "".join(pieces)


def _unrenderable() -> InvalidRequest:
    return InvalidRequest("The model's chat template cannot render these messages", "messages")


def _shorten(message: str) -> str:
    return message if len(message) <= 500 else message[:500] + "…"
