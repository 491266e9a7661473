"""Kernels of `sampling.gpu` for rows that draw: the borders of top_k and top_p, and the race.

Likelihoods are summed as integers, of which 2^62 are the most that a row's can come to, and tokens
are counted: so the order in which programs add to a row's sums does not matter.
"""

from __future__ import annotations

import triton
import triton.language as tl

from inferd_kernels.sampling import gpu_table as table
from inferd_kernels.sampling import noise
from inferd_kernels.sampling.gpu_kernels import (
    CHUNK,
    INF,
    SLOT,
    chunks_of,
    exp_of,
    line_of,
    logits_of,
    peak_of,
    real,
)

BINS = tl.constexpr(table.BINS)
SUMS = tl.constexpr(table.BINS + 2)
"""Of a row that looks for a border: its bins, the mass of all, and the length of its list."""

LISTED = tl.constexpr(512)
"""Of a list, a program takes so many at a time."""

_ONE = tl.constexpr(table.ONE)
_BIN_BITS = tl.constexpr(21)
"""Of a logit's magnitude: those below the number of its bin."""

_BIN = tl.constexpr(1 << 21)

_STREAM = tl.constexpr(table.place_of(table.ROW, "stream"))
_TEMPERATURE = tl.constexpr(table.place_of(table.ROW, "temperature"))
_LEAST = tl.constexpr(table.place_of(table.ROW, "least"))
_TOP_P = tl.constexpr(table.place_of(table.ROW, "top_p"))
_TOP_K = tl.constexpr(table.place_of(table.ROW, "top_k"))
_LOW = tl.constexpr(table.place_of(table.ROW, "low"))
_SHIFT = tl.constexpr(table.place_of(table.ROW, "shift"))
_SEARCH = tl.constexpr(table.place_of(table.ROW, "search"))

_GAMMA = tl.constexpr(noise.GAMMA % 2**64)
_MIX_1 = tl.constexpr(noise.MIX_1 % 2**64)
_MIX_2 = tl.constexpr(noise.MIX_2 % 2**64)


@triton.jit
def _magnitude(t):
    """Bits of |t|, t ≤ 0: the larger, the less likely."""
    return t.to(tl.int32, bitcast=True) & 0x7FFFFFFF


@triton.jit
def _value(magnitude):
    return -(magnitude.to(tl.float32, bitcast=True))


@triton.jit
def _mass(likelihood, unit):
    return (likelihood * unit).to(tl.int64)


@triton.jit
def _nucleus(bins, mass, top_p):
    """The bin of the border of top_p, the mass that it must reach, and that above the bin."""
    below = tl.cumsum(bins, 0) - bins
    total = tl.sum(bins, 0)
    target = top_p.to(tl.float64) * mass.to(tl.float64)
    reached = (total - below).to(tl.float64) >= target
    place = tl.maximum(tl.sum(reached.to(tl.int32), 0) - 1, 0)
    above = tl.sum(tl.where(tl.arange(0, BINS) > place, bins, 0), 0)
    return place, target, above


@triton.jit(do_not_specialize=["group", "count"])
def weigh(
    logits,
    adjusted,
    words,
    group,
    largest,
    sums,
    unit,
    count,
    stride,
    line,
    vocab,
    chunks,
    CHUNKS: tl.constexpr,
):
    """Fill the bins of each row that looks for a border, chunk by chunk: tokens by the magnitude of
    their logits for top_k; else likelihoods by their bits for top_p, and the mass of all."""
    place = tl.program_id(0) // chunks
    row = tl.load(words + group + place)
    about = line_of(words, row)
    slot = tl.load(about + SLOT)
    peak = peak_of(largest, count, row, slot, chunks, CHUNKS)
    if tl.abs(peak) == INF:
        return
    ids = tl.program_id(0) % chunks * CHUNK + tl.arange(0, CHUNK)
    inside = ids < vocab
    x = tl.load(logits_of(logits, adjusted, row, slot, stride, line) + ids, inside, -INF)
    t = tl.div_rn(x - peak, real(about + _TEMPERATURE))
    bins = sums + place.to(tl.int64) * SUMS
    if tl.load(about + _TOP_K) > 0:
        # The last bin would be NaN's: what lies beyond the vocabulary goes there, and is dropped.
        number = tl.where(inside, _magnitude(t) >> _BIN_BITS, BINS - 1)
        found = tl.histogram(number, BINS)
        i = tl.arange(0, BINS)
        tl.atomic_add(bins + i, found.to(tl.int64), (found > 0) & (i < BINS - 1), sem="relaxed")
    else:
        likelihood = tl.where(t >= real(about + _LEAST), exp_of(t), 0.0)
        mass = _mass(likelihood, unit)
        tl.atomic_add(bins + BINS, tl.sum(mass, 0), sem="relaxed")
        above = likelihood.to(tl.int32, bitcast=True) - tl.load(about + _LOW)
        number = tl.maximum(above, 0) >> tl.load(about + _SHIFT)
        tl.atomic_add(bins + number, mass, above >= 0, sem="relaxed")


@triton.jit(do_not_specialize=["group", "count"])
def collect(
    logits,
    adjusted,
    words,
    group,
    largest,
    sums,
    lists,
    count,
    stride,
    line,
    vocab,
    chunks,
    CHUNKS: tl.constexpr,
):
    """List the magnitudes among which each row's border is: for top_k those up to the end of its
    bin, for top_p those in its bin."""
    place = tl.program_id(0) // chunks
    chunk = tl.program_id(0) % chunks
    row = tl.load(words + group + place)
    about = line_of(words, row)
    slot = tl.load(about + SLOT)
    peak = peak_of(largest, count, row, slot, chunks, CHUNKS)
    if tl.abs(peak) == INF:
        return
    temperature = real(about + _TEMPERATURE)
    own = sums + place.to(tl.int64) * SUMS
    bins = tl.load(own + tl.arange(0, BINS))
    top_k = tl.load(about + _TOP_K)
    low, high = 0, 0x7FFFFFFF  # of likelihoods' bits
    most = 0x7FFFFFFF  # of magnitudes
    if top_k > 0:
        before = tl.sum((tl.cumsum(bins, 0) < top_k).to(tl.int32), 0)
        most = ((before + 1) << _BIN_BITS) - 1
    else:
        number, _, _ = _nucleus(bins, tl.load(own + BINS), real(about + _TOP_P))
        shift = tl.load(about + _SHIFT)
        low = tl.load(about + _LOW) + (number << shift)
        high = low + ((1 << shift) - 1)
    best = tl.load(largest + chunks_of(count, row, slot, chunks) + chunk)
    best = tl.div_rn(best - peak, temperature)
    if (_magnitude(best) > most) | (exp_of(best).to(tl.int32, bitcast=True) < low):
        return
    ids = chunk * CHUNK + tl.arange(0, CHUNK)
    inside = ids < vocab
    x = tl.load(logits_of(logits, adjusted, row, slot, stride, line) + ids, inside, -INF)
    t = tl.div_rn(x - peak, temperature)
    bits = exp_of(t).to(tl.int32, bitcast=True)
    chosen = inside & (_magnitude(t) <= most) & (bits >= low) & (bits <= high)
    listed = chosen.to(tl.int32)
    begin = tl.atomic_add(own + BINS + 1, tl.sum(listed, 0).to(tl.int64), sem="relaxed")
    at = begin + tl.cumsum(listed, 0) - listed
    tl.store(lists + place.to(tl.int64) * line + at, _magnitude(t), chosen)


@triton.jit
def _count_below(numbers, n, bound):
    counted = tl.zeros((LISTED,), tl.int32)
    for begin in range(0, n, LISTED):
        i = begin + tl.arange(0, LISTED)
        counted += (tl.load(numbers + i, i < n, 0x7FFFFFFF) < bound).to(tl.int32)
    return tl.sum(counted, 0)


@triton.jit
def _mass_from(numbers, n, least, low, unit):
    """Of the likelihoods listed whose bits are at least `low` and whose logits are at least
    `least`."""
    mass = tl.zeros((LISTED,), tl.int64)
    for begin in range(0, n, LISTED):
        i = begin + tl.arange(0, LISTED)
        t = _value(tl.load(numbers + i, i < n, 0x7F800000))
        likelihood = exp_of(t)
        kept = (t >= least) & (likelihood.to(tl.int32, bitcast=True) >= low)
        mass += tl.where(kept, _mass(likelihood, unit), 0)
    return tl.sum(mass, 0)


@triton.jit(do_not_specialize=["group"])
def cut(words, group, sums, lists, values, likelihoods, unit, line):
    """The borders of each row, bit by bit: the least value and the least likelihood's bits that
    stay. A program for each."""
    place = tl.program_id(0)
    about = line_of(words, tl.load(words + group + place))
    own = sums + place.to(tl.int64) * SUMS
    bins = tl.load(own + tl.arange(0, BINS))
    n = tl.load(own + BINS + 1).to(tl.int32)
    numbers = lists + place.to(tl.int64) * line
    top_k = tl.load(about + _TOP_K)
    top_p = real(about + _TOP_P)
    least = real(about + _LEAST)
    if top_k > 0:
        magnitude = tl.sum((tl.cumsum(bins, 0) < top_k).to(tl.int32), 0) << _BIN_BITS
        step = _BIN // 2
        while step > 0:
            tried = magnitude + step
            step = step // 2
            if _count_below(numbers, n, tried) < top_k:
                magnitude = tried
        least = tl.maximum(least, _value(magnitude))
    border = 0
    if top_p < 1.0:
        number, target, above = _nucleus(bins, tl.load(own + BINS), top_p)
        shift = tl.load(about + _SHIFT)
        border = tl.load(about + _LOW) + (number << shift)
        step = (1 << shift) // 2
        if top_k > 0:
            target = top_p.to(tl.float64) * _mass_from(numbers, n, least, 0, unit).to(tl.float64)
            above = above * 0
            border = border * 0
            step = step * 0 + (1 << 29)
        while step > 0:
            tried = border + step
            step = step // 2
            if (above + _mass_from(numbers, n, least, tried, unit)).to(tl.float64) >= target:
                border = tried
        border = tl.minimum(border, _ONE)  # where top_p is 0
    tl.store(values + place, least)
    tl.store(likelihoods + place, border)


@triton.jit
def _bits(stream, ids):
    """52 bits of noise, see noise.py."""
    z = stream + (ids.to(tl.uint64) + 1) * _GAMMA
    z = (z ^ (z >> 30)) * _MIX_1
    z = (z ^ (z >> 27)) * _MIX_2
    return (z ^ (z >> 31)) >> 12


@triton.jit
def _stream(about):
    low = tl.load(about + _STREAM).to(tl.uint32, bitcast=True).to(tl.uint64)
    return (tl.load(about + _STREAM + 1).to(tl.uint32, bitcast=True).to(tl.uint64) << 32) | low


@triton.jit
def _first(likelihood, begin, stream):
    """When the first of the tokens from `begin` on arrives, and which it is. Likelihood 0: it
    does not run.

    Most cannot be first, whatever their exact time: u / likelihood in float32 shows it.
    """
    lanes = tl.arange(0, CHUNK)
    u = _bits(stream, begin + lanes).to(tl.float32) * (1.0 / 2**52) + 0.5 / 2**52
    kept = likelihood > 0
    key = tl.where(kept, u / tl.where(kept, likelihood, 1.0), INF)
    earliest, at = tl.min(key, 0, return_indices=True)
    time = tl.full((), INF, tl.float64)
    token = tl.full((), 0, tl.int32)
    while earliest < time * 1.00001:
        weight = tl.sum(tl.where(lanes == at, likelihood, 0.0), 0).to(tl.float64)
        k = _bits(stream, begin + at).to(tl.float64)
        arrival = -tl.log(1.0 - (k + 0.5) * (1.0 / 2**52)) / weight
        ahead = (arrival < time) | ((arrival == time) & (begin + at < token))
        token = tl.where(ahead, begin + at, token)
        time = tl.where(ahead, arrival, time)
        key = tl.where(lanes == at, INF, key)
        earliest, at = tl.min(key, 0, return_indices=True)
    return time, token


@triton.jit(do_not_specialize=["group", "count"])
def race(
    logits,
    adjusted,
    words,
    group,
    largest,
    values,
    likelihoods,
    times,
    winners,
    count,
    stride,
    line,
    vocab,
    chunks,
    CHUNKS: tl.constexpr,
):
    """Of each chunk the first token to arrive in the exponential race of reference.py, and when."""
    place = tl.program_id(0) // chunks
    chunk = tl.program_id(0) % chunks
    row = tl.load(words + group + place)
    about = line_of(words, row)
    slot = tl.load(about + SLOT)
    peak = peak_of(largest, count, row, slot, chunks, CHUNKS)
    if tl.abs(peak) == INF:
        return
    least = real(about + _LEAST)
    border = 1  # the least bits of any likelihood
    search = tl.load(about + _SEARCH)
    if search >= 0:
        least = tl.load(values + search)
        border = tl.maximum(tl.load(likelihoods + search), 1)
    temperature = real(about + _TEMPERATURE)
    out = place.to(tl.int64) * chunks + chunk
    best = tl.load(largest + chunks_of(count, row, slot, chunks) + chunk)
    best = tl.div_rn(best - peak, temperature)
    time = tl.full((), INF, tl.float64)
    token = tl.full((), 0, tl.int32)
    if (best >= least) & (exp_of(best).to(tl.int32, bitcast=True) >= border):
        ids = chunk * CHUNK + tl.arange(0, CHUNK)
        x = tl.load(logits_of(logits, adjusted, row, slot, stride, line) + ids, ids < vocab, -INF)
        t = tl.div_rn(x - peak, temperature)
        likelihood = exp_of(t)
        kept = (t >= least) & (likelihood.to(tl.int32, bitcast=True) >= border)
        time, token = _first(tl.where(kept, likelihood, 0.0), chunk * CHUNK, _stream(about))
    tl.store(times + out, time)
    tl.store(winners + out, token)
