"""A step's results on the device, and their way to the host."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from inferd_kernels.sampling.gpu_table import Step
from inferd_kernels.sampling.rows import HEALTHY, Choice, Scores


class Results:
    """One array, and views of it.

    Attributes:
        tokens, health: [N] int64 and int32.
        scored: of the S scored rows: logprobs [S] float32, ranks [S] int32, the top's ids [S, k]
            int32 and logprobs [S, k] float32, and further logprobs [S, m] float32.
    """

    def __init__(self, step: Step, device: torch.device) -> None:
        self._step = step
        count, scored = step.count, len(step.scored)
        sizes = [2 * count, count, scored, scored, *2 * [scored * step.top], scored * step.extra]
        # Each begins where 16 bytes do, so that no kernel is compiled anew for where it lies.
        begins = [0, *np.cumsum([-(-size // 4) * 4 for size in sizes]).tolist()]
        self._places = [
            slice(begin, begin + size) for begin, size in zip(begins, sizes, strict=False)
        ]
        self._whole = torch.empty(begins[-1], dtype=torch.int32, device=device)
        self.tokens, self.health, self.scored = self._views(self._whole)

    def _views(
        self, whole: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, ...]]:
        parts = [whole[place] for place in self._places]
        tokens, health, logprobs, ranks, ids, likely, extra = parts
        scored = len(self._step.scored)
        return (
            tokens.view(torch.int64),
            health,
            (
                logprobs.view(torch.float32),
                ranks,
                ids.view(scored, self._step.top),
                likely.view(torch.float32).view(scored, self._step.top),
                extra.view(torch.float32).view(scored, self._step.extra),
            ),
        )

    def scores(self) -> Scores:
        """Of a step in which all rows are scored, on the device."""
        logprobs, ranks, ids, likely, extra = self.scored
        return Scores(logprobs, ranks.long(), ids.long(), likely, extra)

    def fetch(self) -> Callable[[], Choice]:
        """Begin to copy them to the host; the function waits for that alone."""
        if self._whole.device.type != "cuda":
            return lambda: self._choice(self._whole)
        host = torch.empty_like(self._whole, device="cpu", pin_memory=True)
        host.copy_(self._whole, non_blocking=True)
        copied = torch.cuda.current_stream(self._whole.device).record_event()

        def result() -> Choice:
            copied.synchronize()
            return self._choice(host)

        return result

    def _choice(self, host: torch.Tensor) -> Choice:
        tokens, health, scored = self._views(host)
        group, lines = self._step.scored.rows, self._step.lines
        alive = (health.numpy() == HEALTHY)[group].nonzero()[0]
        if not len(alive):
            return Choice(tokens, health, None)
        logprobs, ranks, ids, likely, extra = scored
        rows = group[alive]
        top, others = (_wished(lines[name][rows]) for name in ("top", "num_extra"))
        most, most_extra = top.shape[1], others.shape[1]
        columns = (
            logprobs[alive],
            ranks[alive].long(),
            ids[alive, :most].long() * top,
            likely[alive, :most].masked_fill(~top, 0.0),
            extra[alive, :most_extra].masked_fill(~others, 0.0),
        )
        count = self._step.count
        return Choice(tokens, health, Scores(*(_spread(each, rows, count) for each in columns)))


def _wished(counts: npt.NDArray[np.int32]) -> torch.Tensor:
    """Bool [rows, most of them]: the first `counts` of each row."""
    return torch.from_numpy(np.arange(counts.max())[None] < counts[:, None])


def _spread(column: torch.Tensor, rows: npt.NDArray[np.intp], count: int) -> torch.Tensor:
    """Its lines, at their places `rows` among `count`."""
    spread = column.new_zeros((count, *column.shape[1:]))
    spread[rows] = column
    return spread
