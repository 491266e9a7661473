"""Native cores one step ahead, over a model whose states do not outlive the next pass."""

from __future__ import annotations

from dataclasses import replace as with_changes
from typing import Any

import torch

from inferd.engines.native.core import NativeCore
from inferd.engines.native.grammars import Grammars
from inferd.engines.native.model import Batch
from inferd.messages import Event, Sampling, Submit
from inferd_scheduler import SchedulerConfig
from tests.engines.native.hash_model import HashModel
from tests.engines.native.spelling import VOCABULARY

GREEDY = Sampling(temperature=0.0)
HOT = Sampling(temperature=1.0, seed=11, top_p=0.95, frequency_penalty=0.3, repetition_penalty=1.2)
CONFIG = SchedulerConfig(
    max_batch_size=6, max_batch_tokens=24, num_blocks=60, block_size=4, max_model_len=64
)


class StaticModel(HashModel):
    """Its states lie where those of the step before lay, among rows of padding; a forward pass that
    begins while they are still wanted ruins them."""

    def __init__(self) -> None:
        super().__init__()
        self._hidden = torch.full((64, 2), torch.nan, dtype=self.dtype)

    def forward(self, batch: Batch) -> torch.Tensor:
        hidden = super().forward(batch)
        self._hidden.fill_(torch.nan)
        self._hidden[: len(hidden)] = hidden
        return self._hidden[: len(hidden) + 5]


def make(config: SchedulerConfig = CONFIG, *, ahead: bool = True, **changes: Any) -> NativeCore:
    config = with_changes(config, **changes)
    return NativeCore(StaticModel(), config, ahead=ahead, grammars=Grammars(VOCABULARY))


def submit(name: str, prompt: list[int], max_tokens: int = 6, **options: Any) -> Submit:
    sampling = options.pop("sampling", GREEDY)
    return Submit(name, tuple(prompt), max_tokens, sampling, **options)


def finish(core: NativeCore) -> list[Event]:
    """What it tells until nothing is left to do; checked at every turn."""
    events: list[Event] = []
    while core.busy:
        events += core.step()
        core.check()
    return events
