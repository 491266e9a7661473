"""Memory for what steps read again and again: weights and keys and values."""

from __future__ import annotations

import math
import mmap
import sys

import torch

HUGE_PAGE = 2 << 20


def allocate(size: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """A tensor in the host's memory, of huge pages where they are to be had, with anything in it.

    Raises RuntimeError, as torch does, where there is not so much.
    """
    count = math.prod(size)
    num_bytes = count * dtype.itemsize
    if sys.platform != "linux" or num_bytes < HUGE_PAGE:
        return torch.empty(size, dtype=dtype)
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS  # shared memory has no huge pages
    try:
        memory = mmap.mmap(-1, num_bytes + HUGE_PAGE, flags=private)
        memory.madvise(mmap.MADV_HUGEPAGE)
    except OSError:  # no room, or a kernel without huge pages
        return torch.empty(size, dtype=dtype)
    start = torch.frombuffer(memory, dtype=torch.uint8).data_ptr()
    return torch.frombuffer(memory, dtype=dtype, count=count, offset=-start % HUGE_PAGE).view(size)
