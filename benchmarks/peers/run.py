"""The whole benchmark: check, then speed, then starts."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.peers.figures import Round
from benchmarks.peers.guard import Error, Sample, error, generate, score, verdicts
from benchmarks.peers.launch import Group, Launcher, read_ahead
from benchmarks.peers.rounds import Plan, play, warm_up
from benchmarks.peers.variants import (
    ALL,
    GROUPS,
    OURS,
    OURS_FP32,
    TRANSFORMERS,
    TRANSFORMERS_FP32,
    Variant,
)

STARTS, SLOW_START = 3, 15.0  # repeats, for those that need fewer seconds than that
WEIGHTS = {name: each.weights for name, each in ALL.items()}


class Red(Exception):
    """Ours computes something else than it must."""


@dataclass(slots=True)
class Outcome:
    """All that was measured."""

    errors: dict[str, Error] = field(default_factory=dict)
    rounds: list[Round] = field(default_factory=list)
    memory: dict[str, int] = field(default_factory=dict)  # bytes, after the first round


def run(launcher: Launcher, plan: Plan) -> Outcome:
    """Raises: Red, before any speed; RunnerFailed of those without whom nothing can be said."""
    outcome = Outcome()
    read_ahead([launcher.place.checkpoint / "model.safetensors"])
    launcher.say("Logprobs against transformers in float32:")
    sample, truth = _check_ours(launcher, outcome)
    groups = GROUPS[: len(plan.rounds)]
    for number, variants in enumerate(groups):
        launcher.say(f"Group {number + 1} of {len(groups)}:")
        with launcher.group(variants) as group:
            _check_group(outcome, group, sample, truth)
            warm_up(group, plan)
            outcome.memory |= {name: each.memory() for name, each in group.runners.items()}
            ceilings = launcher.ceilings()
            try:
                outcome.rounds += play(number, group, ceilings, plan)
            finally:
                ceilings.close()
    for variant in {each.name: each for group in groups for each in group}.values():
        _repeat_start(launcher, variant)
    return outcome


def _check_ours(launcher: Launcher, outcome: Outcome) -> tuple[Sample, list[list[float]]]:
    """What is scored, and its true logprobs. Raises Red."""
    with launcher.one(OURS_FP32) as ours:
        sample = generate(ours, launcher.shape.vocabulary)
        wide = score(ours, sample["sequences"])
    with launcher.one(TRANSFORMERS_FP32) as reference:
        truth = score(reference, sample["sequences"])
    with launcher.one(TRANSFORMERS) as reference:
        narrow = score(reference, sample["sequences"])
    with launcher.one(OURS) as ours:
        own = generate(ours, launcher.shape.vocabulary)
        own_scores = score(ours, own["sequences"])
        mine = score(ours, sample["sequences"])
    outcome.errors |= {
        OURS_FP32.name: error(wide, truth),
        f"{OURS_FP32.name}_decode": error(sample["reported"], truth),
        TRANSFORMERS.name: error(narrow, truth),
        OURS.name: error(mine, truth),
        f"{OURS.name}_decode": error(own["reported"], own_scores),
    }
    for name, each in outcome.errors.items():
        launcher.say(f"  {name:18} rms {each['rms']:.2e}  max {each['max']:.2e}")
    if wrong := verdicts(outcome.errors, WEIGHTS, TRANSFORMERS.name):
        raise Red("; ".join(f"{name} is {what}" for name, what in wrong.items()))
    return sample, truth


def _check_group(outcome: Outcome, group: Group, sample: Sample, truth: list[list[float]]) -> None:
    """Leave out who does not run the same model. Raises Red if it is ours."""
    for name in list(group.runners):
        reply = group.ask(name, {"do": "score", "sequences": sample["sequences"]})
        if reply is None:
            continue
        outcome.errors[name] = found = error(reply["logprobs"], truth)
        group.launcher.say(f"  {name:18} rms {found['rms']:.2e}  max {found['max']:.2e}")
    for name, what in verdicts(outcome.errors, WEIGHTS, TRANSFORMERS.name).items():
        if name.startswith(OURS.name):
            raise Red(f"{name} is {what}")
        if name in group.runners:
            group.leave_out(name, what)


def _repeat_start(launcher: Launcher, variant: Variant) -> None:
    """Alone, until there are several; a slow one is believed at once."""
    taken = launcher.starts.get(variant.name, [])
    while taken and len(taken) < STARTS and min(taken) < SLOW_START:
        with launcher.one(variant):
            pass
