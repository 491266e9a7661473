"""transformers' own continuous batching, on a model of the same shape."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import torch
import transformers
from transformers.utils import logging

from benchmarks.gpu.engine import random_tokens
from benchmarks.gpu.report import Report
from benchmarks.gpu.shapes import Sizes

RUNS = 2  # of which the faster one counts; where time lacks for the second, the first


def measure(report: Report, sizes: Sizes, device: torch.device) -> None:
    """The batch from its first to its last token, as `decode_batch` has it: tokens per second.

    What it prepares before the first request begins (its cache, its graphs) is not counted.
    """
    if not hasattr(transformers.GenerationMixin, "generate_batch"):
        report.fail("theirs", f"transformers {transformers.__version__} has no generate_batch")
        return
    with report.attempt("theirs"):
        silence: Any = logging
        silence.set_verbosity_error()
        model = _model(sizes, device)
        best: dict[str, Any] = {}
        for _ in range(RUNS):
            found = _run(model, sizes, sizes.output)
            best = max(best, found, key=lambda each: each.get("served_tokens_per_s", 0.0))
            report.figure("theirs", best)


def _run(model: Any, sizes: Sizes, output: int) -> dict[str, Any]:
    texts = random_tokens(sizes.llama["vocab_size"], sizes.batch, sizes.context)
    kind: Any = transformers.GenerationConfig
    settings = kind(max_new_tokens=output, do_sample=False, eos_token_id=-1, pad_token_id=0)
    bounds = None  # its own choice
    if model.device.type == "cpu":
        bounds = transformers.ContinuousBatchingConfig(num_blocks=8, max_batch_tokens=64)
    began = perf_counter()
    done = model.generate_batch(
        [list(text) for text in texts],
        generation_config=settings,
        continuous_batching_config=bounds,
        record_timestamps=True,
        progress_bar=False,
    )
    whole = perf_counter() - began
    errors = [each.error for each in done.values() if each.error]
    counts = [len(each.generated_tokens) for each in done.values()]
    if errors or counts != [output] * sizes.batch:
        raise RuntimeError(f"{len(errors)} errors, {errors[:1]}; tokens {sorted(set(counts))}")
    first = min(each.lifespan[0] for each in done.values())
    last = max(each.timestamps[-1] for each in done.values())
    return {
        "batch": sizes.batch,
        "served_tokens_per_s": sum(counts) / (last - first),
        "seconds": last - first,
        "prepared_s": whole - (last - first),
        "version": transformers.__version__,
    }


def _model(sizes: Sizes, device: torch.device) -> Any:
    """Random weights, made on the device."""
    settings = {k: v for k, v in sizes.llama.items() if k not in ("architectures", "dtype")}
    config = transformers.LlamaConfig(**settings)
    dtype = getattr(torch, sizes.llama["dtype"])
    auto: Any = transformers.AutoModelForCausalLM
    with device:
        return auto.from_config(config, dtype=dtype, attn_implementation="sdpa").eval()
