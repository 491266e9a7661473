"""A model's first steps, before anybody waits for them: they compile, and show what steps take.

On a GPU they run, over a cache of their own, every kernel that serving without adapters needs: a
largest step of prompts; steps of one new token each, for all rows and for one, with short and with
the longest contexts as bounds; a step of both kinds; greedy choice of tokens, and choice with
everything that can be asked for. And steps of ever more tokens, since how products are cut goes by
that. Adapters' kernels are compiled when the first adapter is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from inferd.engines.native.batching import allocate_kv
from inferd.engines.native.capturing import Capturable
from inferd.engines.native.device_batching import SCRATCH_BLOCKS, DeviceBatcher, batcher_for
from inferd.engines.native.model import Model
from inferd.errors import StartError
from inferd_kernels.sampling import Adjustment, Draw, Row, Want, choose_later
from inferd_scheduler import Step, Work

TOP = 20  # logprobs that a request may ask for
GROWTH = 4 / 3
"""From one size of a step to the next. No product in models as they are is cut in a way that no
step of these sizes is, up to 8192 tokens."""


def warm_up(
    model: Model, num_tokens: int, batch_size: int, block_size: int, max_model_len: int
) -> int:
    """Run a step of `batch_size` sequences, `num_tokens` in all; on a GPU, further ones.

    Args:
        max_model_len: the longest context that will be served, in tokens.

    Returns: the bytes of the cache that they ran over.

    Raises: StartError(bad_weights) if the logits are not finite.
    """
    batch_size = min(batch_size, num_tokens)
    size = max(1, min(num_tokens // batch_size, max_model_len))
    blocks = -(-size // block_size)
    num_blocks = batch_size * blocks + SCRATCH_BLOCKS
    cache = allocate_kv(model.kv_specs, num_blocks, block_size, model.dtype, model.device)
    works = [_prompt(model, row, size, blocks) for row in range(batch_size)]
    batcher = batcher_for(
        model.device,
        cache,
        block_size,
        batch_size,
        -(-max_model_len // block_size),
        size * batch_size,
    )
    hidden = model.forward(batcher.build(Step(1, works, size * batch_size)))
    logits = model.logits(hidden[size - 1 :: size].contiguous())
    if not bool(logits.isfinite().any()):
        raise StartError(
            "bad_weights", "The model's first logits are not numbers", hint="--dtype float32"
        )
    if isinstance(batcher, DeviceBatcher):
        _choose(logits)
        for count in (batch_size, 1):
            _decode(model, batcher, works[:count], max_model_len)
        if size > 1:
            _mix(model, batcher, works[:2], max_model_len)
        for total in growing(size * batch_size):
            _prefill(model, batcher, works, total)
    return sum(tensor.nbytes for pair in cache for tensor in pair)


def _prompt(model: Model, row: int, size: int, blocks: int) -> Work:
    return Work(
        request_id=str(row),
        row=row,
        start=0,
        tokens=tuple(i % model.vocab_size for i in range(size)),
        new_blocks=tuple(range(row * blocks, (row + 1) * blocks)),
        samples=True,
        first=True,
    )


def _decode(
    model: Model, batcher: DeviceBatcher, prompts: Sequence[Work], max_model_len: int
) -> None:
    """The prompts' last tokens once more, as steps have them and as graphs do."""
    works = [
        prompt._replace(
            start=len(prompt.tokens) - 1, tokens=prompt.tokens[-1:], new_blocks=(), first=False
        )
        for prompt in prompts
    ]
    hidden = model.forward(batcher.build(Step(2, works, len(works))))
    if isinstance(model, Capturable):
        hidden = model.forward(batcher.rows(len(works), max_model_len, adapters=False))
    _choose(model.logits(hidden))


def _mix(model: Model, batcher: DeviceBatcher, prompts: Sequence[Work], max_model_len: int) -> None:
    """A token and, behind it, a piece of a prompt, with contexts as if they were long."""
    works = [prompt._replace(tokens=prompt.tokens[:1]) for prompt in prompts[:-1]]
    works.append(prompts[-1]._replace(tokens=prompts[-1].tokens[:2]))
    batch = batcher.build(Step(3, works, len(works) + 1))
    model.forward(replace(batch, max_seqlen_k=max_model_len))


def _prefill(model: Model, batcher: DeviceBatcher, prompts: Sequence[Work], total: int) -> None:
    """So many tokens of the prompts."""
    size = len(prompts[0].tokens)
    full, rest = divmod(total, size)
    works = [*prompts[:full]]
    if rest:
        works.append(prompts[full]._replace(tokens=prompts[full].tokens[:rest]))
    hidden = model.forward(batcher.build(Step(4, works, total)))
    model.logits(hidden[: len(prompts)])


def growing(most: int) -> Iterator[int]:
    """1, 2, 3, 4, 5, …, each a third more than the one before, less than `most`."""
    size = 1
    while size < most:
        yield size
        size = max(size + 1, int(size * GROWTH))


def _choose(logits: torch.Tensor) -> None:
    """A token for each row, in the cheapest way and in the dearest."""
    one = np.zeros(1, np.int64)
    dear = Adjustment(
        bias_ids=one,
        bias=np.ones(1, np.float32),
        masked_ids=one,
        allowed=np.full(-(-logits.shape[1] // 32), -1, np.int32),
        seen_ids=one,
        seen_counts=one,
        repetition=1.1,
        presence=0.1,
        frequency=0.1,
    )
    draw = Draw(temperature=0.7, top_k=50, top_p=0.9, min_p=0.01, seed=1)
    for row in (
        Row(Draw(temperature=0.0)),
        Row(draw, Want(top=TOP, extra=(0,), processed=True), dear),
    ):
        choose_later(logits, [row] * len(logits)).result()
