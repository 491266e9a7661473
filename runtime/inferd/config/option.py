"""What one option is, and how a value written by a person becomes one of its type."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

from inferd.errors import StartError

Kind = Literal["text", "list", "integer", "number", "flag"]

_FLAG_WORDS = {"true": True, "1": True, "yes": True, "on": True} | {
    "false": False,
    "0": False,
    "no": False,
    "off": False,
}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgt]?)(i?)b?", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Option:
    """What an option is, apart from its name, type and default, which its field gives.

    Attributes:
        help: a sentence or two, for `--help`.
        group: the heading under which `--help` lists it.
        aliases: other names (vLLM's, where the meaning is the same), as in Python.
        least, most: bounds of a number, both allowed; `above` is a lower bound that is not.
        choices: the allowed words, and what each stands for.
        size: the integer is a number of bytes and may be written `512MiB`.
        unit: shown by `--help` for the value.
        hidden: left out of `--help`.
    """

    help: str
    group: str
    aliases: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    above: float | None = None
    choices: Mapping[str, str] | None = None
    size: bool = False
    unit: str = ""
    hidden: bool = False


@dataclass(frozen=True)
class Spec:
    """An option with its name, kind and default."""

    name: str
    kind: Kind
    default: Any
    option: Option

    @property
    def names(self) -> tuple[str, ...]:
        """The name and its aliases, as in Python: `max_batch_size`."""
        return (self.name, *self.option.aliases)

    def parse(self, raw: object, source: str) -> Any:
        """The value that `raw`, from a flag, a variable or TOML, stands for.

        Args:
            raw: a string from a flag or a variable; any TOML type from a file.
            source: where it came from, as the user knows it: `--port`, `INFERD_PORT`.
        Raises:
            StartError: `bad_option`, naming the source and what would be right.
        """
        value = _PARSERS[self.kind](self, raw, source)
        if isinstance(value, int | float) and not isinstance(value, bool):
            self._check_range(value, source)
        return value

    def _check_range(self, value: float, source: str) -> None:
        option = self.option
        low = option.least is not None and value < option.least
        high = option.most is not None and value > option.most
        if low or high or (option.above is not None and value <= option.above):
            raise bad_option(f"{source}: {value} is out of range; it must be {_range(option)}")


def bad_option(message: str, hint: str = "") -> StartError:
    """The error for an option that cannot be used."""
    return StartError("bad_option", message, hint=hint)


def _range(option: Option) -> str:
    parts = []
    if option.least is not None:
        parts.append(f"at least {option.least:.20g}")
    if option.above is not None:
        parts.append(f"above {option.above:g}")
    if option.most is not None:
        parts.append(f"at most {option.most:.20g}")
    return " and ".join(parts)


def _text(spec: Spec, raw: object, source: str) -> str:
    if not isinstance(raw, str) or not raw.strip():
        raise bad_option(f"{source}: a text is needed, not {raw!r}")
    choices = spec.option.choices
    if choices is None:
        return raw
    if raw not in choices:
        near = get_close_matches(raw, choices, n=1)
        raise bad_option(
            f"{source}: {raw!r} is not one of {', '.join(choices)}",
            f"Did you mean {near[0]}?" if near else "",
        )
    return choices[raw]


def _list(spec: Spec, raw: object, source: str) -> tuple[str, ...]:
    items = raw if isinstance(raw, list | tuple) else [raw]
    return tuple(_text(spec, item, source) for item in items)


def _integer(spec: Spec, raw: object, source: str) -> int:
    if isinstance(raw, int) and not isinstance(raw, bool):
        return raw
    if isinstance(raw, str):
        if re.fullmatch(r"[+-]?\d+(_\d+)*", raw):
            return int(raw)
        if spec.option.size and (match := _SIZE.fullmatch(raw)):
            number, prefix, binary = match.groups()
            base = 1024 if binary or raw[-1] not in "bB" else 1000
            power = " kmgt".index(prefix.lower() or " ")
            return round(float(number) * int(base**power))
    needed = "a size like 512MiB or 2GB" if spec.option.size else "a whole number"
    raise bad_option(f"{source}: {raw!r} is not {needed}")


def _number(spec: Spec, raw: object, source: str) -> float:
    if isinstance(raw, str | int | float) and not isinstance(raw, bool):
        try:
            value = float(raw)
        except ValueError:
            value = math.nan
        if math.isfinite(value):
            return value
    raise bad_option(f"{source}: {raw!r} is not a number")


def _flag(spec: Spec, raw: object, source: str) -> bool:
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and raw.lower() in _FLAG_WORDS:
        return _FLAG_WORDS[raw.lower()]
    raise bad_option(f"{source}: {raw!r} is neither true nor false")


_PARSERS = {"text": _text, "list": _list, "integer": _integer, "number": _number, "flag": _flag}
