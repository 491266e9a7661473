"""Attention: rows that decode, and whole prompts.

torch's operator reads the same KV side by side, without blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch.nn import functional

from benchmarks.kernels.case import Case, Place, rotate, short
from inferd_kernels import layout
from inferd_kernels.attention import attention

TESTS = ("tests/kernels/test_attention.py", "tests/kernels/test_attention_cpu.py")
GPU_TESTS = (
    "tests/kernels/test_attention_gpu.py",
    "tests/kernels/test_attention_gpu_invariant.py",
)
BLOCK = 16
FEW = 32  # new rows behind a long prefix, as of a chat's next turn
MAX_BYTES = 4 << 30  # of KV: what is larger is left out
MAX_COPIED = 1 << 30  # likewise, where inputs take turns


def cases(place: Place) -> Iterator[Case]:
    first, *others = place.dtypes
    for batch in place.few:
        for context in place.contexts:
            most = MAX_COPIED if place.cache_bytes else MAX_BYTES
            if _kv_bytes(place, batch * context, first) <= most:
                yield _decode(place, batch, context, first)
    for dtype in others:
        yield _decode(place, place.few[1], place.contexts[1], dtype)
    for tokens in place.prompts:
        for dtype in place.dtypes:
            yield _prefill(place, tokens, tokens, dtype)
    longest = place.prompts[-1]
    yield _prefill(place, min(FEW, longest // 2), longest, first)


def _decode(place: Place, batch: int, context: int, dtype: torch.dtype) -> Case:
    num_bytes = _kv_bytes(place, batch * context, dtype)
    turns = range(place.copies(num_bytes))
    return Case(
        f"{batch} x {context} decode {short(dtype)}",
        rotate([_paged(place, batch, 1, context, dtype) for _ in turns]),
        bytes=num_bytes,
        operations=4 * batch * context * place.shape.heads * place.shape.head_dim,
        torch=rotate([_dense(place, batch, 1, context, dtype) for _ in turns]),
        reference=batch * context <= 64 * 1024,
    )


def _prefill(place: Place, rows: int, context: int, dtype: torch.dtype) -> Case:
    """Operations are counted for the keys that a row sees, not for those it is masked from."""
    width = place.shape.heads * place.shape.head_dim
    whole = rows == context  # as torch's operator takes causality to be
    return Case(
        f"1 x {rows}{'' if whole else f' of {context}'} prefill {short(dtype)}",
        _paged(place, 1, rows, context, dtype),
        bytes=_kv_bytes(place, context, dtype) + 2 * rows * width * dtype.itemsize,
        operations=2 * rows * (2 * context - rows + 1) * width,
        torch=_dense(place, 1, rows, context, dtype) if whole else None,
    )


def _paged(
    place: Place, batch: int, rows: int, context: int, dtype: torch.dtype
) -> Callable[[], object]:
    shape, device = place.shape, place.device
    blocks = -(-context // BLOCK)
    keys, values = layout.allocate(
        batch * blocks, BLOCK, shape.kv_heads, shape.head_dim, dtype=dtype, device=device
    )
    for each in (keys, values):
        each.copy_(torch.randn(BLOCK, shape.kv_heads, shape.head_dim, device=device))
    tables = torch.randperm(batch * blocks, dtype=torch.int32).view(batch, blocks).to(device)
    q = torch.randn(batch * rows, shape.heads, shape.head_dim).to(device, dtype)
    starts = torch.arange(0, batch * rows + 1, rows, dtype=torch.int32, device=device)
    lens = torch.full((batch,), context, dtype=torch.int32, device=device)
    return lambda: attention(
        q,
        keys,
        values,
        tables,
        starts,
        lens,
        max_seqlen_q=rows,
        max_seqlen_k=context,
        scale=shape.head_dim**-0.5,
    )


def _dense(
    place: Place, batch: int, rows: int, context: int, dtype: torch.dtype
) -> Callable[[], object]:
    heads, kv_heads, size = place.shape.heads, place.shape.kv_heads, place.shape.head_dim
    q = torch.randn(batch, heads, rows, size).to(place.device, dtype)
    keys, values = (
        torch.randn(kv_heads, context, size).to(place.device, dtype).repeat(batch, 1, 1, 1)
        for _ in range(2)
    )
    if rows == 1:  # the heads of a group as rows of their kv head: torch's faster way
        folded = q.view(batch, kv_heads, -1, size)
        return lambda: functional.scaled_dot_product_attention(folded, keys, values)
    return lambda: functional.scaled_dot_product_attention(
        q, keys, values, is_causal=True, enable_gqa=True
    )


def _kv_bytes(place: Place, tokens: int, dtype: torch.dtype) -> int:
    return 2 * tokens * place.shape.kv_heads * place.shape.head_dim * dtype.itemsize
