"""Where the GPU's kernels run in tests: on a GPU, or on the CPU through Triton's interpreter."""

from __future__ import annotations

import os

import torch

NATIVE = torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET", "0") == "0"
if not NATIVE:
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before a kernel is defined; see tests/conftest

DEVICE = torch.device("cuda" if NATIVE else "cpu")
DTYPES = [torch.float32, torch.float16, *([torch.bfloat16] if NATIVE else [])]
"""`tl.dot` on bfloat16 is silently wrong in the interpreter."""
