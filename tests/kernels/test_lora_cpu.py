"""Adapters in C++: the same bits in any company and on any number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from inferd_kernels.cpu.library import library, set_threads
from inferd_kernels.dispatch import only
from inferd_kernels.lora import LoraModule, LoraPart, LoraWeights, lora, lora_embedding, segments

pytestmark = pytest.mark.usefixtures("poisoned_memory")

CPU = torch.device("cpu")
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
IN, WIDTHS, VOCAB = 200, (600, 40, 40), 50
SLOTS = [3, -1, 0, 0, 2, 1, 3, -1, 2, 2]
LENGTHS = [1, 2, 1, 40, 3, 1, 1, 1, 17, 1]


@pytest.fixture(autouse=True)
def _in_cpp() -> Iterator[None]:
    """The kernels run, and have their usual threads afterwards."""
    with only("cpu"):
        yield
    use_threads(torch.get_num_threads())


def use_threads(count: int) -> None:
    loaded = library()
    assert loaded is not None, "the tests need a C++ compiler"
    set_threads(loaded, count)


def adapter(seed: int, rank: int, dtype: torch.dtype, inputs: int = IN) -> LoraWeights:
    generator = torch.Generator().manual_seed(seed)
    widths = WIDTHS if inputs == IN else WIDTHS[:1]
    parts, offset = [], 0
    for width in widths:
        parts.append(LoraPart(offset, torch.randn(width, rank, generator=generator).to(dtype)))
        offset += width
    a = torch.randn(rank * len(widths), inputs, generator=generator).to(dtype)
    return LoraWeights(a, tuple(parts))


def rows() -> list[int]:
    return [slot for slot, length in zip(SLOTS, LENGTHS, strict=True) for _ in range(length)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_company_and_threads_change_no_bit(dtype: torch.dtype) -> None:
    module = LoraModule([adapter(slot, 4 + 6 * slot, dtype) for slot in range(4)])
    owners = rows()
    x = torch.randn(len(owners), IN).to(dtype)
    y = torch.randn(len(owners), sum(WIDTHS)).to(dtype)
    alone = y.clone()
    for t, slot in enumerate(owners):
        lora(alone[t : t + 1], x[t : t + 1], module, segments([slot], [1], CPU))
    for threads in (1, 2, 3):
        use_threads(threads)
        together = y.clone()
        lora(together, x, module, segments(SLOTS, LENGTHS, CPU))
        assert torch.equal(together, alone)
    assert torch.equal(alone[1:3], y[1:3])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_company_changes_no_bit_of_an_embedding(dtype: torch.dtype) -> None:
    module = LoraModule([adapter(slot, 8, dtype, inputs=VOCAB) for slot in range(4)])
    owners = rows()
    ids = torch.arange(len(owners)) % VOCAB
    y = torch.randn(len(owners), WIDTHS[0]).to(dtype)
    together, alone = y.clone(), y.clone()
    lora_embedding(together, ids, module, segments(SLOTS, LENGTHS, CPU))
    for t, slot in enumerate(owners):
        lora_embedding(alone[t : t + 1], ids[t : t + 1], module, segments([slot], [1], CPU))
    assert torch.equal(together, alone)


def test_what_is_not_a_number_stays_in_its_row() -> None:
    module = LoraModule([adapter(0, 8, torch.bfloat16)])
    x = torch.randn(20, IN).bfloat16()
    y = torch.zeros(20, sum(WIDTHS)).bfloat16()
    x[5] = torch.nan
    lora(y, x, module, segments([0], [20], CPU))
    assert y[5].isnan().all()
    assert y[torch.arange(20) != 5].isfinite().all()


def _slot_beyond_the_last(module: LoraModule, y: torch.Tensor, x: torch.Tensor) -> None:
    lora(y, x, module, segments([1], [4], CPU))


def _narrow_input(module: LoraModule, y: torch.Tensor, x: torch.Tensor) -> None:
    lora(y, x[:, :-1], module, segments([0], [4], CPU))


def _other_dtype(module: LoraModule, y: torch.Tensor, x: torch.Tensor) -> None:
    lora(y, x.bfloat16(), module, segments([0], [4], CPU))


def _narrow_output(module: LoraModule, y: torch.Tensor, x: torch.Tensor) -> None:
    lora(y[:, :-1], x, module, segments([0], [4], CPU))


@pytest.mark.parametrize(
    "call", [_slot_beyond_the_last, _narrow_input, _other_dtype, _narrow_output]
)
def test_no_memory_but_the_tensors_own_is_touched(
    call: Callable[[LoraModule, torch.Tensor, torch.Tensor], None],
) -> None:
    module = LoraModule([adapter(0, 8, torch.float32)])
    with pytest.raises(AssertionError):
        call(module, torch.zeros(4, sum(WIDTHS)), torch.randn(4, IN))
