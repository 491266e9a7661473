"""transformers' own modelling code: a static batch, its cache kept, greedy.

A loop over the model's forward pass rather than `generate`, which does more work per step.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, DynamicCache

from benchmarks.peers.runners.loop import Ids, Window, serve


class Transformers:
    def __init__(self, folder: str, dtype: str, attention: str) -> None:
        self._model = AutoModelForCausalLM.from_pretrained(  # in evaluation mode
            folder, dtype=getattr(torch, dtype), attn_implementation=attention
        )
        self.vocabulary: int = self._model.config.vocab_size
        self._settings = {"dtype": dtype, "attention": attention, "cache": "dynamic"}
        self._caches: dict[int, tuple[DynamicCache, torch.Tensor]] = {}

    def describe(self) -> dict[str, Any]:
        versions = {"transformers": transformers.__version__, "torch": torch.__version__}
        return {
            "versions": versions,
            "settings": self._settings | {"threads": torch.get_num_threads()},
        }

    @torch.inference_mode()
    def decode(self, prompts: Sequence[Ids], window: Window) -> None:
        cache, token = self._prefilled(prompts)
        count, over = 1, window.note([1] * len(prompts), _now())
        while not over:
            token = self._step(token, cache)
            count += 1
            over = window.note([count] * len(prompts), _now())
        cache.crop(1 - count)  # a negative number: so many go

    @torch.inference_mode()
    def prefill(self, prompts: Sequence[Ids]) -> None:
        self._step(torch.tensor(prompts), DynamicCache(config=self._model.config))

    @torch.inference_mode()
    def score(self, sequences: Sequence[Ids]) -> list[list[float]]:
        scores = []
        for sequence in sequences:
            ids = torch.tensor([sequence])
            logits = self._model(ids).logits[0, :-1].float()
            logprobs = logits.log_softmax(-1).gather(1, ids[0, 1:, None])
            scores.append(logprobs[:, 0].tolist())
        return scores

    def _prefilled(self, prompts: Sequence[Ids]) -> tuple[DynamicCache, torch.Tensor]:
        """The cache of these prompts and the tokens after them."""
        if len(prompts) not in self._caches:
            cache = DynamicCache(config=self._model.config)
            self._caches[len(prompts)] = cache, self._step(torch.tensor(prompts), cache)
        return self._caches[len(prompts)]

    def _step(self, ids: torch.Tensor, cache: DynamicCache) -> torch.Tensor:
        """[rows, 1]: the best token after each row."""
        logits = self._model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        best: torch.Tensor = logits[:, -1].argmax(-1, keepdim=True)
        return best


def _now() -> float:
    return time.perf_counter()


if __name__ == "__main__":
    serve(lambda: Transformers(*sys.argv[1:]))
