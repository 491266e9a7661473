"""The sparse MLP: a router sends each token to its best experts (Jiang et al. 2024, Mixtral)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from inferd.engines.native.decoder_config import MoESpec
from inferd.engines.native.stores import Experts, Weight
from inferd_kernels.activation import Kind as Activation
from inferd_kernels.activation import gated
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
        """[T, hidden] → [T, hidden]. No adapter changes experts.

        A token's experts are summed in the order of their numbers, whoever shares its batch.
        """
        weights, experts = self._route(x)
        flat = experts.flatten()
        order = flat.argsort(stable=True)
        counts = flat.bincount(minlength=self.spec.num_experts).tolist()
        tokens = order // self.spec.top_k
        shares = weights.flatten()[order].unsqueeze(1)
        out = torch.zeros(x.shape, dtype=torch.float32, device=x.device)
        start = 0
        for expert, count in enumerate(counts):
            if count:
                rows = slice(start, start + count)
                start += count
                inner = gated(linear(x[tokens[rows]], self.gate_up[expert]), self.activation)
                result = linear(inner, self.down[expert])
                out.index_add_(0, tokens[rows], result.float() * shares[rows])
        return out.to(x.dtype)

    def _route(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Shares [T, top_k] float32 and experts [T, top_k] int64 of each token."""
        probabilities = linear(x, self.router).float().softmax(dim=-1)
        shares, experts = probabilities.topk(self.spec.top_k, dim=-1)
        if self.spec.normalize:
            shares = shares / shares.sum(dim=-1, keepdim=True)
        return shares, experts
