"""The meaning of `add` and `scale`, in plain torch."""

from __future__ import annotations

import torch


def add(out: torch.Tensor, x: torch.Tensor, alpha: float) -> None:
    out.copy_(torch.add(out.float(), x.float(), alpha=alpha))


def scale(x: torch.Tensor, factor: float) -> None:
    x.mul_(factor)
