"""Every test of an operation runs with each of its implementations."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from inferd_kernels.cpu.library import library
from inferd_kernels.dispatch import only


@pytest.fixture(params=["reference", "cpu"])
def implementation(request: pytest.FixtureRequest) -> Iterator[str]:
    """The one that operations run in this test."""
    name: str = request.param
    if name == "cpu":
        assert library() is not None, "the tests need a C++ compiler"
    with only(name):
        yield name


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """Fresh memory is NaN, so that what nobody wrote cannot pass for a result."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
