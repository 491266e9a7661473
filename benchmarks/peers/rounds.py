"""Takes turns: each figure is measured of A B C D, then again of A B C D, round by round."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.peers.figures import Round
from benchmarks.peers.launch import Group
from benchmarks.peers.measures import Measure
from benchmarks.peers.process import Runner
from benchmarks.peers.quiet import busy_cores


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    rounds: Sequence[int]  # of each group that is measured
    seconds: float  # of each decode, at most
    measures: Sequence[Measure]


def warm_up(group: Group, plan: Plan) -> None:
    """What is done once per process (caches, contexts, compiled shapes) is no one's figure."""
    for measure in plan.measures:
        for name in list(group.runners):
            group.ask(name, measure.command(seconds=0.1, seed=1))


def play(
    number: int,
    group: Group,
    ceilings: Runner,
    plan: Plan,
    others: Callable[[], float] = busy_cores,
) -> list[Round]:
    """All rounds of a group, whose number this is. `others` says how many cores are busy."""
    rounds: list[Round] = []
    for turn in range(plan.rounds[number]):
        load, busy = os.getloadavg()[0], others()
        limits = ceilings.ask({"do": "measure"})
        rates = _turn(group, plan, turn)
        rounds.append(
            {
                "group": number,
                "number": turn,
                "load_1min": round(load, 2),
                "busy_cores": busy,
                "ceilings": limits,
                "rates": rates,
            }
        )
        say = group.launcher.say
        say(f"  round {turn + 1} of {plan.rounds[number]}; {busy:.2f} cores busy before it")
        for name, by_measure in rates.items():
            figures = "".join(f"{rate:9.1f}" for rate in by_measure.values())
            say(f"    {name:18}{figures}")
    return rounds


def _turn(group: Group, plan: Plan, number: int) -> dict[str, dict[str, float]]:
    """Tokens per second. Another one begins in every round."""
    names = list(group.runners)
    first = number % len(names)
    rates: dict[str, dict[str, float]] = {name: {} for name in names}
    for measure in plan.measures:
        for name in names[first:] + names[:first]:
            if name not in group.runners:
                continue
            reply = group.ask(name, measure.command(plan.seconds, seed=10 + number))
            if reply is not None:
                rates[name][measure.name] = round(reply["tokens"] / reply["seconds"], 2)
    return rates
