"""A program does what its operations do one by one."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from inferd_kernels.cpu.library import DTYPES, library, set_threads
from inferd_kernels.program import Program
from inferd_kernels.rmsnorm import rmsnorm
from inferd_kernels.rmsnorm.cpu import RmsnormArgs

WIDTH = 40

pytestmark = pytest.mark.skipif(
    os.environ.get("INFERD_CPU_KERNELS") == "0", reason="the kernels are turned off"
)


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    loaded = library()
    assert loaded is not None
    set_threads(loaded, request.param)
    yield
    set_threads(loaded, torch.get_num_threads())


def norm(x: torch.Tensor, out: torch.Tensor, weight: torch.Tensor) -> RmsnormArgs:
    return RmsnormArgs(
        x=x.data_ptr(),
        out=out.data_ptr(),
        weight=weight.data_ptr(),
        x_stride=x.stride(0),
        out_stride=out.stride(0),
        groups=1,
        width=WIDTH,
        eps=1e-6,
        dtype=DTYPES[x.dtype],
    )


@pytest.mark.usefixtures("threads")
def test_each_operation_sees_what_the_one_before_wrote() -> None:
    weights = [torch.rand(WIDTH) + 0.5 for _ in range(50)]
    first, second = torch.full((2, 9, WIDTH), torch.nan)
    program = Program()
    for weight in weights:
        program.add("rmsnorm", norm(first, second, weight), weight)
        first, second = second, first
    for rows in (1, 9, 4):
        x = torch.randn(9, WIDTH)
        first.copy_(x)
        program.run(rows)
        expected = x[:rows]
        for weight in weights:
            expected = rmsnorm(expected, weight, 1e-6)
        assert torch.equal(first[:rows], expected)
        assert torch.equal(first[rows:], x[rows:])


@pytest.mark.usefixtures("threads")
def test_operations_work_on_their_own_counts_of_rows() -> None:
    x, out = torch.randn(8, WIDTH), torch.full((2, 8, WIDTH), torch.nan)
    weight = torch.rand(WIDTH)
    program = Program(num_counts=2)
    program.add("rmsnorm", norm(x, out[0], weight), counted=1)
    program.add("rmsnorm", norm(x, out[1], weight), counted=0)
    program.run(3, 5)
    assert [int(each.isfinite().all(1).sum()) for each in out] == [5, 3]


def test_it_tells_how_long_each_operation_took() -> None:
    x, out, weight = torch.randn(8, WIDTH), torch.empty(8, WIDTH), torch.rand(WIDTH)
    program = Program()
    for _ in range(3):
        program.add("rmsnorm", norm(x, out, weight))
    taken = program.run_timed(8)
    assert [name for name, _ in taken] == ["rmsnorm"] * 3
    assert all(0 < seconds < 60 for _, seconds in taken)


def test_what_the_arguments_point_to_lives_as_long_as_the_program() -> None:
    out, program = torch.empty(2, WIDTH), Program()
    for _ in range(20):
        x, weight = torch.full((2, WIDTH), 3.0), torch.ones(WIDTH)
        program.add("rmsnorm", norm(x, out, weight), x, weight)
    del x, weight
    program.run(2)
    assert torch.allclose(out, torch.ones(2, WIDTH))
