"""Kernels of `sampling.gpu` for scores."""

from __future__ import annotations

import triton
import triton.language as tl

from inferd_kernels.sampling.gpu_kernels import (
    CHUNK,
    INF,
    SLOT,
    exp_of,
    line_of,
    logits_of,
    peak_of,
    real,
)
from inferd_kernels.sampling.gpu_table import ROW, place_of

LAST = tl.constexpr(2**63 - 1)
"""Behind every key."""

_FEW = tl.constexpr(32)
_SCALE = tl.constexpr(place_of(ROW, "scale"))
_PROCESSED = tl.constexpr(place_of(ROW, "processed"))
_TOP = tl.constexpr(place_of(ROW, "top"))
_EXTRA = tl.constexpr(place_of(ROW, "extra"))
_NUM_EXTRA = tl.constexpr(place_of(ROW, "num_extra"))


@triton.jit
def _scored(x, peak, scale):
    """The logits that are scored: the largest is 0, and so is -0."""
    y = tl.div_rn(x, scale) - tl.div_rn(peak, scale)
    return tl.where(y == 0.0, 0.0, y)


@triton.jit
def _slot_of(about):
    """Of the logits that are scored."""
    return tl.where(tl.load(about + _PROCESSED) != 0, tl.load(about + SLOT), -1)


@triton.jit(do_not_specialize=["group", "count", "most"], do_not_specialize_on_alignment=["tokens"])
def tally(
    logits,
    adjusted,
    words,
    group,
    largest,
    tokens,
    masses,
    aheads,
    keys,
    count,
    most,
    stride,
    line,
    vocab,
    chunks,
    CHUNKS: tl.constexpr,
):
    """Of each chunk its mass, how many of its tokens rank before the row's, and the keys of its
    likeliest, in which a token's magnitude comes before its number."""
    place = tl.program_id(0) // chunks
    chunk = tl.program_id(0) % chunks
    row = tl.load(words + group + place)
    about = line_of(words, row)
    slot = _slot_of(about)
    peak = peak_of(largest, count, row, slot, chunks, CHUNKS)
    if tl.abs(peak) == INF:
        return
    scale = real(about + _SCALE)
    source = logits_of(logits, adjusted, row, slot, stride, line)
    ids = chunk * CHUNK + tl.arange(0, CHUNK)
    inside = ids < vocab
    y = _scored(tl.load(source + ids, inside, -INF), peak, scale)
    token = tl.load(tokens + row)
    given = _scored(
        tl.load(source + token, (token >= 0) & (token < vocab), float("nan")), peak, scale
    )
    ahead = inside & ((y > given) | ((y == given) & (ids < token)))
    out = place.to(tl.int64) * chunks + chunk
    tl.store(masses + out, tl.sum(exp_of(y), 0))
    tl.store(aheads + out, tl.sum(ahead.to(tl.int32), 0))
    magnitude = (y.to(tl.int32, bitcast=True) & 0x7FFFFFFF).to(tl.int64)
    key = tl.where(inside, (magnitude << 32) | ids, LAST)
    for i in range(tl.load(about + _TOP)):
        first = tl.min(key, 0)
        tl.store(keys + out * most + i, first)
        key = tl.where(key == first, LAST, key)


@triton.jit(
    do_not_specialize=["group", "count", "most", "most_extra"],
    do_not_specialize_on_alignment=["tokens"],
)
def report(
    logits,
    adjusted,
    words,
    group,
    largest,
    tokens,
    masses,
    aheads,
    keys,
    extra,
    logprobs,
    ranks,
    top_ids,
    top_logprobs,
    extra_logprobs,
    count,
    most,
    most_extra,
    stride,
    line,
    vocab,
    chunks,
    CHUNKS: tl.constexpr,
):
    """Put a row's chunks together. A program for each."""
    place = tl.program_id(0)
    row = tl.load(words + group + place)
    about = line_of(words, row)
    slot = _slot_of(about)
    peak = peak_of(largest, count, row, slot, chunks, CHUNKS)
    if tl.abs(peak) == INF:
        return
    scale = real(about + _SCALE)
    source = logits_of(logits, adjusted, row, slot, stride, line)
    chunk = tl.arange(0, CHUNKS)
    own = place.to(tl.int64) * chunks + chunk
    there = chunk < chunks
    mass = tl.sum(tl.load(masses + own, there, 0.0).to(tl.float64), 0)
    log_total = tl.log(mass).to(tl.float32)
    token = tl.load(tokens + row)
    given = _scored(
        tl.load(source + token, (token >= 0) & (token < vocab), float("nan")), peak, scale
    )
    tl.store(logprobs + place, given - log_total)
    tl.store(ranks + place, tl.sum(tl.load(aheads + own, there, 0), 0) + 1)
    top = tl.load(about + _TOP)
    taken = tl.zeros((CHUNKS,), tl.int32)
    for i in range(top):
        heads = tl.load(keys + own * most + taken, there & (taken < top), LAST)
        first = tl.min(heads, 0)
        magnitude = (first >> 32).to(tl.int32)
        tl.store(top_ids + place.to(tl.int64) * most + i, (first & 0xFFFFFFFF).to(tl.int32))
        value = -(magnitude.to(tl.float32, bitcast=True)) - log_total
        tl.store(top_logprobs + place.to(tl.int64) * most + i, value)
        taken += (heads == first).to(tl.int32)
    others = extra + tl.load(about + _EXTRA)
    num_extra = tl.load(about + _NUM_EXTRA)
    for begin in range(0, num_extra, _FEW):
        those = begin + tl.arange(0, _FEW)
        ids = tl.load(others + those, those < num_extra, -1)
        x = tl.load(source + ids, (ids >= 0) & (ids < vocab), float("nan"))
        value = _scored(x, peak, scale) - log_total
        tl.store(extra_logprobs + place.to(tl.int64) * most_extra + those, value, those < num_extra)
