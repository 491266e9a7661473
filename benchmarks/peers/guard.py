"""Before any speed: do all of them compute the same model, and ours as exactly as it must?

The truth is transformers in float32 over the same checkpoint. Compared are logprobs of the tokens
of random prompts and of ours' own greedy continuations of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypedDict

from benchmarks.peers.process import Runner
from benchmarks.peers.runners.loop import Ids, prompt

PROMPTS, LENGTH, CONTINUED = 4, 48, 24
FP32_LIMIT = 1e-4  # ours with float32 weights, the largest difference
SAME_MODEL = 0.3  # root mean square; another model, or one misread, is off by more than 1

Scores = Sequence[Sequence[float]]


class Error(TypedDict):
    """Differences of logprobs from the truth, in nats."""

    rms: float
    max: float


class Sample(TypedDict):
    """Sequences to score, and what ours said of the tokens it generated in them."""

    sequences: list[Ids]
    reported: list[list[float]]


def generate(ours: Runner, vocabulary: int) -> Sample:
    """Random prompts with ours' greedy continuations."""
    prompts = [prompt(vocabulary, LENGTH, seed=10 + n) for n in range(PROMPTS)]
    command = {"do": "generate", "prompts": prompts, "tokens": CONTINUED}
    chosen: list[list[tuple[int, float]]] = ours.ask(command)["chosen"]
    sequences = [
        [*ids, *(token for token, _ in pairs)] for ids, pairs in zip(prompts, chosen, strict=True)
    ]
    return {"sequences": sequences, "reported": [[lp for _, lp in pairs] for pairs in chosen]}


def score(runner: Runner, sequences: list[Ids]) -> list[list[float]]:
    """Logprobs of each sequence's tokens but the first."""
    scores: list[list[float]] = runner.ask({"do": "score", "sequences": sequences})["logprobs"]
    return scores


def error(scores: Scores, truth: Scores) -> Error:
    """Compare the last scores of each sequence, as many as there are."""
    differences = [
        abs(mine - true)
        for mine_all, true_all in zip(scores, truth, strict=True)
        for mine, true in zip(mine_all, true_all[-len(mine_all) :], strict=True)
    ]
    rms = math.sqrt(sum(each * each for each in differences) / len(differences))
    return {"rms": rms, "max": max(differences)}


def verdicts(
    errors: Mapping[str, Error], weights: Mapping[str, str], bf16_reference: str
) -> dict[str, str]:
    """By variant, what is wrong with it; nothing for those that pass.

    Ours in float32 stays within `FP32_LIMIT`; ours in bfloat16 is no further from the truth than
    `bf16_reference`; everyone else has to be the same model.
    """
    wrong: dict[str, str] = {}
    for name, each in errors.items():
        ours, kind = name.startswith("ours"), weights[name.removesuffix("_decode")]
        if not each["rms"] <= SAME_MODEL:  # also when it is not a number
            wrong[name] = f"off by {each['rms']:.3g} (root mean square): not the same model"
        elif ours and kind == "fp32" and each["max"] > FP32_LIMIT:
            wrong[name] = f"off by up to {each['max']:.2e}, more than {FP32_LIMIT:.0e}"
        elif ours and kind == "bf16" and each["rms"] > errors[bf16_reference]["rms"]:
            theirs = errors[bf16_reference]["rms"]
            wrong[name] = f"off by {each['rms']:.2e}, more than {bf16_reference}'s {theirs:.2e}"
    return wrong
