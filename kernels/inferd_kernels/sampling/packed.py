"""What stays of a row from step to step, in bytes: `Row.packed`, the same for every device."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from inferd_kernels.sampling.rows import Row

_ROW = struct.Struct("=QqQqifffiiif")
ROW_FIELDS = np.dtype(
    [
        ("seed", np.uint64),
        ("position", np.int64),
        ("adjustment", np.uint64),
        ("token", np.int64),
        ("greedy", np.int32),
        ("temperature", np.float32),
        ("top_p", np.float32),
        ("min_p", np.float32),
        ("top_k", np.int32),
        ("top", np.int32),
        ("num_extra", np.int32),
        ("scale", np.float32),
    ]
)
"""`ChooseRow` of cpu.h. top: -1 where no logprobs are wanted; scale: what processed logits are
divided by, 0 where the model's own are scored."""

_MOST = 2**31 - 1

Table = npt.NDArray[np.void]


def packed_of(rows: Sequence[Row]) -> bytes:
    """[N] ROW_FIELDS of what stays of each row."""
    for row in rows:
        row.packed = row.packed or _pack(row)
    return b"".join([row.packed for row in rows])


def positions_of(rows: Sequence[Row]) -> npt.NDArray[np.int64]:
    """Of today."""
    return np.array([row.draw.position for row in rows], np.int64)


def _pack(row: Row) -> bytes:
    draw, want = row.draw, row.want
    scale = 1.0 if draw.greedy else draw.temperature
    return _ROW.pack(
        draw.seed,
        0,
        0,
        -1,
        draw.greedy,
        draw.temperature,
        draw.top_p,
        draw.min_p,
        min(draw.top_k, _MOST),
        -1 if want is None else min(want.top, _MOST),
        0 if want is None else len(want.extra),
        scale if want is not None and want.processed else 0.0,
    )
