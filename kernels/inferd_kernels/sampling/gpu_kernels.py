"""Kernels of `sampling.gpu`: what every row needs.

Rows are cut into chunks of CHUNK tokens, a program for each: their results, and sums in particular,
are put together in the order of the chunks, so that nothing depends on who comes first.
"""

from __future__ import annotations

import triton
import triton.language as tl

from inferd_kernels.sampling.gpu_table import CHANGE, ROW, place_of, words_in
from inferd_kernels.sampling.rows import HEALTHY, NOT_FINITE, NOTHING_LEFT

CHUNK = tl.constexpr(4096)
MANY = tl.constexpr(1024)
"""Tokens of a list that a program takes at a time."""

INF = tl.constexpr(float("inf"))
_LINE = tl.constexpr(words_in(ROW))
_CHANGE = tl.constexpr(words_in(CHANGE))
SLOT = tl.constexpr(place_of(ROW, "slot"))
_RACE = tl.constexpr(place_of(ROW, "race"))
_LISTS = tl.constexpr(place_of(CHANGE, "lists"))
_NUM_BIAS = tl.constexpr(place_of(CHANGE, "num_bias"))
_NUM_MASKED = tl.constexpr(place_of(CHANGE, "num_masked"))
_NUM_SEEN = tl.constexpr(place_of(CHANGE, "num_seen"))
_ALLOWED = tl.constexpr(place_of(CHANGE, "allowed"))
_REPETITION = tl.constexpr(place_of(CHANGE, "repetition"))
_PRESENCE = tl.constexpr(place_of(CHANGE, "presence"))
_FREQUENCY = tl.constexpr(place_of(CHANGE, "frequency"))
_HEALTHY = tl.constexpr(HEALTHY)
_NOT_FINITE = tl.constexpr(NOT_FINITE)
_NOTHING_LEFT = tl.constexpr(NOTHING_LEFT)

_LOG2_E = tl.constexpr(1.4426950408889634)
_LN2_HIGH = tl.constexpr(0.693359375)  # few bits: its product with a small integer is exact
_LN2_LOW = tl.constexpr(0.6931471805599453 - 0.693359375)


@triton.jit
def line_of(words, row):
    return words + row.to(tl.int64) * _LINE


@triton.jit
def real(place):
    """The float32 among the words."""
    return tl.load(place).to(tl.float32, bitcast=True)


@triton.jit
def logits_of(logits, adjusted, row, slot, stride, line):
    """A row's logits, adjusted where it has a slot."""
    return logits + row.to(tl.int64) * stride if slot < 0 else adjusted + slot.to(tl.int64) * line


@triton.jit
def chunks_of(count, row, slot, chunks):
    """Where the chunks of such a row begin, among those of all rows and of all adjusted ones."""
    return tl.where(slot < 0, row, count + slot).to(tl.int64) * chunks


@triton.jit
def peak_of(largest, count, row, slot, chunks, CHUNKS: tl.constexpr):
    """Of such a row, the largest logit; infinite where the row is not healthy."""
    c = tl.arange(0, CHUNKS)
    return tl.max(tl.load(largest + chunks_of(count, row, slot, chunks) + c, c < chunks, -INF), 0)


@triton.jit
def exp_of(t):
    """e^t for t ≤ 0, to 2 ulp; 0 where it would be subnormal."""
    normal = t >= -87.0
    t = tl.where(normal, t, 0.0)
    n = tl.floor(t * _LOG2_E + 0.5)
    r = tl.fma(n, -_LN2_LOW, tl.fma(n, -_LN2_HIGH, t))
    e = tl.fma(r, 1 / 5040, 1 / 720)
    e = tl.fma(e, r, 1 / 120)
    e = tl.fma(e, r, 1 / 24)
    e = tl.fma(e, r, 1 / 6)
    e = tl.fma(e, r, 0.5)
    e = tl.fma(e, r, 1.0)
    e = tl.fma(e, r, 1.0)
    power = ((n.to(tl.int32) + 127) << 23).to(tl.float32, bitcast=True)
    return tl.where(normal, e * power, 0.0)


@triton.jit(do_not_specialize=["changes", "first"])
def scan(
    logits,
    adjusted,
    words,
    changes,
    largest,
    likeliest,
    first,
    stride,
    line,
    vocab,
    chunks,
    COPY: tl.constexpr,
):
    """Of each chunk the largest logit, +inf where there is a NaN, and its first token; the rows'
    results begin at line `first`. With COPY, rows that have a slot are copied there, without what
    is not allowed; their changes begin at word `changes`."""
    row = tl.program_id(0) // chunks
    chunk = tl.program_id(0) % chunks
    ids = chunk * CHUNK + tl.arange(0, CHUNK)
    inside = ids < vocab
    x = tl.load(logits + row.to(tl.int64) * stride + ids, inside, -INF)
    best, at = tl.max(tl.where(x != x, INF, x), 0, return_indices=True)
    place = (first + row).to(tl.int64) * chunks + chunk
    tl.store(largest + place, best)
    tl.store(likeliest + place, chunk * CHUNK + at)
    if COPY:
        slot = tl.load(line_of(words, row) + SLOT)
        if slot >= 0:
            allowed = tl.load(words + changes + slot.to(tl.int64) * _CHANGE + _ALLOWED)
            masked = ids < tl.where(allowed < 0, 0, vocab)
            bits = tl.load(words + allowed + ids // 32, masked, -1)
            x = tl.where((bits >> (ids % 32)) & 1 != 0, x, -INF)
            tl.store(adjusted + slot.to(tl.int64) * line + ids, x, inside)


@triton.jit(do_not_specialize=["changes"])
def touch(logits, adjusted, words, changes, stride, line):
    """Change single tokens of the adjusted row: a program for each."""
    change = words + changes + tl.program_id(0).to(tl.int64) * _CHANGE
    x = logits + tl.load(change).to(tl.int64) * stride
    y = adjusted + tl.program_id(0).to(tl.int64) * line
    lists = words + tl.load(change + _LISTS)
    num_bias = tl.load(change + _NUM_BIAS)
    num_masked = tl.load(change + _NUM_MASKED)
    num_seen = tl.load(change + _NUM_SEEN)
    allowed = tl.load(change + _ALLOWED)
    masked = lists + num_bias
    seen = masked + num_masked
    counts = seen + num_seen
    bias = counts + num_seen
    for begin in range(0, num_bias, MANY):
        i = begin + tl.arange(0, MANY)
        inside = i < num_bias
        ids = tl.load(lists + i, inside, 0)
        bits = tl.load(words + allowed + ids // 32, i < tl.where(allowed < 0, 0, num_bias), -1)
        value = tl.load(x + ids, inside, 0.0) + tl.load(bias + i, inside, 0).to(
            tl.float32, bitcast=True
        )
        tl.store(y + ids, tl.where((bits >> (ids % 32)) & 1 != 0, value, -INF), inside)
    tl.debug_barrier()  # tokens may be in several lists
    for begin in range(0, num_masked, MANY):
        i = begin + tl.arange(0, MANY)
        ids = tl.load(masked + i, i < num_masked, 0)
        tl.store(y + ids, tl.full((MANY,), -INF, tl.float32), i < num_masked)
    tl.debug_barrier()
    repetition = real(change + _REPETITION)
    presence = real(change + _PRESENCE)
    frequency = real(change + _FREQUENCY)
    for begin in range(0, num_seen, MANY):
        i = begin + tl.arange(0, MANY)
        inside = i < num_seen
        ids = tl.load(seen + i, inside, 0)
        count = tl.load(counts + i, inside, 0)
        value = tl.load(y + ids, inside, 0.0)
        value = tl.where(value > 0, tl.div_rn(value, repetition), value * repetition)
        value = value - frequency * count.to(tl.float32)
        tl.store(y + ids, value - tl.where(count > 0, presence, 0.0), inside)


@triton.jit(do_not_specialize=["count"])
def finish(
    words, largest, likeliest, times, winners, tokens, health, count, chunks, CHUNKS: tl.constexpr
):
    """A row's health and token: the likeliest, or the winner of its race."""
    row = tl.program_id(0)
    line = line_of(words, row)
    slot = tl.load(line + SLOT)
    raw = peak_of(largest, count, row, -1, chunks, CHUNKS)
    c = tl.arange(0, CHUNKS)
    source = chunks_of(count, row, slot, chunks)
    peak, first = tl.max(tl.load(largest + source + c, c < chunks, -INF), 0, return_indices=True)
    state = tl.where(tl.abs(peak) < INF, _HEALTHY, _NOTHING_LEFT)
    state = tl.where(tl.abs(raw) < INF, state, _NOT_FINITE)
    token = tl.load(likeliest + source + first)
    race = tl.load(line + _RACE)
    if (race >= 0) & (state == _HEALTHY):
        place = race.to(tl.int64) * chunks
        first = tl.argmin(tl.load(times + place + c, c < chunks, INF), 0)
        token = tl.load(winners + place + first)
    tl.store(tokens + row, tl.where(state == _HEALTHY, token, 0).to(tl.int64))
    tl.store(health + row, state)
