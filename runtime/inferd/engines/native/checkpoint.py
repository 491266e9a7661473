"""From a checkpoint's files to parameters: names and shapes are checked, then tensors are read.

Files are memory-mapped (`safetensors.safe_open`) and every tensor is put once into memory of the
model's own (see `stores`), cast and fused on the way: nothing is ever held twice. The mapped pages
are the system's page cache, which it may take back at any time; nothing keeps pointing into the
files, so that replacing a checkpoint on disk cannot harm a running model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from inferd.engines.native.compressed_tensors import Contents, contents
from inferd.engines.native.parameters import Param, Source, bad_weights
from inferd.engines.native.stores import Int8Rows, Parameters, Rows, Store
from inferd.errors import StartError
from inferd.weights import TensorInfo

FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

OnProgress = Callable[[int, int], None]
"""(bytes read, bytes in all), counted in the checkpoint's own dtypes."""


def load(
    headers: dict[str, TensorInfo],
    params: Sequence[Param],
    *,
    store: Store,
    ignored: Callable[[str], bool],
    on_progress: OnProgress,
) -> Parameters:
    """Read parameters.

    Args:
        headers: of the whole checkpoint.
        store: where parameters go, and in what form they are kept.
        ignored: names that a checkpoint may hold and this model does not use.

    Raises: StartError(bad_weights) that names the tensors that are missing, unexpected or of a
        wrong shape, before anything is read; or the one that could not be read.
    """
    found = contents(headers)
    headers = found.headers
    chosen = {param.key: _choose(param, headers) for param in params}
    _check(found, [source for sources in chosen.values() for source in sources], ignored)
    names = [source.name for sources in chosen.values() for source in sources]
    total = sum(headers[name].num_bytes for name in names)
    done = 0
    reader = Reader(found)
    kept = {}
    for param in params:
        place, row = store.place(param), 0
        for source in chosen[param.key]:
            part = reader.rows(source.name, param.columns)
            place.fill(row, part)
            row += len(part)
            done += headers[source.name].num_bytes
            on_progress(done, total)
        kept[param.key] = place.finish()
    return Parameters(kept)


class Reader:
    """Open files of a checkpoint, each mapped once."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._files: dict[Path, Any] = {}

    def rows(self, name: str, columns: int) -> Rows:
        """A tensor as a matrix, mapped if it is of floats."""
        stored = self._contents.stored.get(name)
        if stored is None:
            return self._read(name, self._contents.headers[name].file).reshape(-1, columns)
        q = self._read(stored.name, stored.file)
        if stored.packed:
            q = (q.view(torch.uint8) ^ 0x80).view(torch.int8)
        scales = self._read(stored.scales, stored.scales_file)
        if not scales.isfinite().all():
            raise bad_weights(f"{stored.scales} has scales that are no finite numbers")
        if stored.zeros is not None and self._read(*stored.zeros).any():
            raise bad_weights(f"{stored.zeros[0]} is not zero, and the config says symmetric")
        columns = scales.shape[1] if scales.dim() == 2 else 1
        return Int8Rows(q, scales.reshape(-1, columns).expand(len(q), -1))

    def _read(self, name: str, path: Path) -> torch.Tensor:
        try:
            if path not in self._files:
                self._files[path] = safe_open(path, framework="pt")
            tensor: torch.Tensor = self._files[path].get_tensor(name)
        except (SafetensorError, OSError, ValueError) as error:
            raise bad_weights(f"{name} in {path.name} cannot be read: {error}") from None
        return tensor


def _choose(param: Param, headers: dict[str, TensorInfo]) -> tuple[Source, ...]:
    """The layout that the checkpoint uses; the usual one where it has none of them."""
    for layout in param.layouts:
        if any(source.name in headers for source in layout):
            return layout
    return param.layouts[0]


def _check(found: Contents, sources: Sequence[Source], ignored: Callable[[str], bool]) -> None:
    headers = found.headers
    wanted = {source.name for source in sources}
    _refuse("are missing", (name for name in wanted if name not in headers))
    _refuse(
        "do not belong to this architecture",
        (name for name in headers if name not in wanted and not ignored(name)),
    )
    _refuse(
        "have a wrong shape",
        (
            f"{source.name} {list(headers[source.name].shape)} instead of {list(source.shape)}"
            for source in sources
            if headers[source.name].shape != source.shape
        ),
    )
    for source in sources:
        kind = headers[source.name].dtype
        if kind not in FLOATS and source.name not in found.stored:
            raise StartError(
                "unsupported", f"{source.name} is stored as {kind}; only floats are supported"
            )


def _refuse(what: str, names: Iterable[str]) -> None:
    """Raise bad_weights if there are any."""
    found = sorted(names)
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise bad_weights(f"Tensors that {what}: {', '.join(found[:3])}{more}")
