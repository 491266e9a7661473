"""From a PEFT folder to factors that fit a decoder: everything is checked before it is used.

Names and sizes are checked from the file's header. Then tensors are read one by one, widened to
float32, checked to be finite, scaled and cast.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from inferd.engines.native.adapters.base import (
    EMBEDDING,
    EMBEDDING_PATH,
    HEAD_PATH,
    Adaptable,
    Site,
)
from inferd.engines.native.adapters.settings import AdapterSettings, read_settings
from inferd.engines.native.adapters.unfit import Unfit, invalid, unsupported
from inferd.errors import StartError
from inferd.messages import AdapterInfo
from inferd.peft_files import MAX_HEADER, TENSORS
from inferd.weights import TensorInfo, read_header
from inferd_kernels.linear.int8 import Int8Weight
from inferd_kernels.linear.weight import PackedWeight
from inferd_kernels.lora import LoraPart, LoraWeights

PICKLES = ("adapter_model.bin", "adapter_model.pt")
PREFIX = "base_model.model."
FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
SLICE_BYTES = 64 << 20  # of a copy of the base's weights, compared in slices

Factors = Mapping[str, LoraWeights]
"""What an adapter adds, by the key of our layer: in host memory and in the model's dtype."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """A generation in host memory."""

    info: AdapterInfo
    factors: Factors


@dataclass(frozen=True, slots=True)
class _Pair:
    """A site that the adapter changes, and its two tensors' names."""

    path: str
    site: Site
    a: str
    b: str
    rank: int


def read(
    adapter: str,
    folder: Path,
    *,
    base: Adaptable,
    dtype: torch.dtype,
    max_rank: int,
    pinned: bool = False,
) -> Adapter:
    """Read and check an adapter. Nothing else has changed when it fails.

    Args:
        adapter: the generation's id, for its info.
        dtype: the model's.
        max_rank: of any of its pairs.
        pinned: into page-locked memory, from which copies to a GPU go beside its work.

    Raises: Unfit.
    """
    settings = read_settings(folder)
    headers = _headers(folder)
    pairs = _pairs(settings, base)
    _check_names(headers, pairs)
    for pair in pairs:
        _check_shapes(headers, pair, max_rank)
    try:
        with safe_open(folder / TENSORS, framework="pt") as file:
            _check_copies(file, headers, base)
            factors = {
                key: _fuse(file, settings, group, dtype, pinned)
                for key, group in _grouped(pairs).items()
            }
    except (SafetensorError, OSError, ValueError) as error:
        raise invalid(f"{TENSORS} cannot be read: {error}") from None
    info = AdapterInfo(
        adapter,
        rank=max(pair.rank for pair in pairs),
        num_bytes=sum(weights.nbytes for weights in factors.values()),
        modules=tuple(sorted({pair.site.kind for pair in pairs})),
    )
    return Adapter(info, factors)


def _headers(folder: Path) -> dict[str, TensorInfo]:
    file = folder / TENSORS
    if not file.is_file():
        pickles = [name for name in PICKLES if (folder / name).exists()]
        if pickles:
            raise unsupported(f"{pickles[0]} is a pickle; only {TENSORS} is read")
        raise invalid(f"There is no {TENSORS}")
    try:
        return read_header(file, MAX_HEADER)
    except StartError as error:
        raise invalid(error.message.replace(str(file), TENSORS)) from None


def _pairs(settings: AdapterSettings, base: Adaptable) -> list[_Pair]:
    """The sites that the settings name."""
    pairs = []
    for path, site in base.sites.items():
        if settings.targets(path, site):
            of_embedding = site.key == EMBEDDING
            a, b = ("embedding_A", "embedding_B") if of_embedding else ("A.weight", "B.weight")
            stem = f"{PREFIX}{path}.lora_"
            pairs.append(_Pair(path, site, stem + a, stem + b, settings.rank(path)))
    if not pairs:
        raise invalid("target_modules: names no layer that this model has and adapters may change")
    return pairs


def _check_names(headers: Mapping[str, TensorInfo], pairs: Iterable[_Pair]) -> None:
    """Each pair is whole, and there is nothing besides."""
    wanted = {name for pair in pairs for name in (pair.a, pair.b)}
    for name in headers:
        if name not in wanted and name not in _COPIES:
            raise _unexpected(name)
    for name in wanted:
        if name not in headers:
            raise invalid(f"{name} is missing, and target_modules names its layer")


def _unexpected(name: str) -> Unfit:
    reasons = {
        "lora_magnitude_vector": "DoRA is not supported",
        ".experts.": "adapters on experts are not supported",
        ".mlp.gate.": "adapters on routers are not supported",
        ".block_sparse_moe.": "adapters on experts and routers are not supported",
        "modules_to_save": "layers that were trained whole are not supported",
        "trainable_tokens": "tokens that were trained whole are not supported",
        "lora_B.bias": "biases are not supported",
    }
    for part, reason in reasons.items():
        if part in name:
            return unsupported(f"{name}: {reason}")
    return invalid(f"{name}: no layer of this model that target_modules names has such a tensor")


def _check_shapes(headers: Mapping[str, TensorInfo], pair: _Pair, max_rank: int) -> None:
    if pair.rank > max_rank:
        message = f"{pair.a} has rank {pair.rank}, and the engine takes {max_rank} at most"
        raise unsupported(f"{message} (--max-adapter-rank)")
    expected = {pair.a: (pair.rank, pair.site.inputs), pair.b: (pair.site.width, pair.rank)}
    for name, shape in expected.items():
        tensor = headers[name]
        if tensor.shape != shape:
            raise invalid(f"{name} has the shape {list(tensor.shape)} instead of {list(shape)}")
        if tensor.dtype not in FLOATS:
            raise unsupported(f"{name} is stored as {tensor.dtype}; only floats are supported")


_COPIES = {
    f"{PREFIX}{path}{middle}.weight": path
    for path in (EMBEDDING_PATH, HEAD_PATH)
    for middle in (".base_layer", "")
}
"""What PEFT saves of the base when its embedding or head is adapted → the base's layer."""


def _check_copies(file: Any, headers: Mapping[str, TensorInfo], base: Adaptable) -> None:
    """What the file holds of the base's weights must be the base's."""
    for name, path in _COPIES.items():
        if name in headers:
            own = base.embedding if path == EMBEDDING_PATH else base.head
            if headers[name].shape != tuple(own.shape) or not _same(file.get_slice(name), own):
                message = "differs from the base's: layers that were trained whole, or resized"
                raise unsupported(f"{name} {message}, are not supported")


def _same(stored: Any, own: torch.Tensor | PackedWeight) -> bool:
    rows = max(1, SLICE_BYTES // (own.shape[1] * 8))
    parts = (slice(begin, begin + rows) for begin in range(0, own.shape[0], rows))
    return all(_are_rows(stored[part], own, part) for part in parts)


def _are_rows(part: torch.Tensor, weight: torch.Tensor | PackedWeight, rows: slice) -> bool:
    """Whether `part`, kept as the weight is, is what it has there."""
    if isinstance(weight, torch.Tensor):
        return torch.equal(part.to(weight.dtype), weight[rows].detach().cpu())
    if isinstance(weight, Int8Weight):
        kept = Int8Weight.empty(len(part), part.shape[1], weight.dtype, weight.group)
        kept.fill(0, part)
        return all(map(torch.equal, kept.quantized(), weight.quantized(rows)))
    return torch.equal(part.to(weight.dtype), weight.unpack(rows))


def _grouped(pairs: Iterable[_Pair]) -> dict[str, list[_Pair]]:
    """By the key of our layer, in the order of their columns."""
    groups: dict[str, list[_Pair]] = {}
    for pair in pairs:
        groups.setdefault(pair.site.key, []).append(pair)
    return groups


def _fuse(
    file: Any, settings: AdapterSettings, group: list[_Pair], dtype: torch.dtype, pinned: bool
) -> LoraWeights:
    """What several projections of one input add, as the weights of our layer."""

    def keep(tensor: torch.Tensor, name: str) -> torch.Tensor:
        narrow = tensor.to(dtype).contiguous()
        if not bool(narrow.isfinite().all()):
            raise invalid(f"{name}, scaled, is too large for {dtype}".replace("torch.", ""))
        return narrow.pin_memory() if pinned else narrow

    firsts = [_finite(file, pair.a) for pair in group]
    a = keep(torch.cat(firsts), group[0].a)
    parts = [
        LoraPart(
            pair.site.offset,
            keep(_finite(file, pair.b).t() * settings.scaling(pair.path), pair.b).t(),
        )
        for pair in group
    ]
    return LoraWeights(a, tuple(parts))


def _finite(file: Any, name: str) -> torch.Tensor:
    """A tensor in float32."""
    tensor: torch.Tensor = file.get_tensor(name).float()
    if not bool(tensor.isfinite().all()):
        raise invalid(f"{name} holds values that are not finite")
    return tensor
