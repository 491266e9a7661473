"""The options of `ServeConfig` by name, each with what parses and describes it."""

from __future__ import annotations

import typing
from dataclasses import fields

from inferd.config.option import Kind, Spec
from inferd.config.serve import ServeConfig

_KINDS: dict[object, Kind] = {
    str: "text",
    tuple[str, ...]: "list",
    int: "integer",
    float: "number",
    bool: "flag",
}


def _spec(name: str, default: object, annotation: object) -> Spec:
    annotated, option = typing.get_args(annotation)
    inner = [arg for arg in typing.get_args(annotated) if arg is not type(None)]
    kind = _KINDS.get(annotated) or _KINDS[inner[0]]
    return Spec(name, kind, default, option)


def _specs() -> dict[str, Spec]:
    hints = typing.get_type_hints(ServeConfig, include_extras=True)
    return {f.name: _spec(f.name, f.default, hints[f.name]) for f in fields(ServeConfig)}


SPECS = _specs()
