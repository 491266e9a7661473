"""Logprobs against transformers within 1e-4, and greedy output alone as in a batch of 32.

`scripts/verify_numbers` prints the same trials for every architecture and variant.
"""

from __future__ import annotations

import pytest

from benchmarks.verify_numbers import subjects
from benchmarks.verify_numbers.trials import TOLERANCE, TRIALS, Subject, greedy_is_the_same

NATIVE = (
    "llama-llama3",
    "mistral",
    "qwen2",
    "qwen3",
    "phi3-longrope",
    "phi3-partial",
    "gemma",
    "gemma2",
    "gemma3",
    "olmo2",
    "granite",
    "smollm3",
    "mixtral",
    "qwen3-moe",
)
FALLBACK = ("llama", "gpt2", "cohere2", "deepseek-v3")


@pytest.fixture(
    scope="module",
    params=[*(("native", case) for case in NATIVE), *(("fallback", case) for case in FALLBACK)],
    ids="-".join,
)
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    runner, case = request.param
    build = subjects.native if runner == "native" else subjects.fallback
    return build(case, tmp_path_factory.mktemp(case))


@pytest.mark.parametrize("trial", TRIALS)
def test_logprobs_are_transformers(subject: Subject, trial: str) -> None:
    assert TRIALS[trial](subject).worst <= TOLERANCE


def test_greedy_output_does_not_depend_on_the_batch(subject: Subject) -> None:
    assert greedy_is_the_same(subject)
