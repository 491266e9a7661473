"""`adjust`, `sample`, `score` and `choose` in C++."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from inferd_kernels.cpu.library import Args, operation
from inferd_kernels.sampling.adjustments import Adjustment
from inferd_kernels.sampling.packed import ROW_FIELDS, Table, packed_of, positions_of
from inferd_kernels.sampling.rows import Choice, Draw, Row, Scores

_ADJUSTMENT = struct.Struct("=6Q3q3f4x")
"""`Adjustment` of cpu.h."""

_NO_SUCH_TOKEN = 3  # of `Health` there, beyond those of rows.py

_first_byte: Callable[[Any], ctypes.c_char] = ctypes.c_char.from_buffer


class AdjustArgs(Args):
    """See cpu.h."""

    _fields_ = (
        ("logits", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        ("rows", ctypes.c_void_p),
        ("wrong", ctypes.c_void_p),
        ("stride", ctypes.c_int64),
        ("vocab", ctypes.c_int64),
    )


class ChooseArgs(Args):
    """See cpu.h."""

    _fields_ = (
        ("logits", ctypes.c_void_p),
        ("rows", ctypes.c_void_p),
        ("extra", ctypes.c_void_p),
        ("tokens", ctypes.c_void_p),
        ("health", ctypes.c_void_p),
        ("logprobs", ctypes.c_void_p),
        ("ranks", ctypes.c_void_p),
        ("top_ids", ctypes.c_void_p),
        ("top_logprobs", ctypes.c_void_p),
        ("extra_logprobs", ctypes.c_void_p),
        ("stride", ctypes.c_int64),
        ("vocab", ctypes.c_int64),
        ("max_top", ctypes.c_int64),
        ("max_extra", ctypes.c_int64),
    )


_adjust = operation("adjust", AdjustArgs)
_choose = operation("choose", ChooseArgs)


class _Adjustments:
    """Adjustments as C++ reads them; they live as long as this object."""

    def __init__(self, rows: Sequence[Adjustment | None], vocab: int) -> None:
        self._arrays: list[npt.NDArray[Any]] = []
        self._words = -(-vocab // 32)
        packed = b"".join([self._pack(row) for row in rows if row is not None])
        self._memory = np.frombuffer(packed, np.uint8)
        places = self._memory.ctypes.data + np.arange(0, len(packed), _ADJUSTMENT.size)
        self.pointers = np.zeros(len(rows), np.int64)
        self.pointers[[row is not None for row in rows]] = places

    def _pack(self, row: Adjustment) -> bytes:
        if row.allowed is not None and len(row.allowed) < self._words:
            raise ValueError(f"allowed has {len(row.allowed)} words, not {self._words}")
        assert len(row.bias) == len(row.bias_ids), "one bias for each of its tokens"
        assert len(row.seen_counts) == len(row.seen_ids), "one count for each token seen"
        return _ADJUSTMENT.pack(
            self._address(row.bias_ids, np.int64),
            self._address(row.bias, np.float32),
            self._address(row.masked_ids, np.int64),
            0 if row.allowed is None else self._address(row.allowed, np.int32),
            self._address(row.seen_ids, np.int64),
            self._address(row.seen_counts, np.int64),
            len(row.bias_ids),
            len(row.masked_ids),
            len(row.seen_ids),
            row.repetition,
            row.presence,
            row.frequency,
        )

    def _address(self, array: npt.NDArray[Any], dtype: type[np.generic]) -> int:
        if not len(array):
            return 0
        array = np.ascontiguousarray(array, dtype)
        self._arrays.append(array)
        if not array.flags.writeable:
            return array.ctypes.data
        return ctypes.addressof(_first_byte(array))  # four times as fast


def adjust(logits: torch.Tensor, rows: Sequence[Adjustment | None]) -> torch.Tensor:
    if all(row is None for row in rows):
        return logits
    logits = _lines(logits)
    count, vocab = logits.shape
    out = torch.empty(count, vocab)
    wrong = np.zeros(count, np.int32)
    changes = _Adjustments(rows, vocab)
    assert _adjust is not None
    _adjust(
        AdjustArgs(
            logits=logits.data_ptr(),
            out=out.data_ptr(),
            rows=changes.pointers.ctypes.data,
            wrong=wrong.ctypes.data,
            stride=logits.stride(0),
            vocab=vocab,
        ),
        count,
    )
    if wrong.any():
        raise IndexError(f"row {wrong.argmax()} adjusts a token outside the vocabulary")
    return out


def sample(logits: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
    return choose(logits, [Row(draw) for draw in draws]).tokens


def score(
    logits: torch.Tensor, tokens: torch.Tensor, top: int, extra: torch.Tensor | None = None
) -> Scores:
    table = np.zeros(len(tokens), ROW_FIELDS)
    table["greedy"] = 1
    given = tokens.numpy()
    table["token"] = np.where(given < 0, logits.shape[-1], given)  # outside, and refused as such
    table["top"] = min(top, logits.shape[-1])
    others = np.empty((len(tokens), 0), np.int64) if extra is None else extra.numpy()
    table["num_extra"] = others.shape[1]
    scores = _run(logits, table, np.ascontiguousarray(others)).scores
    assert scores is not None
    return scores


def choose(logits: torch.Tensor, rows: Sequence[Row]) -> Choice:
    table = np.frombuffer(bytearray(packed_of(rows)), ROW_FIELDS)
    table["position"] = positions_of(rows)
    adjustments = [row.adjustment for row in rows]
    if any(adjustment is not None for adjustment in adjustments):
        changes = _Adjustments(adjustments, logits.shape[-1])
        table["adjustment"] = changes.pointers
    most = int(table["num_extra"].max())
    extra = np.zeros((len(rows), most), np.int64)
    if most:
        for line, row in zip(extra, rows, strict=True):
            if row.want is not None:
                line[: len(row.want.extra)] = row.want.extra
    return _run(logits, table, extra)


def _run(logits: torch.Tensor, table: Table, extra: npt.NDArray[np.int64]) -> Choice:
    """`extra` [N, m] int64: tokens whose logprobs are wanted, the first `num_extra` of each row."""
    logits = _lines(logits)
    count, vocab = logits.shape
    assert len(table) == count
    top = min(int(table["top"].max()), vocab)
    tokens = torch.empty(count, dtype=torch.int64)
    health = torch.empty(count, dtype=torch.int32)
    scores = None if top < 0 else _empty_scores(count, top, extra.shape[1])
    arguments = ChooseArgs(
        logits=logits.data_ptr(),
        rows=table.ctypes.data,
        extra=extra.ctypes.data,
        tokens=tokens.data_ptr(),
        health=health.data_ptr(),
        stride=logits.stride(0),
        vocab=vocab,
        max_top=top,
        max_extra=extra.shape[1],
    )
    if scores is not None:
        arguments.logprobs = scores.logprobs.data_ptr()
        arguments.ranks = scores.ranks.data_ptr()
        arguments.top_ids = scores.top_ids.data_ptr()
        arguments.top_logprobs = scores.top_logprobs.data_ptr()
        arguments.extra_logprobs = scores.extra_logprobs.data_ptr()
    assert _choose is not None
    _choose(arguments, count)
    if int(health.max()) == _NO_SUCH_TOKEN:
        raise IndexError(f"row {int(health.argmax())} names a token outside the vocabulary")
    return Choice(tokens, health, scores)


def _empty_scores(count: int, top: int, extra: int) -> Scores:
    return Scores(
        torch.zeros(count),
        torch.zeros(count, dtype=torch.int64),
        torch.zeros(count, top, dtype=torch.int64),
        torch.zeros(count, top),
        torch.zeros(count, extra),
    )


def _lines(logits: torch.Tensor) -> torch.Tensor:
    """float32 logits whose rows each lie in one piece."""
    assert logits.dtype == torch.float32, logits.dtype
    return logits if logits.stride(1) == 1 else logits.contiguous()


IMPLEMENTATIONS: dict[str, Callable[..., Any]] = (
    {"adjust": adjust, "sample": sample, "score": score, "choose": choose}
    if _choose is not None
    else {}
)
