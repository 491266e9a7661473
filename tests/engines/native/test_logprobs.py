"""Logprobs against transformers within 1e-4, and greedy output alone as in a batch of 32.

`scripts/verify_numbers` prints the same trials for every architecture and variant.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from benchmarks.verify_numbers import subjects
from benchmarks.verify_numbers.drive import drive
from benchmarks.verify_numbers.trials import (
    TOLERANCE,
    TRIALS,
    Subject,
    compare,
    greedy_is_the_same,
    submits,
)

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
ADAPTED = ("qwen3", "gemma3", "phi3")
FALLBACK = ("llama", "gpt2", "cohere2", "deepseek-v3")
BUILD = {
    "native": subjects.native,
    "fallback": subjects.fallback,
    "adapted": subjects.adapted,  # 32 sequences over eight adapters and the bare model
}


@pytest.fixture(
    scope="module",
    params=[
        *(("native", case) for case in NATIVE),
        *(("fallback", case) for case in FALLBACK),
        *(("adapted", case) for case in ADAPTED),
    ],
    ids="-".join,
)
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    runner, case = request.param
    return BUILD[runner](case, tmp_path_factory.mktemp(case))


@pytest.mark.parametrize("trial", TRIALS)
def test_logprobs_are_transformers(subject: Subject, trial: str) -> None:
    assert TRIALS[trial](subject).worst <= TOLERANCE


def test_greedy_output_does_not_depend_on_the_batch(subject: Subject) -> None:
    assert greedy_is_the_same(subject)


def test_another_adapters_logprobs_are_far_off(tmp_path: Path) -> None:
    """So that a mix-up shows in the trials: each adapter has effects, and its own."""
    subject = subjects.adapted("qwen3", tmp_path)
    core = subject.core()
    names = [*subject.adapters, ""]
    asked = submits(subject)[1]
    for n, name in enumerate(names):
        mine = replace(asked, request_id=f"of {name}", adapter=name)
        got = drive(core, [mine])[mine.request_id]
        for other in names[n + 1 :]:
            assert compare(subject, replace(mine, adapter=other), got).prompt > 100 * TOLERANCE
