"""Which weights are kept in int8, by the option and by what a checkpoint holds; without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import gcd, prod
from typing import Any

from inferd.engines.native.compressed_tensors import METHOD, Stored, check_scheme, section_of
from inferd.engines.native.parameters import Param
from inferd.errors import StartError

INT8 = "int8"
ASKED = ("auto", INT8, METHOD)
GROUP = 64
"""Inputs that share a scale; see `inferd_kernels.linear` for what other sizes would cost."""
PANEL = 32
"""The kernels fill outputs up to a multiple of it."""

NO_KERNELS = "int8 weights need the compiled kernels, which cannot be had here"
WHY_NO_KERNELS = "`inferd check` says why; often a C++ compiler such as g++ is missing."

_MATRICES = ("embedding", "head", "qkv", "o", "gate_up", "down")


def weights_in(
    config: Mapping[str, Any], asked: str, *, why_not_native: str | None, on_cpu: bool
) -> str:
    """What weights are kept in: `int8`, or nothing, which is the model's dtype.

    Args:
        config: config.json.
        asked: as `EngineSpec.quantization`.
        why_not_native: None where the native decoder runs the model.

    Raises StartError: `unsupported` for a scheme of the checkpoint that we do not run, by its name,
        and for int8 where we cannot; `bad_option` where the option is none, or names a form that
        the checkpoint is not in.
    """
    if asked not in ASKED:
        raise StartError("bad_option", f"quantization {asked!r} is not one of {', '.join(ASKED)}")
    section = section_of(config)
    if section is not None:
        check_scheme(section)
    elif asked == METHOD:
        message = f"quantization is {METHOD}, and the checkpoint is not in that form"
        raise StartError("bad_option", message, hint="--quantization int8")
    if section is None and asked != INT8:
        return ""
    if why_not_native is not None:
        raise StartError("unsupported", f"int8 weights need the native decoder: {why_not_native}")
    if not on_cpu:
        raise StartError("unsupported", "int8 weights run on CPUs so far", hint="--device cpu")
    return INT8


def int8_groups(
    params: Sequence[Param], stored: Mapping[str, Stored], asked: str
) -> dict[str, int]:
    """Key of each parameter that is kept in int8 → inputs that share a scale.

    Args:
        asked: as `EngineSpec.quantization`.

    What the checkpoint holds so stays so. With `int8` asked for, the other matrices become so: of
    linear layers, embedding and head; never norms, biases and routers.

    Raises StartError(unsupported) for groups of a size that the kernels do not take.
    """
    found = {}
    for param in params:
        names = {source.name for layout in param.layouts for source in layout}
        own = [stored[name] for name in names & stored.keys()]
        if not own and (asked != INT8 or param.key.rpartition(".")[2] not in _MATRICES):
            continue
        group = gcd(GROUP, *(each.group for each in own if each.group < each.shape[1]))
        if group % 4:
            raise StartError("unsupported", f"{param.key}: groups of {group} int8 weights")
        found[param.key] = group
    return found


def num_bytes(shape: Sequence[int], group: int) -> int:
    """Of a weight [out, in] in int8, or [experts, out, in], as the kernels hold it with scales."""
    *several, out, columns = shape
    rows = prod(several) * -(-out // PANEL) * PANEL
    return rows * (-(-columns // 4) * 4 + 4 * -(-columns // group))
