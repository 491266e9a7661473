"""The targets: what was counted, the ceiling, what was measured, and whether that is enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.gpu import counting
from benchmarks.gpu.shapes import Sizes

Figures = Mapping[str, Mapping[str, Any]]
"""Part → figure's name → what it found."""

KINDS = ("cublas", "skinny", "invariant")
"""Of a matrix product: torch's, ours for few rows, ours whose rows know no neighbours."""


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Of one GPU, per second: bytes read and written, additions and multiplications."""

    bytes_per_s: float
    flop_per_s: float


H200 = Ceilings(4.3e12, 788e12)
"""What a copy and a product of random bfloat16 matrices were seen to reach there."""


@dataclass(frozen=True, slots=True)
class Row:
    """One target. `measured` and `share` are None where that was not measured.

    Attributes:
        counted: bytes and operations of one step, or what is compared.
        limit: what the ceiling would allow.
        share: what the target is about: of the limit, or a ratio.
    """

    name: str
    counted: str
    limit: str
    target: str
    measured: str | None
    share: float | None
    met: bool | None

    def figures(self) -> dict[str, Any]:
        return asdict(self)


def rows(sizes: Sizes, figures: Figures, ceilings: Ceilings) -> list[Row]:
    """Every target, with what was found of it."""
    return [
        _decode("8B, decode, 1 sequence", sizes, 1, _of(figures, "llama", "decode_1"), ceilings),
        _decode(
            f"8B, decode, {sizes.batch} sequences at {sizes.context}",
            sizes,
            sizes.batch,
            _of(figures, "llama", "decode_batch"),
            ceilings,
        ),
        _prefill(sizes, _of(figures, "llama", "prefill"), ceilings),
        _adapters(sizes, figures),
        _host(sizes, _of(figures, "qwen", "host")),
        _theirs(sizes, figures),
        *(_deterministic(name, figures) for name in ("decode_1", "decode_batch", "prefill")),
    ]


def notes(figures: Figures) -> list[str]:
    """What was measured without a target: graphs, and our products beside cuBLAS's."""
    found = []
    for name, label in _LABELS.items():
        graphs, eager = _of(figures, "llama", name), _of(figures, "eager", name)
        if graphs is not None and eager is not None:
            ratio = eager["step_s"] / graphs["step_s"]
            found.append(f"{label}: graphs make a step {ratio:.2f} × as fast")
    for name, each in figures.get("linears", {}).items():
        beside = (f"{kind} {each[f'{kind}_us']}" for kind in KINDS if f"{kind}_us" in each)
        found.append(f"{name.replace('_', ' ')} rows, microseconds: {', '.join(beside)}")
    return found


def _of(figures: Figures, part: str, name: str) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = figures.get(part, {}).get(name)
    return found


def _decode(
    name: str, sizes: Sizes, batch: int, found: Mapping[str, Any] | None, ceilings: Ceilings
) -> Row:
    context = (sizes.context + sizes.output / 2) if found is None else found["context"]
    num_bytes = counting.decode_bytes(sizes.llama, batch, context)
    best = num_bytes / ceilings.bytes_per_s  # seconds
    share = None if found is None else best / found["step_s"]
    return Row(
        name,
        f"{num_bytes / 1e9:.2f} GB a step",
        f"{batch / best:,.0f} tokens/s",
        "≥ 85 % of the limit",
        None if found is None else f"{found['tokens_per_s']:,.0f} tokens/s",
        share,
        None if share is None else share >= 0.85,
    )


def _prefill(sizes: Sizes, found: Mapping[str, Any] | None, ceilings: Ceilings) -> Row:
    count = counting.prefill_operations(sizes.llama, sizes.prefill)
    best = count / ceilings.flop_per_s
    share = None if found is None else best / found["seconds"]
    return Row(
        f"8B, prefill of {sizes.prefill} tokens",
        f"{count / 1e12:.0f} TFLOP",
        f"{best * 1e3:.0f} ms",
        "≥ 65 % of the matmul rate",
        None if found is None else f"{found['seconds'] * 1e3:.0f} ms",
        share,
        None if share is None else share >= 0.65,
    )


def _adapters(sizes: Sizes, figures: Figures) -> Row:
    num_bytes = sizes.adapters * counting.adapter_bytes(sizes.llama, sizes.rank)
    base = counting.decode_bytes(sizes.llama, sizes.batch, sizes.context + sizes.output / 2)
    bare, adapted = (_of(figures, "llama", name) for name in ("decode_batch", "adapters"))
    return _slower(
        f"8B, {sizes.adapters} adapters of rank {sizes.rank} in a batch of {sizes.batch}",
        f"{num_bytes / 1e9:.2f} GB of adapters a step",
        f"{num_bytes / base:.1%} slower",
        0.10,
        *(None if each is None else each["step_s"] for each in (bare, adapted)),
    )


def _host(sizes: Sizes, found: Mapping[str, Any] | None) -> Row:
    share = None if found is None else found.get("host_share")
    return Row(
        f"0.6B, {sizes.crowd} sequences at {sizes.crowd_context}: host's share of a step",
        "time in which the device does nothing",
        "0 %",
        "< 10 %",
        None
        if share is None or found is None
        else f"{share:.1%} of {found['step_s'] * 1e3:.2f} ms",
        share,
        None if share is None else share < 0.10,
    )


def _theirs(sizes: Sizes, figures: Figures) -> Row:
    ours, theirs = _of(figures, "llama", "decode_batch"), _of(figures, "theirs", "theirs")
    ratio = None
    if ours is not None and theirs is not None:
        ratio = ours["served_tokens_per_s"] / theirs["served_tokens_per_s"]
    return Row(
        f"8B, {sizes.batch} sequences, to transformers' continuous batching",
        f"prompts of {sizes.context}, {sizes.output} tokens each",
        "–",
        "≥ 3 ×",
        None if ratio is None else f"{ratio:.2f} ×",
        ratio,
        None if ratio is None else ratio >= 3,
    )


_LABELS = {"decode_1": "decode, 1 sequence", "decode_batch": "decode, batch", "prefill": "prefill"}


def _deterministic(name: str, figures: Figures) -> Row:
    return _slower(
        f"8B, deterministic mode: {_LABELS[name]}",
        "the same bytes and operations",
        "0 % slower",
        0.15,
        _seconds(_of(figures, "llama", name)),
        _seconds(_of(figures, "deterministic", name)),
    )


def _seconds(found: Mapping[str, Any] | None) -> float | None:
    """Of a step, or of a whole prompt."""
    return None if found is None else found.get("step_s", found.get("seconds"))


def _slower(
    name: str, counted: str, limit: str, most: float, usual: float | None, now: float | None
) -> Row:
    more = None if usual is None or now is None else now / usual - 1
    return Row(
        name,
        counted,
        limit,
        f"≤ {most:.0%} slower",
        None if more is None else f"{more:+.1%}",
        more,
        None if more is None else more <= most,
    )
