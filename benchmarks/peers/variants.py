"""Who is compared, and how each is run: as its own documentation says is best on such a machine.

Sources are named in README.md. Each variant is one process that holds one model.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.models.shapes import Shape
from benchmarks.peers.environments import Place

KV_TOKENS = 8192  # 32 sequences of up to 256 tokens

Start = tuple[list[str], dict[str, str]]
"""Arguments after the environment's Python, and environment variables."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One engine with one kind of weights."""

    name: str
    label: str
    environment: str
    weights: str  # bf16, fp32, or int8: what our ratios compare with
    start: Callable[[Place, Shape], Start]


def _ours(**options: object) -> Callable[[Place, Shape], Start]:
    def start(place: Place, shape: Shape) -> Start:
        per_token = 2 * shape.layers * shape.kv_heads * shape.head_dim
        width = 4 if options.get("dtype") == "float32" else 2
        fields = {"kv_cache_bytes": KV_TOKENS * per_token * width, "max_batch_size": 32}
        fields |= {"max_batch_tokens": 2048, "num_threads": place.threads}
        return _module("ours", str(place.checkpoint), json.dumps(fields | options)), {}

    return start


def _llama(kind: str) -> Callable[[Place, Shape], Start]:
    def start(place: Place, shape: Shape) -> Start:
        return _module("llama", str(place.gguf(kind)), str(place.threads), "auto"), {}

    return start


def _vllm(dtype: str, *, zen: bool = False) -> Callable[[Place, Shape], Start]:
    def start(place: Place, shape: Shape) -> Start:
        environment = {
            "LD_PRELOAD": place.preload("libtcmalloc_minimal.so.4", "libiomp5.so"),
            "OMP_NUM_THREADS": str(place.threads),
            "VLLM_CPU_OMP_THREADS_BIND": f"0-{place.threads - 1}",
            "VLLM_CPU_KVCACHE_SPACE": "2" if dtype == "float32" else "1",
            "VLLM_NO_USAGE_STATS": "1",
        }
        if zen:
            environment["PYTHONPATH"] = str(place.environments / "zentorch")
        return _module("vllm", str(place.checkpoint), dtype), environment

    return start


def _transformers(dtype: str) -> Callable[[Place, Shape], Start]:
    def start(place: Place, shape: Shape) -> Start:
        environment = {
            "LD_PRELOAD": place.preload("libtcmalloc_minimal.so.4"),
            "OMP_NUM_THREADS": str(place.threads),
        }
        return _module("transformers", str(place.checkpoint), dtype, "sdpa"), environment

    return start


def _module(runner: str, *arguments: str) -> list[str]:
    return ["-m", f"benchmarks.peers.runners.{runner}", *arguments]


OURS = Variant("ours", "inferd bf16", "ours", "bf16", _ours(dtype="bfloat16"))
OURS_INT8 = Variant(
    "ours_int8", "inferd int8", "ours", "int8", _ours(dtype="bfloat16", quantization="int8")
)
OURS_FP32 = Variant("ours_fp32", "inferd fp32", "ours", "fp32", _ours(dtype="float32"))
LLAMA = Variant("llama", "llama.cpp bf16", "llama", "bf16", _llama("bf16"))
LLAMA_Q8 = Variant("llama_q8", "llama.cpp q8_0", "llama", "int8", _llama("q8_0"))
VLLM = Variant("vllm", "vLLM bf16", "vllm", "bf16", _vllm("bfloat16"))
VLLM_FP32 = Variant("vllm_fp32", "vLLM fp32", "vllm", "fp32", _vllm("float32"))
VLLM_ZEN = Variant("vllm_zen", "vLLM bf16 on zentorch", "vllm", "bf16", _vllm("bfloat16", zen=True))
TRANSFORMERS = Variant(
    "transformers", "transformers bf16", "transformers", "bf16", _transformers("bfloat16")
)
TRANSFORMERS_FP32 = Variant(
    "transformers_fp32", "transformers fp32", "transformers", "fp32", _transformers("float32")
)

GROUPS = (
    (OURS, OURS_INT8, LLAMA, LLAMA_Q8, VLLM),
    (OURS, VLLM_ZEN, VLLM_FP32, TRANSFORMERS, TRANSFORMERS_FP32),
)
"""Who is in memory together, in turns: ours is in each, so that each ratio is within one group."""

ALL = {each.name: each for group in ((OURS_FP32,), *GROUPS) for each in group}
