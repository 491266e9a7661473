"""From rounds to figures: medians, ratios within a round, and shares of what the machine can do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import TypedDict

from benchmarks.models.shapes import Shape
from benchmarks.peers.measures import Measure

BYTES_PER_WEIGHT = {"fp32": 4.0, "bf16": 2.0, "int8": 1.0}

Rates = Mapping[str, float]  # by measure, tokens per second


class Round(TypedDict):
    """One turn of a group."""

    group: int
    number: int
    load_1min: float
    busy_cores: float  # used by others just before it
    ceilings: dict[str, float]
    rates: dict[str, dict[str, float]]  # by variant and measure


def medians(rounds: Sequence[Round]) -> dict[str, dict[str, float]]:
    """Tokens per second by variant and measure."""
    seen: dict[str, dict[str, list[float]]] = {}
    for each in rounds:
        for variant, rates in each["rates"].items():
            for measure, rate in rates.items():
                seen.setdefault(variant, {}).setdefault(measure, []).append(rate)
    return {
        variant: {measure: median(values) for measure, values in by_measure.items()}
        for variant, by_measure in seen.items()
    }


def ratios(rounds: Sequence[Round], ours: str) -> dict[str, dict[str, float]]:
    """How much faster `ours` is, by other variant and measure: the median of the rounds' ratios."""
    found: dict[str, dict[str, list[float]]] = {}
    for each in rounds:
        mine = each["rates"].get(ours, {})
        for variant, rates in each["rates"].items():
            if variant != ours:
                for measure in mine.keys() & rates.keys():
                    ratio = mine[measure] / rates[measure]
                    found.setdefault(variant, {}).setdefault(measure, []).append(ratio)
    return {
        variant: {measure: median(by_measure[measure]) for measure in sorted(by_measure)}
        for variant, by_measure in found.items()
    }


def best_peer(ratios_by_variant: Mapping[str, Rates], peers: Iterable[str]) -> dict[str, float]:
    """By measure, the ratio to the peer that comes nearest, or is furthest ahead."""
    best: dict[str, float] = {}
    for peer in peers:
        for measure, ratio in ratios_by_variant.get(peer, {}).items():
            best[measure] = min(best.get(measure, ratio), ratio)
    return best


def step_bytes(shape: Shape, weights: str) -> float:
    """Bytes of weights that one step must read, whatever its batch: all matrices, once."""
    return (shape.layer_parameters + shape.head_parameters) * BYTES_PER_WEIGHT[weights]


def prefill_flops(shape: Shape, sequences: int, context: int) -> float:
    """Operations of a prefill: all layers for every token, the head for each sequence's last.

    Attention: scores and values, over half of the context on average.
    """
    attention = 2 * shape.layers * shape.heads * shape.head_dim * (context + 1)
    per_token = 2 * shape.layer_parameters + attention
    return sequences * (context * per_token + 2 * shape.head_parameters)


def decode_flops(shape: Shape, context: int) -> float:
    """Operations of one token with `context` tokens before it."""
    attention = 4 * shape.layers * shape.heads * shape.head_dim * (context + 1)
    return 2 * (shape.layer_parameters + shape.head_parameters) + attention


def share(
    shape: Shape, measure: Measure, weights: str, rate: float, ceilings: Mapping[str, float]
) -> dict[str, float]:
    """Of what the machine can do at most.

    Returns: `read`, of the rate at which it reads memory, if each step reads all weights once (and
        nothing else); `sgemm` and `bf16`, of its operations per second in products of such numbers.
        Kernels that multiply narrow numbers may exceed the share of float32's.
    """
    tokens = measure.sequences * measure.context
    if measure.kind == "prefill":
        flops = rate / tokens * prefill_flops(shape, measure.sequences, measure.context)
        found = {}
    else:
        flops = rate * decode_flops(shape, measure.context)
        read = rate / measure.sequences * step_bytes(shape, weights)
        found = {"read": read / ceilings["read_bytes_per_s"]}
    for name in ("sgemm", "bf16"):
        found[name] = flops / ceilings[f"{name}_flops_per_s"]
    return {name: round(value, 3) for name, value in found.items()}


def shares(
    shape: Shape,
    measures: Sequence[Measure],
    weights: Mapping[str, str],
    rates: Mapping[str, Rates],
    ceilings: Mapping[str, float],
) -> dict[str, dict[str, dict[str, float]]]:
    """`share` by variant and measure."""
    return {
        variant: {
            each.name: share(shape, each, weights[variant], by_measure[each.name], ceilings)
            for each in measures
            if each.name in by_measure
        }
        for variant, by_measure in rates.items()
    }


def median_ceilings(rounds: Sequence[Round]) -> dict[str, float]:
    names = rounds[0]["ceilings"]
    return {name: median(each["ceilings"][name] for each in rounds) for name in names}
