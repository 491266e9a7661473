"""The sparse MLP: a router sends each token to its best experts (Jiang et al. 2024, Mixtral)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from inferd.engines.native.decoder_config import MoESpec
from inferd.engines.native.stores import Experts, Weight
from inferd_kernels.activation import Kind as Activation
from inferd_kernels.activation import gated
from inferd_kernels.grouped_linear import group_rows, grouped_linear, grouped_sum
from inferd_kernels.linear import linear
from inferd_kernels.lora import LoraSegments


@dataclass(frozen=True, slots=True)
class SparseMLP:
    """One layer's router [E, hidden] and experts, each [2 * I, hidden] and [hidden, I]."""

    spec: MoESpec
    activation: Activation
    router: Weight
    gate_up: Experts
    down: Experts

    def __call__(self, x: torch.Tensor, _segments: LoraSegments | None) -> torch.Tensor:
        """[T, hidden] → [T, hidden]. No adapter changes experts. Never waits for a GPU.

        A token's experts are summed in the order of their numbers, whoever shares its batch.
        """
        shares, experts = self._route(x)
        order, places, offsets = group_rows(experts.flatten(), self.spec.num_experts)
        inner = grouped_linear(x[order // self.spec.top_k], self.gate_up, offsets)
        result = grouped_linear(gated(inner, self.activation), self.down, offsets)
        return grouped_sum(result, places.view(experts.shape), shares)

    def _route(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Shares [T, top_k] float32 and experts [T, top_k] int64 of each token, in ascending order
        of the experts' numbers."""
        probabilities = linear(x, self.router).softmax(dim=-1, dtype=torch.float32)
        shares, experts = probabilities.topk(self.spec.top_k, dim=-1)
        if self.spec.normalize:
            shares = shares / shares.sum(dim=-1, keepdim=True)
        experts, ascending = experts.sort(dim=-1)
        return shares.gather(1, ascending), experts
