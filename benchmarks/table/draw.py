"""The table as Markdown: a result file in, lines out."""

from __future__ import annotations

from collections import Counter
from typing import Any

COLUMNS = {
    "decode_1": "decode, 1 sequence",
    "decode_8": "8",
    "decode_32": "32",
    "prefill_1x512": "prefill, 1 × 512",
    "prefill_8x128": "8 × 128",
}
BLOCKS = (
    (
        "ours",
        "inferd, bf16 weights",
        ("llama", "vllm", "vllm_zen", "vllm_fp32", "transformers_fp32", "transformers"),
    ),
    ("ours_int8", "inferd, int8 weights", ("llama_q8",)),
)
"""Ours, what it is called, and whom it is compared with."""


def table(figures: dict[str, Any]) -> str:
    """Markdown, from what `benchmarks.peers` saved."""
    lines = [_caption(figures), "", _row(["tokens/s", *COLUMNS.values(), "memory", "start"])]
    lines.append("|---" * (len(COLUMNS) + 3) + "|")
    for ours, label, peers in BLOCKS:
        if ours not in figures["medians"]:
            continue
        lines.append(_engine(figures, ours, f"**{label}**"))
        lines += [
            _engine(figures, peer, _label(figures, peer))
            for peer in peers
            if peer in figures["medians"]
        ]
        lines.append(_ratios(figures["ratios"][ours]["best peer"]))
    return "\n".join([*lines, "", _limits(figures)])


def _caption(figures: dict[str, Any]) -> str:
    machine, rounds = figures["machine"], _rounds(figures)
    quiet = "" if figures["quiet"] else " **The machine was not quiet.**"
    return (
        f"Qwen3-0.6B's shape with random weights, on {machine['cores']} cores of {machine['cpu']}; "
        f"commit {figures['commit']}, {figures['date'][:10]}. Medians of {rounds} rounds in which "
        f"all take turns; ratios are medians of the rounds' ratios.{quiet}"
    )


def _rounds(figures: dict[str, Any]) -> str:
    """Groups of engines may have had different numbers of them."""
    numbers = Counter(int(each["group"]) for each in figures["rounds"]).values()
    least, most = min(numbers), max(numbers)
    return str(most) if least == most else f"{least} to {most}"


def _label(figures: dict[str, Any], name: str) -> str:
    """With the version of the package that it is run from."""
    about = figures["variants"][name]
    package = next(iter(about["versions"]))
    return f"{about['label']} ({package} {about['versions'][package]})"


def _engine(figures: dict[str, Any], name: str, label: str) -> str:
    rates, about = figures["medians"][name], figures["variants"][name]
    cells = [_rate(rates[column]) if column in rates else "–" for column in COLUMNS]
    memory = about["memory_bytes"]
    size = "–" if memory is None else f"{memory / 1e9:.1f} GB"
    return _row([label, *cells, size, f"{about['start_s']:.1f} s"])


def _ratios(best: dict[str, float]) -> str:
    cells = [f"{best[column]:.2f} ×" if column in best else "–" for column in COLUMNS]
    return _row(["*to the best peer*", *(f"*{cell}*" for cell in cells), "", ""])


def _limits(figures: dict[str, Any]) -> str:
    ceilings, shares = figures["ceilings"], figures["shares"]["ours"]
    names = ("read_bytes_per_s", "sgemm_flops_per_s", "bf16_flops_per_s")
    read, fp32, bf16 = (ceilings[name] / 1e9 for name in names)
    long, many = shares["prefill_1x512"], shares["prefill_8x128"]
    return (
        f"In the same run the machine read {read:.1f} GB/s and multiplied matrices at "
        f"{fp32:.0f} GFLOP/s in float32, {bf16:.0f} in bfloat16. inferd's bf16 decodes one "
        f"sequence at {shares['decode_1']['read']:.0%} of the rate at which its weights can be "
        f"read, and computes prompts at {long['sgemm']:.0%} and {many['sgemm']:.0%} of float32's "
        f"rate, {long['bf16']:.0%} and {many['bf16']:.0%} of bfloat16's. Start: from the "
        f"process's start to its first token, files in the page cache, no HTTP. Memory: with the "
        f"KV cache of 32 sequences."
    )


def _rate(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
