"""What is measured of operations on a GPU, in tiny sizes through Triton's interpreter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch

from benchmarks.kernels import on_gpu
from benchmarks.kernels.case import REHEARSAL, Case, rotate
from benchmarks.kernels.on_gpu import NAMES, figures
from inferd_kernels.rmsnorm import RMSNORM

PEAKS = {"bytes_per_s": 1e9, "flop_per_s": 1e12}


@pytest.fixture(autouse=True)
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_gpu, "ROUNDS", 1)
    monkeypatch.setattr(on_gpu, "WARM_UPS", 0)


@pytest.mark.parametrize("name", NAMES)
def test_every_operation_s_cases_run(name: str) -> None:
    place = replace(REHEARSAL, rows=(1, 2), few=(2,), contexts=(3,), prompts=(2,))
    found = list(figures(place, PEAKS, [name]))
    assert found
    assert {each for each, _ in found} == {name}
    assert len({case["case"] for _, case in found}) == len(found)
    assert all(case["ours_us"] > 0 and case["bytes"] > 0 for _, case in found)


def test_shares_are_of_the_ceilings(monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(peaks: dict[str, float]) -> dict[str, object]:
        case = Case("x", lambda: None, bytes=500, operations=3_000_000, torch=lambda: None)
        return on_gpu._measured(case, timer, peaks)

    def timer(run: Callable[[], object]) -> float:
        run()
        return 1e-6

    found = measured(PEAKS)
    assert found["gb_per_s"] == found["of_copy"] == 0.5
    assert found["tflop_per_s"] == found["of_matmul"] == 3.0
    assert found["times_torch"] == 1.0
    assert not measured({}).keys() & {"of_copy", "of_matmul"}


def test_weights_that_take_turns_are_more_than_the_caches_hold() -> None:
    called: list[int] = []
    place = replace(REHEARSAL, cache_bytes=100)
    run = rotate([partial(called.append, n) for n in range(place.copies(40))])
    for _ in range(4):
        run()
    assert sorted(called[:3]) == [0, 1, 2]
    assert called[3] == called[0]
    assert REHEARSAL.copies(40) == 1


def test_kernels_not_references_are_measured() -> None:
    seen: list[str] = []

    def run() -> None:
        seen.append(RMSNORM.choice("cpu"))

    on_gpu._measured(Case("x", run, bytes=1, torch=run), on_gpu._by_clock, {})
    assert (seen[0], seen[-1]) == ("gpu", "cpu")
    assert torch.is_inference_mode_enabled() is False
