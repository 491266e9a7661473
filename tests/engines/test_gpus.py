"""GPUs as the driver tells of them: a fake of the functions of NVML that are called."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from inferd.engines.gpus import (
    Gpu,
    device_bytes,
    held_by_others,
    list_gpus,
    stay_open,
    torch_takes_gpus,
)

GIB = 1 << 30


@dataclass
class Memory:
    total: int
    free: int


@dataclass
class Process:
    pid: int
    usedGpuMemory: int | None


@dataclass
class Card:
    uuid: str
    memory: Memory
    processes: list[Process] = field(default_factory=list)


class FakeNvml:
    """Two cards, or no driver."""

    class NVMLError(Exception):
        pass

    def __init__(self, *cards: Card, driver: bool = True, hides_processes: bool = False) -> None:
        self.cards = cards
        self.driver = driver
        self.hides_processes = hides_processes
        self.open = 0
        self.lost = False  # whether the cards do not answer

    def nvmlInit(self) -> None:
        if not self.driver:
            raise self.NVMLError
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Card:
        assert self.open
        if self.lost:
            raise self.NVMLError
        return self.cards[index]

    def nvmlDeviceGetUUID(self, card: Card) -> str:
        return card.uuid

    def nvmlDeviceGetName(self, card: Card) -> str:
        return "NVIDIA H200"

    def nvmlDeviceGetMemoryInfo(self, card: Card) -> Memory:
        return card.memory

    def nvmlDeviceGetComputeRunningProcesses(self, card: Card) -> list[Process]:
        if self.hides_processes:
            raise self.NVMLError
        return card.processes


@pytest.fixture
def nvml() -> Iterator[FakeNvml]:
    first = Card("GPU-aaaa", Memory(140 * GIB, 100 * GIB), [Process(7, 5), Process(8, 3)])
    second = Card("GPU-abbb", Memory(80 * GIB, 80 * GIB), [Process(7, None)])
    fake = FakeNvml(first, second)
    yield fake
    assert fake.open == 0, "the driver was not let go"


def totals(nvml: FakeNvml, visible: str | None) -> list[tuple[str, int]]:
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    return [(gpu.device, gpu.total // GIB) for gpu in list_gpus(nvml, environ, lambda: True)]


def test_all_are_listed(nvml: FakeNvml) -> None:
    assert list_gpus(nvml, {}, lambda: True) == (
        Gpu("cuda:0", "NVIDIA H200", 140 * GIB, 100 * GIB),
        Gpu("cuda:1", "NVIDIA H200", 80 * GIB, 80 * GIB),
    )


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, [("cuda:0", 140), ("cuda:1", 80)]),
        ("1,0", [("cuda:0", 80), ("cuda:1", 140)]),
        ("GPU-ab", [("cuda:0", 80)]),
        ("GPU-a", []),  # which of them?
        ("1,7,0", [("cuda:0", 80)]),
        ("", []),
        ("-1", []),
    ],
)
def test_those_that_cuda_sees_in_its_order(
    nvml: FakeNvml, visible: str | None, expected: list[tuple[str, int]]
) -> None:
    assert totals(nvml, visible) == expected


def test_what_a_process_holds(nvml: FakeNvml) -> None:
    assert device_bytes(0, 7, nvml=nvml, environ={}) == 5
    assert device_bytes(0, 9, nvml=nvml, environ={}) == 0
    assert device_bytes(1, 7, nvml=nvml, environ={}) == 0  # the driver does not tell
    assert device_bytes(2, 7, nvml=nvml, environ={}) == 0
    assert held_by_others(0, 7, nvml=nvml, environ={}) == 3
    assert held_by_others(0, 9, nvml=nvml, environ={}) == 8
    assert held_by_others(2, 7, nvml=nvml, environ={}) == 0
    nvml.hides_processes = True
    assert device_bytes(0, 7, nvml=nvml, environ={}) == 0
    assert held_by_others(0, 7, nvml=nvml, environ={}) == 0


def test_a_card_that_does_not_answer_is_no_error(nvml: FakeNvml) -> None:
    nvml.lost = True
    assert device_bytes(0, 7, nvml=nvml, environ={}) == 0


def test_the_driver_stays_open_where_it_is_asked_often() -> None:
    nvml = FakeNvml(Card("GPU-aaaa", Memory(9, 9), [Process(7, 5)]))
    stay_open(nvml)
    assert device_bytes(0, 7, nvml=nvml, environ={}) == 5
    assert nvml.open == 1
    stay_open(FakeNvml(driver=False))


def test_no_driver_no_gpus() -> None:
    nvml = FakeNvml(driver=False)
    assert list_gpus(nvml, {}, lambda: True) == ()
    assert device_bytes(0, nvml=nvml, environ={}) == 0


def test_a_torch_without_cuda_uses_no_gpus(nvml: FakeNvml) -> None:
    assert list_gpus(nvml, {}, lambda: False) == ()


def test_how_torch_was_built_is_known_without_it() -> None:
    import torch

    assert torch_takes_gpus() == (torch.version.cuda is not None)


def test_the_fake_has_the_names_of_nvml() -> None:
    import pynvml

    for name in vars(FakeNvml):
        assert name.startswith("_") or hasattr(pynvml, name)
