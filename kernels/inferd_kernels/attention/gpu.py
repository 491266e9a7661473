"""`attention` in Triton: a kernel for sequences with one new row, one for those with several."""

from __future__ import annotations

import math

import torch
import triton

from inferd_kernels.attention.gpu_decode import combine, decode
from inferd_kernels.attention.gpu_prefill import prefill, unite
from inferd_kernels.linear.gpu_tiles import ROOMY, multiprocessors

# Not measured on a GPU yet: all of these are chosen by counting bytes and instructions, and by what
# the compiler says of registers and shared memory. A multiprocessor of an H200 has a share of some
# 32 bytes/ns of the bandwidth, so 32 KiB under way hide a microsecond of latency.
SHORTEST = 128
"""Positions that a program takes at least while decoding. Fewer would cost more in beginning than
they spread."""
PROGRAMS_PER_SM = 8
"""While decoding, where contexts are long enough. Three run at a time: enough rounds that the last
one is short, and few enough that beginning, and partial results, are little of each."""
TILE_BYTES = 16 << 10
"""Of keys, likewise of values, in a decode's tile. Two tiles are read ahead: three programs fit
into a multiprocessor's shared memory and have up to 192 KiB under way, and one alone has enough. A
tile takes 4 warps 490 instructions each, a third of what there is time for at the memory's rate."""
PREFILL_SHORTEST = 512
"""Positions that a program takes at least of the context of a tile of a prompt's rows."""
SLICE = 16  # rows of a tile whose parts are united by one program
SPANS = 16  # partial results that are read together
SEQUENCES = 256  # whose lengths are looked at together


def attention(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    block_tables: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    seq_lens: torch.Tensor,
    *,
    max_seqlen_q: int,
    max_seqlen_k: int,
    scale: float,
    window: int = 0,
    softcap: float = 0.0,
) -> torch.Tensor:
    assert k_cache.is_contiguous(), "a cache is contiguous"
    assert v_cache.is_contiguous(), "a cache is contiguous"
    if q.stride(2) != 1:
        q = q.contiguous()
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    if not q.shape[0]:
        return out
    batch = (block_tables, cu_seqlens_q, seq_lens)
    caches = (k_cache, v_cache)
    factors = exponents(scale, softcap)
    mixed = max_seqlen_q > 1
    if len(q) == 1 or len(seq_lens) > 1:
        _decode(q, caches, batch, out, mixed, max_seqlen_k, window, factors)
    if mixed and len(q) > 1:
        _prefill(q, caches, batch, out, max_seqlen_q, max_seqlen_k, window, factors)
    return out


def exponents(scale: float, softcap: float) -> tuple[float, float]:
    """What products are multiplied by, and the bound of what they then become (0: none), so that
    2 to the result is e to the score.

    Uncapped, log2(e) * score. Capped, x with tanh(score / softcap) = (1 - 2^-x) / (1 + 2^-x).
    """
    assert scale > 0
    if not softcap:
        return scale * math.log2(math.e), 0.0
    return 2 * scale / softcap * math.log2(math.e), softcap * math.log2(math.e)


def programs_wanted(device: torch.device, kv_heads: int) -> int:
    """Of each kv head, while decoding."""
    return max(1, multiprocessors(device)[0] * PROGRAMS_PER_SM // kv_heads)


def decode_tokens(head_dim: int, itemsize: int) -> int:
    """Positions in a tile of the decode kernel: as many as TILE_BYTES hold."""
    fit: int = TILE_BYTES // (triton.next_power_of_2(max(head_dim, 16)) * itemsize)
    return max(16, min(128, fit))


def prefill_tile(head_dim: int, itemsize: int, shared: int) -> tuple[int, int, int, int]:
    """Rows, positions, warps and stages of the prefill kernel; shared: bytes of memory that a
    program can have.

    For 16 bits and heads of 128, a tile of 128 x 128 takes the matrix units 2048 cycles and the
    schedulers 1200, of which little overlaps. Tiles of 64 positions would take them 1730 for as
    much, tiles of 64 rows read the cache twice as often; all registers are used. Without Hopper's
    instruction, which takes operands from shared memory, 128 rows of 256 fit no registers.
    """
    dims = triton.next_power_of_2(max(head_dim, 16))
    if itemsize == 4:  # no matrix units: what a model's numbers are checked with
        return 16, 32 if dims <= 128 else 16, 4, 1
    if dims <= 128:
        return 128, 128, 8, 3
    return (128 if dims <= 256 and shared >= ROOMY else 64, 32, 8, 3)


def _decode(
    q: torch.Tensor,
    caches: tuple[torch.Tensor, torch.Tensor],
    batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    out: torch.Tensor,
    mixed: bool,
    max_seqlen_k: int,
    window: int,
    factors: tuple[float, float],
) -> None:
    """The rows of sequences that have one."""
    _, block_size, kv_heads, head_dim = caches[0].shape
    heads, tables, count = q.shape[1], batch[0], len(batch[2])
    tokens = decode_tokens(head_dim, q.element_size())
    shortest = max(tokens, SHORTEST)
    items = programs_wanted(q.device, kv_heads)
    longest = min(window, max_seqlen_k) if window else max_seqlen_k
    programs = count * -(-longest // shortest)
    split = programs > count
    programs = min(programs, items + count)
    dims = triton.next_power_of_2(max(head_dim, 16))
    scratch = programs if split else 0
    partial = torch.empty(scratch, heads, head_dim, dtype=torch.float32, device=q.device)
    logs = torch.empty(scratch, heads, dtype=torch.float32, device=q.device)
    same = {
        "HEAD_DIM": head_dim,
        "DIMS": dims,
        "TOKENS": tokens,
        "SHORTEST": shortest,
        "SEQUENCES": SEQUENCES,
        "MIXED": mixed,
        "WINDOWED": window > 0,
    }
    decode[(kv_heads, programs)](
        q,
        *caches,
        *batch,
        out,
        partial,
        logs,
        q.stride(0),
        q.stride(1),
        tables.stride(0),
        count,
        items,
        window,
        *factors,
        GROUP=heads // kv_heads,
        KV_HEADS=kv_heads,
        BLOCK_SIZE=block_size,
        ROWS=max(16, triton.next_power_of_2(heads // kv_heads)),
        CAPPED=factors[1] > 0,
        num_warps=4,
        num_stages=5,
        **same,
    )
    if split:
        combine[(heads, count)](
            *batch[1:],
            out,
            partial,
            logs,
            count,
            items,
            window,
            HEADS=heads,
            SPANS=SPANS,
            num_warps=2,
            **same,
        )


def _prefill(
    q: torch.Tensor,
    caches: tuple[torch.Tensor, torch.Tensor],
    batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    out: torch.Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    window: int,
    factors: tuple[float, float],
) -> None:
    """The rows of sequences that have more than one."""
    _, block_size, kv_heads, head_dim = caches[0].shape
    group, count = q.shape[1] // kv_heads, len(batch[2])
    processors, shared = multiprocessors(q.device)
    rows, tokens, warps, stages = prefill_tile(head_dim, q.element_size(), shared)
    tiles = most_tiles(len(q), count, group, rows)
    shortest = -(-PREFILL_SHORTEST // tokens) * tokens
    longest = min(window + max_seqlen_q, max_seqlen_k) if window else max_seqlen_k
    spare = processors // kv_heads
    if longest <= shortest or 2 * -(-max_seqlen_q * group // rows) > spare:
        spare = 0
    partial = q.new_empty(spare, kv_heads, rows, head_dim, dtype=torch.float32)
    logs = q.new_empty(spare, kv_heads, rows, dtype=torch.float32)
    same = {
        "GROUP": group,
        "KV_HEADS": kv_heads,
        "HEAD_DIM": head_dim,
        "ROWS": rows,
        "DIMS": triton.next_power_of_2(max(head_dim, 16)),
        "SHORTEST": shortest,
        "SEQUENCES": SEQUENCES,
        "WINDOWED": window > 0,
    }
    prefill[(kv_heads, max(tiles, spare))](
        q,
        *caches,
        *batch,
        out,
        partial,
        logs,
        q.stride(0),
        q.stride(1),
        batch[0].stride(0),
        count,
        spare,
        window,
        *factors,
        BLOCK_SIZE=block_size,
        TOKENS=tokens,
        CAPPED=factors[1] > 0,
        num_warps=warps,
        num_stages=stages,
        **same,
    )
    if spare:
        unite[(kv_heads, spare, rows // SLICE)](
            *batch[1:],
            out,
            partial,
            logs,
            count,
            spare,
            window,
            SLICE=SLICE,
            num_warps=4,
            **same,
        )


def most_tiles(total_rows: int, count: int, group: int, rows: int) -> int:
    """At most how many tiles of `rows` rows the sequences with several rows have, for one kv head:
    each may leave one unfilled."""
    return total_rows * group // rows + min(count, total_rows // 2)


IMPLEMENTATIONS = {"attention": attention}
