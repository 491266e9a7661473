"""Turns of real runners, whose model is a counter."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.models.shapes import SMALL, Shape
from benchmarks.peers.environments import Place
from benchmarks.peers.figures import ratios
from benchmarks.peers.launch import Launcher
from benchmarks.peers.measures import MEASURES
from benchmarks.peers.process import Runner
from benchmarks.peers.rounds import Plan, play, warm_up
from benchmarks.peers.variants import Start, Variant

MODULE = ["-m", "tests.benchmarks.counting"]
PLAN = Plan((2,), 3.0, MEASURES[:2])


def variant(name: str, argument: str = "well") -> Variant:
    def start(place: Place, shape: Shape) -> Start:
        return [*MODULE, argument], {}

    return Variant(name, name.upper(), "ours", "bf16", start)


@pytest.fixture
def launcher(tmp_path: Path) -> Launcher:
    place = Place(tmp_path, tmp_path, 1)
    return Launcher(place, SMALL, lambda line: None, tmp_path)


def test_each_measures_each_figure_in_every_round(launcher: Launcher, tmp_path: Path) -> None:
    ceilings = Runner([sys.executable, *MODULE], {}, tmp_path / "log")
    with launcher.group([variant("a"), variant("b")]) as group:
        warm_up(group, PLAN)
        rounds = play(0, group, ceilings, PLAN, others=lambda: 0.25)
    ceilings.close()
    assert [each["number"] for each in rounds] == [0, 1]
    assert rounds[0]["rates"] == {name: {"decode_1": 1.0, "decode_8": 8.0} for name in "ab"}
    assert rounds[0]["busy_cores"] == 0.25
    assert rounds[0]["ceilings"] == {"read_bytes_per_s": 1e9}
    assert ratios(rounds, "a") == {"b": {"decode_1": 1.0, "decode_8": 1.0}}
    assert launcher.about["a"]["label"] == "A"
    assert len(launcher.starts["b"]) == 1


def test_one_that_fails_is_left_out_with_its_reason(launcher: Launcher) -> None:
    variants = [variant("a"), variant("b", "fail"), variant("c", "fail later")]
    with launcher.group(variants) as group:
        assert group.runners.keys() == {"a", "c"}
        assert group.ask("c", {"do": "score", "sequences": []}) is None
        assert group.ask("a", {"do": "score", "sequences": []}) == {"logprobs": []}
        assert group.runners.keys() == {"a"}
    assert launcher.failures == {"b": "it cannot", "c": "it cannot go on"}
