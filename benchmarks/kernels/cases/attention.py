"""Attention with Qwen3-0.6B's heads: rows that decode, and whole prompts.

torch's operator reads the same KV side by side, without blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch.nn import functional

from benchmarks.kernels.case import Case, copies, rotate
from inferd_kernels import layout
from inferd_kernels.attention import attention

TESTS = ("tests/kernels/test_attention.py", "tests/kernels/test_attention_cpu.py")
HEADS, KV_HEADS, HEAD_DIM, BLOCK = 16, 8, 128, 16
SCALE = HEAD_DIM**-0.5
MAX_BYTES = 1 << 30  # of KV: what is larger is left out


def cases() -> Iterator[Case]:
    for batch in (1, 8, 32, 64):
        for context in (128, 1024, 8192):
            if _kv_bytes(batch * context, torch.bfloat16) <= MAX_BYTES:
                yield _decode(batch, context, torch.bfloat16)
    yield _decode(8, 1024, torch.float32)
    for tokens in (512, 2048):
        for dtype in (torch.bfloat16, torch.float32):
            yield _prefill(tokens, dtype)


def _decode(batch: int, context: int, dtype: torch.dtype) -> Case:
    num_bytes = _kv_bytes(batch * context, dtype)
    runs = [_paged(batch, 1, context, dtype) for _ in range(copies(num_bytes))]
    dense = [_dense(batch, 1, context, dtype) for _ in range(copies(num_bytes))]
    return Case(
        f"{batch} x {context} decode {_name(dtype)}",
        rotate(runs),
        bytes=num_bytes,
        operations=4 * batch * context * HEADS * HEAD_DIM,
        torch=rotate(dense),
        reference=batch * context <= 64 * 1024,
    )


def _prefill(tokens: int, dtype: torch.dtype) -> Case:
    """Operations are counted for the keys that a row sees, not for those it is masked from."""
    return Case(
        f"1 x {tokens} prefill {_name(dtype)}",
        _paged(1, tokens, tokens, dtype),
        bytes=_kv_bytes(tokens, dtype) + 2 * tokens * HEADS * HEAD_DIM * dtype.itemsize,
        operations=2 * tokens * (tokens + 1) * HEADS * HEAD_DIM,
        torch=_dense(1, tokens, tokens, dtype),
    )


def _paged(batch: int, rows: int, context: int, dtype: torch.dtype) -> Callable[[], object]:
    blocks = -(-context // BLOCK)
    keys, values = layout.allocate(
        batch * blocks, BLOCK, KV_HEADS, HEAD_DIM, dtype=dtype, device=torch.device("cpu")
    )
    keys.copy_(torch.randn(BLOCK, KV_HEADS, HEAD_DIM))
    values.copy_(torch.randn(BLOCK, KV_HEADS, HEAD_DIM))
    tables = torch.randperm(batch * blocks, dtype=torch.int32).view(batch, blocks)
    q = torch.randn(batch * rows, HEADS, HEAD_DIM).to(dtype)
    starts = torch.arange(0, batch * rows + 1, rows, dtype=torch.int32)
    lens = torch.full((batch,), context, dtype=torch.int32)
    return lambda: attention(
        q,
        keys,
        values,
        tables,
        starts,
        lens,
        max_seqlen_q=rows,
        max_seqlen_k=context,
        scale=SCALE,
    )


def _dense(batch: int, rows: int, context: int, dtype: torch.dtype) -> Callable[[], object]:
    q = torch.randn(batch, HEADS, rows, HEAD_DIM).to(dtype)
    keys, values = (
        torch.randn(KV_HEADS, context, HEAD_DIM).to(dtype).repeat(batch, 1, 1, 1) for _ in range(2)
    )
    if rows == 1:  # the heads of a group as rows of their kv head: torch's faster way
        folded = q.view(batch, KV_HEADS, -1, HEAD_DIM)
        return lambda: functional.scaled_dot_product_attention(folded, keys, values, scale=SCALE)
    return lambda: functional.scaled_dot_product_attention(
        q, keys, values, is_causal=True, scale=SCALE, enable_gqa=True
    )


def _kv_bytes(tokens: int, dtype: torch.dtype) -> int:
    return 2 * tokens * KV_HEADS * HEAD_DIM * dtype.itemsize


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
