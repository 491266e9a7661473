"""How far bfloat16 is from float32 on the same weights: the native decoder, and transformers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from inferd.engines.native.decoder import load_decoder
from tests.engines.native import tiny

CASES = tuple(
    case for case in tiny.CASES if "moe" not in case and case not in ("mixtral", "phi3-longrope")
)
"""transformers' sparse layers do not run in bfloat16 at these sizes, and its longrope changes its
factors with every text's length."""
MARGIN = 1.05
"""What is as near on the whole may be a little further on these few texts."""
LENGTHS = (48, 31, 17, 60)  # tokens
CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Distances:
    """Mean |Δ logprob| over all tokens of the vocabulary, at all positions of some texts."""

    ours: float
    theirs: float

    @property
    def good(self) -> bool:
        return 0 < self.ours <= MARGIN * self.theirs


@torch.inference_mode()
def distances(case: str, folder: Path, device: torch.device = CPU) -> Distances:
    """Of a case of `tiny`, whose weights are rounded to bfloat16 for all three."""
    tiny.write_checkpoint(case, folder)
    truth = _transformers(folder).to(torch.bfloat16).to(torch.float32).to(device)
    theirs = _transformers(folder).to(torch.bfloat16).to(device)
    ours = load_decoder(
        folder, dtype=torch.bfloat16, device=device, on_progress=lambda done, total: None
    )
    sums, count = [0.0, 0.0], 0
    for n, length in enumerate(LENGTHS):
        generator = torch.Generator().manual_seed(n)
        tokens = torch.randint(tiny.VOCAB, (length,), generator=generator).to(device)
        expected = _logprobs(truth(tokens[None], use_cache=False).logits[0])
        batch = tiny.PagedCache(ours).batch({0: tokens.tolist()})
        mine = _logprobs(ours.logits(ours.forward(batch)))
        other = _logprobs(theirs(tokens[None], use_cache=False).logits[0])
        for i, got in enumerate((mine, other)):
            sums[i] += float((got - expected).abs().sum())
        count += expected.numel()
    return Distances(*(each / count for each in sums))


def _transformers(folder: Path) -> Any:
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    return model.eval()


def _logprobs(logits: torch.Tensor) -> torch.Tensor:
    return torch.log_softmax(logits.float(), dim=-1)
