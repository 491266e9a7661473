"""The GPU's targets as Markdown: as measured, or what was counted for them."""

from __future__ import annotations

from typing import Any

from benchmarks.gpu.judge import H200, rows
from benchmarks.gpu.shapes import FULL

HEADER = ("", "counted", "limit", "target", "measured", "")


def gpu_table(record: dict[str, Any] | None) -> str:
    """Markdown, from what `scripts/gpu_check` saved; None: it has not run on a GPU."""
    if record is None:
        targets = [row.figures() for row in rows(FULL, {}, H200)]
    else:
        targets = record["targets"]
    lines = [_caption(record), "", _row(HEADER), "|---" * len(HEADER) + "|"]
    lines += [_target(each) for each in targets]
    if record and (record["notes"] or record["failures"]):
        lines += ["", *(f"- {note}" for note in record["notes"]), *_failures(record["failures"])]
    return "\n".join(lines)


def _caption(record: dict[str, Any] | None) -> str:
    shapes = "Llama-3.1-8B's and Qwen3-0.6B's shapes with random weights in bfloat16"
    if record is None:
        return (
            f"**Not measured yet:** no GPU could be had. {shapes}; limits are what an H200 allows "
            f"that copies {H200.bytes_per_s / 1e12:.1f} TB/s and multiplies matrices at "
            f"{H200.flop_per_s / 1e12:.0f} TFLOP/s. `scripts/gpu_check` measures on a GPU."
        )
    gpu, found, versions = record["gpu"], record["ceilings"], record["versions"]
    seen = "The ceilings were not measured; limits are an H200's."
    if found:
        seen = (
            f"In the same run it copied {found['bytes_per_s'] / 1e12:.2f} TB/s and multiplied "
            f"matrices at {found['flop_per_s'] / 1e12:.0f} TFLOP/s."
        )
    return (
        f"{shapes}, on one {gpu['name']} (CUDA {gpu['cuda']}, torch {versions['torch']}, Triton "
        f"{versions['triton']}); commit {record['commit']}, {record['date'][:10]}. {seen}"
    )


def _target(each: dict[str, Any]) -> str:
    told = {True: "met", False: "**missed**", None: "not measured"}[each["met"]]
    measured = each["measured"] or "–"
    if each["share"] is not None and each["target"].startswith("≥") and "%" in each["target"]:
        measured += f" ({each['share']:.0%})"
    return _row((each["name"], each["counted"], each["limit"], each["target"], measured, told))


def _failures(failures: dict[str, dict[str, str]]) -> list[str]:
    return [
        f"- {part}, {name}: failed: {why.splitlines()[0]}"
        for part, each in failures.items()
        for name, why in each.items()
    ]


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"
