"""What first steps compile is all that later ones need: no request waits for a compiler."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from benchmarks.gpu.shapes import QWEN_06B, Config
from inferd.engines.native import moe, warming
from inferd.engines.native.architectures import parse_config
from inferd.engines.native.batching import allocate_kv
from inferd.engines.native.decoder import Decoder
from inferd.engines.native.decoder_weights import parameters
from inferd.engines.native.device_batching import DeviceBatcher
from inferd.engines.native.stores import Parameters, TensorStore
from inferd.engines.native.warming import warm_up
from inferd_kernels.dispatch import prefer_invariant
from inferd_kernels.grouped_linear.reference import group_rows
from inferd_kernels.sampling import Adjustment, Draw, Row, Want, choose_later
from inferd_scheduler import Step, Work
from tests.kernels.compiled import Compile, compiler

LONGEST, BLOCK, BATCH, TOKENS = 4096, 16, 24, 512
ONE, BIAS = np.ones(1, np.int64), np.ones(1, np.float32)
SIZES = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "max_position_embeddings": LONGEST,
    "num_attention_heads": 4,
    "num_hidden_layers": 1,
    "num_key_value_heads": 2,
    "vocab_size": 8192,
}
EXPERTS = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "model_type": "qwen3_moe",
    "moe_intermediate_size": 256,
    "norm_topk_prob": True,
    "num_experts": 8,
    "num_experts_per_tok": 2,
}
ROWS = (
    Row(Draw(0.0)),
    Row(Draw(0.0), Want(3, (1, 2), False)),
    Row(Draw(0.9, seed=3), None, Adjustment(presence=0.3, seen_ids=ONE, seen_counts=ONE)),
    Row(Draw(0.9, seed=3, top_k=7), Want(0, (), True), Adjustment(bias_ids=ONE, bias=BIAS)),
    Row(Draw(0.9, seed=3, top_p=0.7, min_p=0.1), Want(20, (), False)),
)
CONFIGS: dict[str, Config] = {
    "dense": QWEN_06B | SIZES,
    "experts": QWEN_06B | SIZES | EXPERTS,
}


def steps(name: str, invariant: bool, served: bool) -> None:
    """First steps and, if `served`, others."""
    config, device = parse_config(CONFIGS[name], LONGEST), torch.device("cpu")
    store = TensorStore(torch.bfloat16, device)
    kept = {param.key: store.place(param).finish() for param in parameters(config)}
    model = Decoder(config, Parameters(kept), dtype=torch.bfloat16, device=device)
    prefer_invariant(invariant)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(warming, "batcher_for", lambda _, *sizes: DeviceBatcher(*sizes))
            # Nothing is computed, yet torch is to find rows by what is.
            patch.setattr(moe, "group_rows", group_rows)
            patch.setattr(torch.Tensor, "isfinite", lambda _: torch.ones(1))
            warm_up(model, TOKENS, BATCH, BLOCK, LONGEST)
            if served:
                serve(model)
    finally:
        prefer_invariant(False)


def serve(model: Decoder) -> None:
    blocks = LONGEST // BLOCK
    cache = allocate_kv(model.kv_specs, BATCH * blocks + 1, BLOCK, model.dtype, model.device)
    batcher = DeviceBatcher(cache, BLOCK, BATCH, blocks, TOKENS)
    for works in (
        [(0, 7)],
        [(0, 512)],
        [(3000, 1)],
        [(3000, 9), (5, 1)],
        [(3000, 1), (40, 300), (2000, 1), (0, 3)],
        [(4000, 2), (1, 1)],
        *([(17 * n, 1) for n in range(count)] for count in range(1, BATCH + 1)),
        *([(0, count)] for count in range(33, TOKENS, 37)),
    ):
        step = [work(row, *each) for row, each in enumerate(works)]
        hidden = model.forward(batcher.build(Step(1, step, sum(size for _, size in works))))
        logits = model.logits(hidden[: len(works)])
        for row in ROWS:
            choose_later(logits, [Row(Draw(0.0)), *[row] * len(works)][: len(works)])


def work(row: int, start: int, size: int) -> Work:
    blocks = -(-(start + size) // BLOCK)
    return Work(
        request_id=str(row),
        row=row,
        start=start,
        tokens=(1,) * size,
        new_blocks=tuple(range(blocks)),
        samples=True,
        first=True,
    )


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compile]:
    with compiler(tmp_path_factory.mktemp("triton")) as compile:
        yield compile


@pytest.mark.parametrize(
    ("name", "invariant"), [("dense", False), ("experts", False), ("dense", True)]
)
def test_nothing_is_compiled_later(compiled: Compile, name: str, invariant: bool) -> None:
    first = compiled(steps, name, invariant, False)
    both = compiled(steps, name, invariant, True)
    assert [kernel.name for kernel in both[len(first) :]] == []
