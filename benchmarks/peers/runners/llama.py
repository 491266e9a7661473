"""llama.cpp through llama-cpp-python's low-level interface, sequences in one batch.

As llama.cpp's own `llama-batched-bench` drives it: a context for each number of sequences, one
`llama_decode` per step with one token of each. Prompts are computed once and kept; what was
decoded after them is removed again.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Sequence
from typing import Any

import llama_cpp as api
import numpy as np

from benchmarks.peers.runners.loop import Ids, Window, serve

ROOM = 256  # tokens per sequence where there are several
LONG = 640  # tokens where there is one


class Llama:
    def __init__(self, file: str, threads: str, flash: str) -> None:
        api.llama_backend_init()
        params = api.llama_model_default_params()
        self._model = api.llama_model_load_from_file(file.encode(), params)
        if not self._model:
            raise SystemExit(f"llama.cpp cannot read {file}")
        vocabulary = api.llama_model_get_vocab(self._model)
        self.vocabulary: int = api.llama_vocab_n_tokens(vocabulary)
        self._threads, self._flash = int(threads), flash
        self._contexts: dict[int, Any] = {}
        self._kept: dict[int, list[int]] = {}
        self._batch = api.llama_batch_init(2048, 0, 1)

    def describe(self) -> dict[str, Any]:
        system = api.llama_print_system_info().decode()
        return {
            "versions": {"llama-cpp-python": api.__version__},
            "settings": {"threads": self._threads, "flash_attn": self._flash, "system": system},
        }

    def decode(self, prompts: Sequence[Ids], window: Window) -> None:
        context = self._context(len(prompts))
        if len(prompts) not in self._kept:
            self._clear(context)
            self._kept[len(prompts)] = self._read(context, prompts)
        tokens, length = self._kept[len(prompts)], len(prompts[0])
        count, over = 1, window.note([1] * len(prompts), time.perf_counter())
        while not over:
            rows = [(row, length + count - 1, token) for row, token in enumerate(tokens)]
            self._run(context, rows, wanted=range(len(rows)))
            tokens = [int(self._logits(context, row).argmax()) for row in range(len(rows))]
            count += 1
            over = window.note([count] * len(prompts), time.perf_counter())
        for row in range(len(prompts)):
            api.llama_memory_seq_rm(api.llama_get_memory(context), row, length, -1)

    def prefill(self, prompts: Sequence[Ids]) -> None:
        context = self._context(len(prompts))
        self._forget(len(prompts))
        self._read(context, prompts)

    def score(self, sequences: Sequence[Ids]) -> list[list[float]]:
        context, scores = self._context(1), []
        for ids in sequences:
            self._forget(1)
            rows = [(0, place, token) for place, token in enumerate(ids)]
            self._run(context, rows, wanted=range(len(rows)))
            logits = np.stack([self._logits(context, row) for row in range(len(rows) - 1)])
            logits = logits.astype(np.float64)
            logits -= logits.max(-1, keepdims=True)
            logprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
            scores.append(logprobs[range(len(rows) - 1), ids[1:]].tolist())
        return scores

    def _context(self, sequences: int) -> Any:
        if sequences not in self._contexts:
            params = api.llama_context_default_params()
            params.n_seq_max = sequences
            params.n_ctx = sequences * (LONG if sequences == 1 else ROOM)
            params.n_batch = 2048
            params.n_threads = params.n_threads_batch = self._threads
            params.flash_attn_type = getattr(api, f"LLAMA_FLASH_ATTN_TYPE_{self._flash.upper()}")
            self._contexts[sequences] = api.llama_init_from_model(self._model, params)
        return self._contexts[sequences]

    def _forget(self, sequences: int) -> None:
        self._kept.pop(sequences, None)
        self._clear(self._contexts[sequences])

    def _clear(self, context: Any) -> None:
        api.llama_memory_clear(api.llama_get_memory(context), False)

    def _read(self, context: Any, prompts: Sequence[Ids]) -> list[int]:
        """Compute prompts, several to a batch, and return the best token after each."""
        length, best = len(prompts[0]), []
        group = max(1, 2048 // length)
        for first in range(0, len(prompts), group):
            part = range(first, min(first + group, len(prompts)))
            rows = [(n, place, token) for n in part for place, token in enumerate(prompts[n])]
            wanted = range(length - 1, len(rows), length)
            self._run(context, rows, wanted=wanted)
            best += [int(self._logits(context, row).argmax()) for row in wanted]
        return best

    def _run(self, context: Any, rows: list[tuple[int, int, int]], wanted: range) -> None:
        """One batch of (sequence, position, token); logits of the rows that are wanted."""
        batch = self._batch
        batch.n_tokens = len(rows)
        for row, (sequence, position, token) in enumerate(rows):
            batch.token[row], batch.pos[row] = token, position
            batch.n_seq_id[row], batch.seq_id[row][0] = 1, sequence
            batch.logits[row] = row in wanted
        if code := api.llama_decode(context, batch):
            raise RuntimeError(f"llama_decode returned {code}")

    def _logits(self, context: Any, row: int) -> Any:
        values = api.llama_get_logits_ith(context, row)
        pointer = ctypes.cast(values, ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(pointer, (self.vocabulary,))


if __name__ == "__main__":
    serve(lambda: Llama(*sys.argv[1:]))
