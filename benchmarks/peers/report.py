"""From a run to the result file, and that to a table for the terminal."""

from __future__ import annotations

from statistics import median
from typing import Any

from benchmarks.peers.figures import best_peer, median_ceilings, medians, ratios, shares
from benchmarks.peers.launch import Launcher
from benchmarks.peers.quiet import QUIET
from benchmarks.peers.rounds import Plan
from benchmarks.peers.run import WEIGHTS, Outcome
from benchmarks.peers.variants import OURS, OURS_INT8

CEILINGS = ("read_bytes_per_s", "sgemm_flops_per_s", "bf16_flops_per_s")
COMPARED = {OURS.name: ("bf16", "fp32"), OURS_INT8.name: ("int8",)}
"""Ours, and the weights of peers that it is compared with: at least as exact as its own."""


def assemble(launcher: Launcher, plan: Plan, outcome: Outcome, *, quick: bool) -> dict[str, Any]:
    """All rounds, and what follows from them."""
    rates = medians(outcome.rounds)
    ceilings = median_ceilings(outcome.rounds)
    busiest = max(each["busy_cores"] for each in outcome.rounds)
    return {
        "quick": quick,
        "quiet": busiest <= QUIET,
        "busiest": busiest,
        "model": launcher.shape.name,
        "measures": {each.name: each.label for each in plan.measures},
        "seconds_per_decode": plan.seconds,
        "ceilings": ceilings,
        "variants": _variants(launcher, outcome),
        "failures": launcher.failures,
        "errors": outcome.errors,
        "medians": rates,
        "ratios": {ours: _ratios(outcome, ours) for ours in COMPARED if ours in rates},
        "shares": shares(launcher.shape, plan.measures, WEIGHTS, rates, ceilings),
        "rounds": outcome.rounds,
    }


def _variants(launcher: Launcher, outcome: Outcome) -> dict[str, Any]:
    return {
        name: about
        | {
            "starts_s": launcher.starts[name],
            "start_s": median(launcher.starts[name]),
            "memory_bytes": outcome.memory.get(name),
        }
        for name, about in launcher.about.items()
    }


def _ratios(outcome: Outcome, ours: str) -> dict[str, dict[str, float]]:
    """To each peer, and to the best of those with comparable weights."""
    by_peer = {
        name: rates
        for name, rates in ratios(outcome.rounds, ours).items()
        if not name.startswith(OURS.name) and WEIGHTS[name] in COMPARED[ours]
    }
    return by_peer | {"best peer": best_peer(by_peer, by_peer)}


def draw(figures: dict[str, Any]) -> str:
    """Tokens per second, then ratios, for a terminal."""
    measures = figures["measures"]
    lines = [_row("tokens/s", list(measures))]
    for name, rates in figures["medians"].items():
        lines.append(_row(name, [_figure(rates.get(each)) for each in measures]))
    for ours, by_peer in figures["ratios"].items():
        for peer, values in by_peer.items():
            cells = [_figure(values.get(each), 2) for each in measures]
            lines.append(_row(f"{ours} / {peer}", cells))
    limits = figures["ceilings"]
    read, sgemm, bf16 = (limits[key] / 1e9 for key in CEILINGS)
    lines.append(f"The machine: {read:.1f} GB/s; {sgemm:.0f} GFLOP/s fp32, {bf16:.0f} bf16.")
    if not figures["quiet"]:
        lines.append(f"NOT QUIET: {figures['busiest']} cores were busy with other things.")
    return "\n".join(lines)


def _row(name: str, cells: list[str]) -> str:
    return f"{name:32}" + "".join(f"{cell:>15}" for cell in cells)


def _figure(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
