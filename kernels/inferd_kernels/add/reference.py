"""The meaning of `add`, in plain torch."""

from __future__ import annotations

import torch


def add(x: torch.Tensor, residual: torch.Tensor, alpha: float) -> None:
    residual.add_(x, alpha=alpha)
