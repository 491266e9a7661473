"""Every test of an operation runs with each of its implementations."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch

from inferd_kernels.cpu.isa import named, supported
from inferd_kernels.cpu.library import library, set_threads, using
from inferd_kernels.dispatch import only
from inferd_kernels.gpu import present
from tests.kernels.compiled import Compile, compiler
from tests.kernels.gpu_device import DEVICE, NATIVE


def implementations() -> list[str]:
    """The reference, the best kernels, and those with the fewest special instructions."""
    levels = [level.name for level in supported()]
    lowest = [] if "INFERD_CPU_ISA" in os.environ else levels[1:][-1:]
    return ["reference", "cpu", *lowest]


@pytest.fixture(params=implementations())
def implementation(request: pytest.FixtureRequest) -> Iterator[str]:
    """The one that operations run in this test."""
    name: str = request.param
    if name == "reference":
        with only(name):
            yield name
        return
    assert library() is not None, "the tests need a C++ compiler"
    level = nullcontext() if name == "cpu" else using(named(name))
    with level, only("cpu"):
        yield "cpu"


@pytest.fixture
def gpu() -> Iterator[torch.device]:
    """The device for the GPU's kernels, which all operations run in this test."""
    assert present(), "the tests need Triton"
    with only("gpu"):
        yield DEVICE


@pytest.fixture
def matrix_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each element of a product is summed up in one order, as on a GPU. Under the interpreter it is
    BLAS that multiplies, and where in a matrix an element is may change its bits."""
    if not NATIVE:
        from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

        def create_dot(builder: object, a: Any, b: Any, d: Any, *how: object) -> Any:
            left, right = (each.data.astype(d.data.dtype) for each in (a, b))
            total = d.data.copy()
            for k in range(left.shape[1]):
                total += left[:, k, None] * right[k]
            return TensorHandle(total, d.dtype.scalar)

        monkeypatch.setattr(InterpreterBuilder, "create_dot", create_dot)


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compile]:
    """See compiled.py."""
    with compiler(tmp_path_factory.mktemp("triton")) as compile:
        yield compile


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """How many the kernels run on in this test."""
    count: int = request.param
    loaded = library()
    assert loaded is not None, "the tests need a C++ compiler"
    set_threads(loaded, count)
    yield count
    set_threads(loaded, torch.get_num_threads())


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """Fresh memory is NaN, so that what nobody wrote cannot pass for a result."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
