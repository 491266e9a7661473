"""Where the daemon lets a model's instances be."""

from __future__ import annotations

import pytest

from inferd.wiring import devices_of

ALL = ("cpu", "cuda:0", "cuda:1", "cuda:2")


@pytest.mark.parametrize(
    ("asked", "found", "devices"),
    [
        ("auto", "cpu", ("cpu",)),
        ("auto", "cuda:1", ("cuda:1", "cuda:0", "cuda:2")),
        ("cuda", "cuda:0", ("cuda:0", "cuda:1", "cuda:2")),
        ("cuda:1", "cuda:1", ("cuda:1",)),
    ],
)
def test_instances_may_be_on_any_gpu_unless_one_was_named(
    asked: str, found: str, devices: tuple[str, ...]
) -> None:
    assert devices_of(asked, found, ALL) == devices
