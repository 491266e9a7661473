"""Who asks what, when: arrivals for the simulator, from seeds or from a recorded trace."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from itertools import accumulate, count
from random import Random
from typing import Any

VOCAB_SIZE = 32_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One request of a workload."""

    time_s: float  # since the start
    prompt: tuple[int, ...]  # token ids
    output_tokens: int  # how many it will generate
    caller: str = ""
    priority: int = 0
    adapter: str = ""


# ---------------------------------------------------------------- when: endless streams of times


def poisson_times(rate: float, random: Random) -> Iterator[float]:
    """A Poisson process of `rate` requests per second."""
    now = 0.0
    while True:
        now += random.expovariate(rate)
        yield now


def burst_times(size: int, period_s: float) -> Iterator[float]:
    """`size` requests at once, every `period_s` seconds, from time 0 on."""
    for number in count():
        yield number // size * period_s


# ---------------------------------------------------------------- what: endless streams of prompts


def uniform_prompts(shortest: int, longest: int, random: Random) -> Iterator[tuple[int, ...]]:
    """Prompts of uniform length in [shortest, longest] that share nothing."""
    while True:
        yield _tokens(random.randint(shortest, longest), random)


def zipf_prompts(
    num_prefixes: int,
    prefix_tokens: int,
    shortest: int,
    longest: int,
    random: Random,
    *,
    exponent: float = 1.0,
) -> Iterator[tuple[int, ...]]:
    """Prompts that begin with one of `num_prefixes` shared prefixes of `prefix_tokens` each.

    The k-th prefix comes with a weight of k ** -exponent; behind it are uniformly [shortest,
    longest] tokens of the prompt's own.
    """
    prefixes = [_tokens(prefix_tokens, random) for _ in range(num_prefixes)]
    weights = list(accumulate(rank**-exponent for rank in range(1, num_prefixes + 1)))
    while True:
        prefix = random.choices(prefixes, cum_weights=weights)[0]
        yield prefix + _tokens(random.randint(shortest, longest), random)


def _tokens(length: int, random: Random) -> tuple[int, ...]:
    return tuple(random.choices(range(VOCAB_SIZE), k=length))


# ---------------------------------------------------------------- together


def synthetic(
    times: Iterable[float],
    prompts: Iterable[tuple[int, ...]],
    shortest_output: int,
    longest_output: int,
    random: Random,
    *,
    callers: int = 1,
    priorities: int = 1,
    adapters: int = 0,
) -> Iterator[Arrival]:
    """Arrivals with output lengths, callers and priorities drawn uniformly.

    Each of `adapters` and the bare model is asked for as often as the others; 0: none is.
    """
    for time_s, prompt in zip(times, prompts, strict=False):
        yield Arrival(
            time_s=time_s,
            prompt=prompt,
            output_tokens=random.randint(shortest_output, longest_output),
            caller=f"caller-{random.randrange(callers)}",
            priority=random.randrange(priorities),
            adapter=_adapter(adapters, random) if adapters else "",
        )


def _adapter(adapters: int, random: Random) -> str:
    chosen = random.randrange(adapters + 1)
    return f"adapter-{chosen}" if chosen else ""


def read_trace(lines: Iterable[str], random: Random) -> Iterator[Arrival]:
    """Arrivals from JSON lines, ordered by time; blank lines are skipped.

    Each line is an object with the fields of `Arrival`; in place of `prompt`, `prompt_tokens`
    gives only its length, and the ids are made up. Raises ValueError that names the line.
    """
    previous = 0.0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            arrival = _parse(json.loads(line), random)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"trace line {number}: {error}") from error
        if arrival.time_s < previous:
            raise ValueError(f"trace line {number}: time_s goes back to {arrival.time_s}")
        previous = arrival.time_s
        yield arrival


def _parse(record: Any, random: Random) -> Arrival:
    if not isinstance(record, dict):
        raise ValueError("not an object")
    known = {field.name for field in fields(Arrival)} | {"prompt_tokens"}
    if unknown := record.keys() - known:
        raise ValueError(f"unknown fields {sorted(unknown)}; known are {sorted(known)}")
    if ("prompt" in record) == ("prompt_tokens" in record):
        raise ValueError("give one of prompt and prompt_tokens")
    length = record.pop("prompt_tokens", None)
    prompt = _tokens(length, random) if length is not None else tuple(record.pop("prompt"))
    return Arrival(prompt=prompt, **record)
