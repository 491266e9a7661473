"""Takes turns: each figure is measured of A B C D, then again of A B C D, round by round."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.peers.figures import Round
from benchmarks.peers.launch import Say
from benchmarks.peers.measures import Measure
from benchmarks.peers.process import Runner
from benchmarks.peers.quiet import busy_cores


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    rounds: int
    seconds: float  # of each decode, at most
    measures: Sequence[Measure]


def warm_up(runners: Mapping[str, Runner], plan: Plan) -> None:
    """What is done once per process (caches, contexts, compiled shapes) is no one's figure."""
    for measure in plan.measures:
        for runner in runners.values():
            runner.ask(measure.command(seconds=0.1, seed=1))


def play(
    group: int, runners: Mapping[str, Runner], ceilings: Runner, plan: Plan, say: Say
) -> list[Round]:
    """All rounds of one group."""
    rounds: list[Round] = []
    for number in range(plan.rounds):
        load, busy = os.getloadavg()[0], busy_cores()
        limits = ceilings.ask({"do": "measure"})
        rates = _turn(runners, plan, number)
        rounds.append(
            {
                "group": group,
                "number": number,
                "load_1min": round(load, 2),
                "busy_cores": busy,
                "ceilings": limits,
                "rates": rates,
            }
        )
        say(f"  round {number + 1} of {plan.rounds}; {busy:.2f} cores were busy with other things")
        for name, by_measure in rates.items():
            say(f"    {name:18}" + "".join(f"{rate:9.1f}" for rate in by_measure.values()))
    return rounds


def _turn(runners: Mapping[str, Runner], plan: Plan, number: int) -> dict[str, dict[str, float]]:
    """Tokens per second. Another one begins in every round."""
    names = list(runners)
    first = number % len(names)
    rates: dict[str, dict[str, float]] = {name: {} for name in names}
    for measure in plan.measures:
        for name in names[first:] + names[:first]:
            reply = runners[name].ask(measure.command(plan.seconds, seed=10 + number))
            rates[name][measure.name] = round(reply["tokens"] / reply["seconds"], 2)
    return rates
