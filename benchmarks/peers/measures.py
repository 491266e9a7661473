"""What is measured of each engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

CONTEXT = 128  # tokens that a sequence has before it is continued
TOKENS = 65  # per sequence and measurement, at most: the first one opens the window


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure, in tokens per second."""

    name: str
    label: str
    kind: Literal["decode", "prefill"]
    sequences: int
    context: int

    def command(self, seconds: float, seed: int) -> dict[str, Any]:
        """For a runner. `seconds` bound a decode; another `seed` means other prompts to prefill."""
        shape = {"do": self.kind, "sequences": self.sequences, "context": self.context}
        if self.kind == "decode":
            return shape | {"tokens": TOKENS, "seconds": seconds}
        return shape | {"seed": seed}


def _decode(sequences: int) -> Measure:
    label = "decode, 1 sequence" if sequences == 1 else f"decode, {sequences} sequences"
    return Measure(f"decode_{sequences}", label, "decode", sequences, CONTEXT)


def _prefill(sequences: int, context: int) -> Measure:
    name, label = f"prefill_{sequences}x{context}", f"prefill, {sequences} × {context}"
    return Measure(name, label, "prefill", sequences, context)


MEASURES = (_decode(1), _decode(8), _decode(32), _prefill(1, 512), _prefill(8, 128))
