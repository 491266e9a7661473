"""A step's parameters as the GPU's kernels read them: one array of 32-bit words, copied at once.

It begins with a line of `ROW` for each row, then a line of `CHANGE` for each row that is adjusted;
then lists of rows, of tokens, and bitmasks, at the places that these lines name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from inferd_kernels.sampling.adjustments import Adjustment
from inferd_kernels.sampling.noise import GAMMA, MIX_1, MIX_2
from inferd_kernels.sampling.packed import ROW_FIELDS, packed_of, positions_of
from inferd_kernels.sampling.rows import Row

ROW = np.dtype(
    [
        ("stream", np.uint64),  # of noise, at the row's position; as long as that is open, the seed
        ("slot", np.int32),  # among adjusted rows; -1: none
        ("temperature", np.float32),
        ("least", np.float32),  # log(min_p)
        ("top_p", np.float32),
        ("top_k", np.int32),  # 0: off
        ("low", np.int32),  # bits of a likelihood that the border of top_p is not below
        ("shift", np.int32),  # of bits, from there, that leaves the number of a bin
        ("search", np.int32),  # its place among those that look for a border; -1: it does not
        ("race", np.int32),  # its place among those that draw; -1: greedy
        ("scale", np.float32),  # what scored logits are divided by
        ("processed", np.int32),  # whether the adjusted ones are scored
        ("top", np.int32),
        ("extra", np.int32),  # where the tokens are
        ("num_extra", np.int32),
    ]
)
CHANGE = np.dtype(
    [
        ("row", np.int32),
        ("lists", np.int32),  # ids of bias, masked and seen, then counts, then the bias itself
        ("num_bias", np.int32),
        ("num_masked", np.int32),
        ("num_seen", np.int32),
        ("allowed", np.int32),  # where its words are; -1: everything is
        ("repetition", np.float32),
        ("presence", np.float32),
        ("frequency", np.float32),
    ]
)
BINS = 1024
"""Of a histogram in the search for a border."""

ONE = 0x3F800000  # the bits of 1.0, the greatest likelihood

Words = npt.NDArray[np.int32]
Lines = npt.NDArray[np.void]


def place_of(lines: np.dtype[Any], field: str) -> int:
    """Words before this field of a line."""
    assert lines.fields is not None
    return int(lines.fields[field][1]) // 4


def words_in(lines: np.dtype[Any]) -> int:
    """Words of a line."""
    return lines.itemsize // 4


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Rows of which a kernel works on these alone."""

    rows: npt.NDArray[np.intp]
    place: int  # of their numbers among the words

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """What a step asks for, on the host.

    Attributes:
        parts: the words, in pieces.
        count: rows.
        changes: adjusted rows.
        touches: whether one of them changes single tokens.
        random, filtered, scored: rows that draw; of these, those that look for a border of top_k
            or top_p; and those whose token is scored.
        lines: those of the rows.
    """

    parts: list[Words]
    count: int
    changes: int
    touches: bool
    random: Group
    filtered: Group
    scored: Group
    lines: Lines

    @property
    def top(self) -> int:
        """The most alternatives that a row wants."""
        return int(self.lines["top"].max(initial=0))

    @property
    def extra(self) -> int:
        """The most further tokens that a row wants."""
        return int(self.lines["num_extra"].max(initial=0))

    def send(self, device: torch.device) -> torch.Tensor:
        """The words on the device, once it gets there.

        Torch keeps the pinned memory of a copy until it is done, and then hands it out again. Sizes
        are powers of two, so that after a few steps none is allocated.
        """
        size = sum(len(part) for part in self.parts)
        pinned = device.type == "cuda"
        words = torch.empty(_padded(size), dtype=torch.int32, device="cpu", pin_memory=pinned)
        np.concatenate(self.parts, out=words.numpy()[:size])
        return words.to(device, non_blocking=True)


def _padded(size: int) -> int:
    return 1 << max(8, (size - 1).bit_length())


def step_of(rows: Sequence[Row], vocab: int) -> Step:
    """Raises IndexError for a token outside the vocabulary, ValueError for a bitmask too short."""
    changes = [(i, row.adjustment) for i, row in enumerate(rows) if row.adjustment is not None]
    steady, groups = _steady(packed_of(rows), vocab)
    lines = steady.copy()
    lines["stream"] = _streams(lines["stream"], positions_of(rows).view(np.uint64))
    lines["slot"][[i for i, _ in changes]] = np.arange(len(changes))
    pieces = _Pieces(words_in(ROW) * len(rows) + words_in(CHANGE) * len(changes))
    random, filtered, scored = (Group(group, pieces.add(group)) for group in groups)
    for i in groups[2].tolist():
        want = rows[i].want
        if want is not None and want.extra:
            lines["extra"][i] = pieces.add_tokens(i, np.array(want.extra))
    changed = changes_of(changes, vocab, pieces)
    pieces.check(vocab)
    touches = any(bool(changed[name].any()) for name in ("num_bias", "num_masked", "num_seen"))
    parts = [lines.view(np.int32), changed.view(np.int32), *pieces.parts]
    return Step(parts, len(rows), len(changes), touches, random, filtered, scored, lines)


def scoring(count: int, top: int, extra: int) -> Step:
    """Of rows whose tokens are given, with `extra` other tokens each, whose places count from 0."""
    lines = np.zeros(count, ROW)
    lines["slot"] = -1
    lines["scale"] = 1
    lines["top"], lines["num_extra"] = top, extra
    lines["extra"] = np.arange(count) * extra
    everyone, none = np.arange(count), np.arange(0)
    parts = [lines.view(np.int32), everyone.astype(np.int32)]
    scored = Group(everyone, lines.size * words_in(ROW))
    return Step(parts, count, 0, False, Group(none, 0), Group(none, 0), scored, lines)


def adjusting(rows: Sequence[Adjustment | None], vocab: int) -> Step:
    """Of rows that are only adjusted, every one; raises as `step_of`."""
    pieces = _Pieces(words_in(ROW) * len(rows) + words_in(CHANGE) * len(rows))
    nothing = Adjustment()
    changed = changes_of([(i, row or nothing) for i, row in enumerate(rows)], vocab, pieces)
    pieces.check(vocab)
    lines = np.zeros(len(rows), ROW)
    lines["slot"] = np.arange(len(rows))
    none = Group(np.arange(0), 0)
    parts = [lines.view(np.int32), changed.view(np.int32), *pieces.parts]
    return Step(parts, len(rows), len(rows), True, none, none, none, lines)


@lru_cache(maxsize=8)
def _steady(packed: bytes, vocab: int) -> tuple[Lines, list[npt.NDArray[np.intp]]]:
    """Lines of rows that are not adjusted, yet; which of them draw, look for a border, are scored.

    From one step to the next the rows are the same as a rule.
    """
    table = np.frombuffer(packed, ROW_FIELDS)
    lines = np.zeros(len(table), ROW)
    draws = table["greedy"] == 0
    lines["slot"] = -1
    lines["stream"] = table["seed"]
    lines["temperature"] = np.where(draws, table["temperature"], 1)
    with np.errstate(divide="ignore"):
        lines["least"] = np.log(np.maximum(table["min_p"], 0))
    lines["top_p"] = np.where(draws & (table["top_p"] < 1), table["top_p"], 1)
    lines["top_k"] = np.where(draws & (table["top_k"] < vocab), np.maximum(table["top_k"], 0), 0)
    # Were all tokens below this dropped, more than top_p of the mass, at least 1, would be left.
    low = (0.999 / vocab * (1 - lines["top_p"].astype(np.float64))).astype(np.float32)
    lines["low"] = np.maximum(low.view(np.int32), 0)
    spread = (ONE - lines["low"]).astype(np.float64)
    lines["shift"] = np.maximum(0, np.frexp(spread)[1] - BINS.bit_length() + 1)
    lines["processed"] = table["scale"] != 0
    lines["scale"] = np.where(table["scale"] == 0, 1, table["scale"])
    lines["top"] = np.clip(table["top"], 0, vocab)
    lines["num_extra"] = table["num_extra"]
    cuts = (lines["top_k"] > 0) | (lines["top_p"] < 1)
    groups = [np.flatnonzero(which) for which in (draws, cuts, table["top"] >= 0)]
    for name, group in zip(("race", "search"), groups, strict=False):
        lines[name] = -1
        lines[name][group] = np.arange(len(group))
    return lines, groups


def _mix(z: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(MIX_1 % 2**64)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(MIX_2 % 2**64)
    return z ^ (z >> np.uint64(31))


def _streams(
    seeds: npt.NDArray[np.uint64], positions: npt.NDArray[np.uint64]
) -> npt.NDArray[np.uint64]:
    """See noise.py."""
    gamma = np.uint64(GAMMA % 2**64)
    return _mix(_mix(seeds + gamma) + (positions + np.uint64(1)) * gamma)


class _Pieces:
    """Arrays of words, one behind the other."""

    def __init__(self, place: int) -> None:
        self.parts: list[Words] = []
        self._place = place
        self._tokens: list[tuple[int, npt.NDArray[np.int64]]] = []

    def add(self, array: npt.NDArray[Any]) -> int:
        """Where it will lie. Floats keep their bits, integers become shorter."""
        floats = array.dtype == np.float32
        self.parts.append(array.view(np.int32) if floats else array.astype(np.int32, copy=False))
        self._place += len(array)
        return self._place - len(array)

    def add_tokens(self, row: int, ids: npt.NDArray[np.int64]) -> int:
        """Likewise, for tokens that row `row` names."""
        if len(ids):
            self._tokens.append((row, ids))
        return self.add(ids)

    def check(self, vocab: int) -> None:
        """Raises IndexError where one of the tokens is outside the vocabulary."""
        if not self._tokens:
            return
        ids = np.concatenate([ids for _, ids in self._tokens])
        if ids.min() >= 0 and ids.max() < vocab:
            return
        row = next(row for row, ids in self._tokens if ids.min() < 0 or ids.max() >= vocab)
        raise IndexError(f"row {row} names a token outside the vocabulary")


def changes_of(changes: Iterable[tuple[int, Adjustment]], vocab: int, pieces: _Pieces) -> Lines:
    """[A] CHANGE, for rows and what to change in each."""
    words = -(-vocab // 32)
    lines = []
    for i, change in changes:
        assert len(change.bias) == len(change.bias_ids), "one bias for each of its tokens"
        assert len(change.seen_counts) == len(change.seen_ids), "one count for each token seen"
        allowed = -1
        if change.allowed is not None:
            if len(change.allowed) < words:
                raise ValueError(f"allowed has {len(change.allowed)} words, not {words}")
            allowed = pieces.add(change.allowed[:words])
        ids = (change.bias_ids, change.masked_ids, change.seen_ids)
        lists, *_ = [pieces.add_tokens(i, each) for each in ids]
        pieces.add(change.seen_counts)
        pieces.add(np.asarray(change.bias, np.float32))
        penalties = (change.repetition, change.presence, change.frequency)
        lines.append((i, lists, *(len(each) for each in ids), allowed, *penalties))
    return np.array(lines, CHANGE)
